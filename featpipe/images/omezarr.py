"""OME-Zarr, 0.4 (zarr v2) and 0.5 (zarr v3): where the full-size array of an image is, and what its axes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from featpipe.images.refusal import source_error

_LAYOUT = "bioformats2raw.layout"


def _metadata(group: Any) -> Mapping[str, Any]:
    """Return the OME attributes, which 0.5 keeps in one place and 0.4 among the others."""
    attributes = group.attrs.asdict()
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def is_ome(group: Any) -> bool:
    """Tell whether a zarr group is an OME-Zarr: an image, several as bioformats2raw writes them, or a plate."""
    return not {"multiscales", _LAYOUT, "plate"}.isdisjoint(_metadata(group))


def full_level(group: Any, path: str) -> tuple[str, list[str]]:
    """Return the largest level of an OME-Zarr image: its array's path within the group, and its axes' names.

    Parameters
    ----------
    group : zarr.Group
    path : str
        Of the group, for errors.

    Raises
    ------
    SourceError
        If it holds several images, or its metadata are damaged.
    """
    found = _metadata(group)
    inner = ""
    if "multiscales" not in found:
        images = sorted(name for name, child in group.groups() if "multiscales" in _metadata(child))
        if _LAYOUT not in found or len(images) != 1:
            hint = f"Give one of them: {path}/{images[0]}." if images else "Give one of them, as plate.zarr/A/1/0."
            kind = f"of {len(images)} images" if images else "plate of many images"
            raise source_error("path", f"{path} is an OME-Zarr {kind}, one is read.", hint)
        inner = images[0]
        found = _metadata(group[inner])
    try:
        image = found["multiscales"][0]
        level = PurePosixPath(inner, str(image["datasets"][0]["path"]))
        axes = [str(axis["name"] if isinstance(axis, Mapping) else axis) for axis in image.get("axes", "tczyx")]
    except (LookupError, TypeError) as error:
        raise source_error("path", f"{path} is an OME-Zarr whose multiscales metadata are damaged.") from error
    if level.is_absolute() or ".." in level.parts:
        raise source_error("path", f"{path} is an OME-Zarr whose array {str(level)!r} lies outside of it.")
    return str(level), axes


def level_axes(names: Sequence[str], shape: Sequence[int], path: str) -> str:
    """Return one letter for each axis of a level; a dot for an axis of length 1 that is left out.

    Examples
    --------
    >>> level_axes(["t", "c", "z", "y", "x"], (1, 3, 1, 512, 512), "a.zarr")
    '.c.yx'
    """
    letters = []
    for name, length in zip(names, shape, strict=True):
        if name not in {"c", "y", "x"} and length > 1:
            what = f"{path} is an OME-Zarr of {length} planes along {name}, one is read."
            raise source_error("path", what, "Save the plane as an image of its own, or the planes as an .npy stack.")
        letters.append(name if name in {"c", "y", "x"} else ".")
    order = "".join(letters)
    if order.replace(".", "") not in {"yx", "cyx", "yxc"}:
        raise source_error("path", f"{path} is an OME-Zarr of axes {', '.join(names)}; y, x and c, y, x are read.")
    return order
