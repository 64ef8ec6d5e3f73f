"""What makes a zarr group a feature stack: its header, its codec, its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from featpipe.errors import Problem, StoreError
from featpipe.store.place import LocalPlace, Place

FORMAT = 1
"""Of the store's layout; raised when a reader of the old one would misread the new."""
KEY = "featpipe"
"""The root attribute that holds the header."""
FEATURES = "features"
NODE = "zarr.json"
ROOT_COORDINATES = ("path", "label", "split", "ok", "height", "width")

CNAME: Literal["lz4"] = "lz4"
LEVEL = 1
SHUFFLE: Literal["bitshuffle"] = "bitshuffle"
"""Of the codecs in zarr's core, the one that keeps up with the chains: features of a photograph of 4096², Gaussian,
gradient and LoG at six widths, it encodes at 2.5 GB/s to 1/1.22 of their size; after byte shuffling at 2.1 GB/s to
1/1.16; zstd at 0.8 GB/s, to 1/1.22 too. Chunks of 0.1 to 6 MiB differ by less than the measurements."""

Status = Literal["partial", "complete"]


def read_node(place: Place, group: str = "") -> dict[str, Any] | None:
    """Return the zarr metadata of a group or array; None where there is none, or none that can be parsed."""
    return parse_node(place.read(node_key(group)))


def parse_node(content: bytes | None) -> dict[str, Any] | None:
    """Return what a ``zarr.json`` says; None where nothing is there, or nothing that can be parsed."""
    try:
        node = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return node if isinstance(node, dict) else None


def node_key(group: str) -> str:
    """Return the key of a group's or array's metadata."""
    return f"{group}/{NODE}" if group else NODE


def read_header(place: Place) -> dict[str, Any] | None:
    """Return the header of the feature stack at a place; None where there is none.

    Returns
    -------
    dict or None
        ``format``, ``status``, ``pipeline``, ``digests``, ``versions``, ``maps``.

    Raises
    ------
    StoreError
        If the place cannot be read.
    """
    return header_of(read_node(place))


def header_of(node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the header in a root's metadata; None where there is none, or what is there cannot be one."""
    attributes = (node or {}).get("attributes")
    header = attributes.get(KEY) if isinstance(attributes, dict) else None
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        return None
    if header["format"] != FORMAT:
        return header
    objects = all(isinstance(header.get(key), dict) for key in ("pipeline", "digests", "versions"))
    objects = objects and isinstance(header.get("pieces", {}), dict)
    maps = header.get("maps")
    named = isinstance(maps, list) and all(isinstance(one, dict) and _is_map(one) for one in maps)
    return header if objects and named and isinstance(header.get("status"), str) else None


def _is_map(one: Mapping[str, Any]) -> bool:
    kinds = {"name": str, "branch": str, "scale": int, "stacked": bool}
    return all(isinstance(one.get(key), kind) for key, kind in kinds.items())


def no_stack(place: Place) -> StoreError:
    """Return the error for a place without a feature stack; it names the stores that lie there, if there are any."""
    local = isinstance(place, LocalPlace) and place.path.exists()
    if not local and next(place.files(), None) is None:
        return StoreError(Problem(str(place), "there is no such file or directory.", "Make it with featpipe run."))
    inside = sorted(place.path.glob("*.zarr"))[:3] if isinstance(place, LocalPlace) else []
    change = "Give the directory that featpipe run wrote" + (f": {' or '.join(map(str, inside))}." if inside else ".")
    return StoreError(Problem(str(place), "is not a feature stack.", change))
