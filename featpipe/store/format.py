"""What makes a zarr group a feature stack: its header, its codec, its files."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from featpipe.errors import Problem, StoreError

FORMAT = 1
"""Of the store's layout; raised when a reader of the old one would misread the new."""
KEY = "featpipe"
"""The root attribute that holds the header."""
FEATURES = "features"
NODE = "zarr.json"
TEMPORARY = ".partial"
"""Ending of files being written, as zarr's own."""
ROOT_COORDINATES = ("path", "label", "split", "ok", "height", "width")

CNAME: Literal["lz4"] = "lz4"
LEVEL = 1
SHUFFLE: Literal["bitshuffle"] = "bitshuffle"
"""Of the codecs in zarr's core, the one that keeps up with the chains: features of a photograph of 4096², Gaussian,
gradient and LoG at six widths, it encodes at 2.5 GB/s to 1/1.22 of their size; after byte shuffling at 2.1 GB/s to
1/1.16; zstd at 0.8 GB/s, to 1/1.22 too. Chunks of 0.1 to 6 MiB differ by less than the measurements."""

Status = Literal["partial", "complete", "discarded"]


def read_node(folder: Path) -> dict[str, Any] | None:
    """Return the zarr metadata of a group or array; None where there is none, or none that can be parsed."""
    try:
        node = json.loads((folder / NODE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise StoreError(Problem(str(folder), f"cannot be read: {error.strerror}.")) from None
    return node if isinstance(node, dict) else None


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of the feature stack at ``path``; None where there is none.

    Returns
    -------
    dict or None
        ``format``, ``status``, ``pipeline``, ``digests``, ``versions``, ``maps``.

    Raises
    ------
    StoreError
        If the path cannot be read.
    """
    attributes = (read_node(path) or {}).get("attributes")
    header = attributes.get(KEY) if isinstance(attributes, dict) else None
    return header if isinstance(header, dict) and isinstance(header.get("format"), int) else None


def write_header(path: Path, change: Mapping[str, Any]) -> None:
    """Change entries of the header of the feature stack at ``path``, in one step; all else at the root stays."""
    node = read_node(path)
    if node is None or KEY not in node.get("attributes", {}):
        raise StoreError(Problem(str(path), "has lost its header while it was written.", "Run again."))
    node["attributes"][KEY].update(change)
    write_file(path / NODE, json.dumps(node, indent=2).encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, whatever happens to this process."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when all has been written, and vanishes if that fails."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other writer has."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}")


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Return the error for a store that the system does not let us write."""
    reason = error.strerror or str(error)
    change = "Check the permissions and the free space there, or set store.path to another place."
    return StoreError(Problem(str(path), f"cannot be written: {reason}.", change))


def sweep_temporaries(path: Path) -> None:
    """Remove the files that writers left which were killed."""
    for folder, _, names in os.walk(path):
        for name in names:
            if name.endswith(TEMPORARY):
                with suppress(FileNotFoundError):
                    Path(folder, name).unlink()
