"""Stacks of images in one array: ``.npy``, ``.zarr``, or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from featpipe.errors import FeatpipeError
from featpipe.images.buckets import list_marks
from featpipe.images.labels import label
from featpipe.images.npy import PIECE_BYTES, NpyFile
from featpipe.images.omezarr import full_level, is_ome, level_axes
from featpipe.images.refusal import Refused, check_readable, source_error
from featpipe.images.region import region_origin, region_shape
from featpipe.images.values import channel_names, kept_bytes, preparing_bytes, recoloured
from featpipe.images.zarrs import steady_store
from featpipe.objects import is_url
from featpipe.plan.collection import Collection
from featpipe.reading.files import is_file, list_folder, stat_file
from featpipe.reading.retry import is_transient, retry
from featpipe.spec.pipeline import Images

INGESTED = "images"
"""Kind of store, in its attribute ``featpipe.kind``, and name of the array, that ``featpipe ingest`` makes."""
MOST_IMAGES = 10_000_000
"""Of one array: each has a name and numbers in memory, even where a few bytes of metadata make up all of them."""
_SLAB_BYTES = 64 * 2**20
_ORDERS = ("yx", "yxc", "cyx", "nyx", "nyxc", "ncyx")
_AXIS_NAMES = {
    "y": "y", "height": "y", "row": "y", "rows": "y",
    "x": "x", "width": "x", "col": "x", "column": "x", "columns": "x",
    "c": "c", "channel": "c", "channels": "c", "band": "c", "bands": "c", "rgb": "c",
    "n": "n", "image": "n", "images": "n", "sample": "n", "samples": "n", "batch": "n", "index": "n",
    "t": "n", "time": "n", "z": "n",
}  # fmt: skip


def is_zarr(path: Path) -> bool:
    """Tell whether a directory is a zarr array or group."""
    return any(is_file(path / name) for name in ("zarr.json", ".zarray", ".zgroup"))


def open_npy(path: str | Path) -> Any:
    """Open the array in a ``.npy`` file; pickled objects are refused."""
    path = Path(path)
    try:
        return NpyFile(str(path))
    except OSError as error:
        raise source_error("path", f"{path} cannot be read ({error.strerror or error}).", cause=error) from error
    except ValueError as error:
        raise source_error("path", f"{path.name} is not a .npy array of numbers ({error}).") from error


def open_zarr(path: str | Path) -> Any:
    """Open a zarr array or group, v2 or v3, here or in an object store, read-only."""
    import zarr

    try:
        store = steady_store(str(path))
        return retry(lambda: zarr.open(store, mode="r"))
    except FeatpipeError:
        raise
    except Exception as error:  # codecs and metadata fail in many ways
        # What a service answers is not repeated
        said = type(error).__name__ if is_url(str(path)) else error
        what = "could not be reached" if is_transient(error) else "is not a readable zarr array"
        raise source_error("path", f"{path} {what} ({said}).", cause=error) from None


def scan_npy(images: Images) -> Collection:
    """Scan a ``.npy`` stack."""
    path = Path(images.path)
    array = open_npy(path)
    found = stat_file(path)
    return scan_array(array, images, kind="npy", root=str(path), digest=f"{found.st_size} {found.st_mtime_ns}")


def scan_zarr(images: Images) -> Collection:
    """Scan a zarr array, an OME-Zarr image, or a group that ``featpipe ingest`` made."""
    path = images.path.rstrip("/")
    digest = _content(path)
    found = open_zarr(path)
    if hasattr(found, "dtype"):
        return scan_array(found, images, kind="zarr", root=path, digest=digest, names=_names(found))
    about = found.attrs.get("featpipe", {})
    if isinstance(about, Mapping) and about.get("kind") == INGESTED:
        return _scan_ingested(found, about, images, path, digest)
    if is_ome(found):
        return _scan_ome(found, images, path)
    arrays = sorted(name for name, _ in found.arrays())
    hint = f"Give one array: {path}/{arrays[0]}." if arrays else ""
    raise source_error("path", f"{path} is a zarr group of {', '.join(arrays) or 'no arrays'}, not one array.", hint)


def _content(path: str) -> str:
    return remote_digest(path) if is_url(path) else _tree_digest(Path(path))


def _scan_ome(group: Any, images: Images, path: str) -> Collection:
    """Scan the largest level of an OME-Zarr image."""
    inner, axes = full_level(group, path)
    if images.axes is not None:
        what = f"{Path(path).name} is an OME-Zarr, which tells its axes itself."
        raise source_error("axes", what, "Leave images.axes out.")
    root = f"{path}/{inner}"
    array = open_zarr(root)
    if not hasattr(array, "dtype") or len(array.shape) != len(axes):
        raise source_error("path", f"{root} is not an array of {len(axes)} axes, as the OME-Zarr says it is.")
    ordered = level_axes(axes, array.shape, path)
    return scan_array(array, images, kind="zarr", root=root, digest=_content(root), names=ordered)


def _scan_ingested(group: Any, about: Mapping[str, Any], images: Images, path: str, digest: str) -> Collection:
    array = group[INGESTED]
    if array.dtype.kind == "f" and about["values"] != images.values:
        raise source_error(
            "values",
            f"{Path(path).name} was ingested with values: {about['values']}.",
            f"Use values: {about['values']}.",
        )
    if images.region is not None and about["images"].get("region") is not None:
        raise source_error("region", f"{Path(path).name} was cut when it was ingested.", "Leave images.region out.")
    classes, splits = [*group["label"].attrs["classes"], ""], [*group["split"].attrs["splits"], ""]
    columns = {
        "label": [classes[code] for code in group["label"][:].tolist()],
        "split": [splits[code] for code in group["split"][:].tolist()],
    }
    columns |= {new: columns[old] for old, new in about["columns"].items()}
    paths = [str(name) for name in group["path"][:]]
    unreadable = {int(index): str(reason) for index, reason in about["unreadable"].items()}
    check_readable(images, paths, unreadable)
    return scan_array(
        array, images, kind="zarr", root=f"{path}/{INGESTED}", digest=digest,
        names="nyxc", paths=paths, columns=columns, unreadable=unreadable,
    )  # fmt: skip


def scan_array(
    array: Any,
    images: Images,
    *,
    kind: Literal["npy", "zarr", "array"] = "array",
    root: str = "",
    digest: str = "",
    names: str = "",
    paths: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    unreadable: dict[int, str] | None = None,
) -> Collection:
    """Return the collection that an array holds, without reading its values.

    Parameters
    ----------
    array : array
        Anything with ``shape`` and ``dtype``.
    images : Images
    kind, root, digest
        Of the collection; ``digest`` is whatever tells this array's content from another's.
    names : str
        What the array itself calls its axes, one letter each.
    paths, columns, unreadable
        What is known of each image beside its pixels.
    """
    shape = tuple(int(n) for n in array.shape)
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise source_error("path", f"the array is of {dtype}; bool, integers and floats up to 64 bits are read.")
    if 0 in shape:
        raise source_error("path", f"the array of shape {_times(shape)} is empty.")
    axes = resolve_axes(shape, images.axes, names)
    n = shape[0] if axes[0] == "n" else 1
    if n > MOST_IMAGES:
        raise source_error("path", f"the array holds {n:,} images; at most {MOST_IMAGES:,} are read.", "Split it.")
    height, width = shape[axes.index("y")], shape[axes.index("x")]
    channels = shape[axes.index("c")] if "c" in axes else 1
    height, width = _cut(images, height, width)
    seen = _seen(images, height, width, channels)
    size = (height, width) if images.size is None else (images.size[0], images.size[1])
    paths = [str(i) for i in range(n)] if paths is None else paths
    labelling = label(images, paths, {} if columns is None else columns)
    bad = unreadable or {}
    there = np.array([i not in bad for i in range(n)], np.int64)
    decoded = (height, width, channels)
    pixels = int(np.prod(decoded)) * dtype.itemsize + preparing_bytes(decoded, images) + kept_bytes(decoded, images)
    text = repr((digest, shape, str(dtype), axes, list(paths), labelling.labels.tolist(), labelling.splits.tolist()))
    return Collection(
        kind=kind, root=root, paths=tuple(paths),
        labels=labelling.labels, classes=labelling.classes,
        splits=labelling.splits, split_names=labelling.split_names,
        heights=size[0] * there, widths=size[1] * there, channels=channel_names(seen),
        decoded_bytes=pixels * there, regions=size == (height, width), region_bytes=_chunk_bytes(array, axes),
        digest=hashlib.sha256(text.encode()).hexdigest(), source=digest, axes=axes, dtype=str(dtype), unreadable=bad,
        origin=region_origin(images),
    )  # fmt: skip


def _cut(images: Images, height: int, width: int) -> tuple[int, int]:
    """Return height and width of the region that is used, in pixels."""
    try:
        return region_shape(images, (height, width))
    except Refused as refused:
        change = "Choose a part of the image, or leave images.region out."
        raise source_error("region", f"the image {refused}.", change) from refused


def _seen(images: Images, height: int, width: int, channels: int) -> int:
    """Return how many channels the chain will see; complain of what no image of the array can satisfy."""
    size = images.size
    if images.fit == "error" and size is not None and (height, width) != (size[0], size[1]):
        what = f"the images are {height}×{width} pixels, not {size[0]}×{size[1]}."
        raise source_error("size", what, "Use fit: crop, pad or stretch.")
    try:
        return recoloured(channels, images.color)
    except Refused as refused:
        raise source_error("color", f"the array {refused}.", "Use color: keep.") from refused


def _chunk_bytes(array: Any, axes: str) -> int:
    """Bound what the chunks that hold a region take while they are decoded, in bytes."""
    if isinstance(array, NpyFile):
        return PIECE_BYTES
    chunks = getattr(array, "chunks", None)
    if not chunks:
        return 0
    itemsize = np.dtype(array.dtype).itemsize
    chunk = int(np.prod(chunks)) * itemsize
    # zarr decodes up to 10 chunks at once, each from its compressed bytes
    reading: int = 2 * min(10 * chunk, max(int(np.prod(array.shape)) * itemsize, chunk))
    several = slab_images(array, axes)
    slab: int = several * int(np.prod(array.shape[1:])) * itemsize if several > 1 else 0
    return reading + slab


def slab_images(array: Any, axes: str) -> int:
    """Return how many images to read at once where zarr chunks hold several; 1 where that does not pay."""
    chunks = getattr(array, "chunks", None)
    if not chunks or chunks[0] == 1 or not axes.startswith("n"):
        return 1
    slab = int(chunks[0] * np.prod(array.shape[1:])) * array.dtype.itemsize
    return int(chunks[0]) if slab <= _SLAB_BYTES else 1


def resolve_axes(shape: Sequence[int], given: str | None, names: str = "") -> str:
    """Return what an array's axes mean: ``yx``, ``yxc``, ``cyx``, ``nyx``, ``nyxc`` or ``ncyx``.

    Examples
    --------
    >>> resolve_axes((100, 32, 32, 3), None)
    'nyxc'
    """
    if "." in names:
        return names
    if given is not None:
        if len(given) != len(shape):
            raise source_error("axes", f"{given} names {len(given)} axes, the array {_times(shape)} has {len(shape)}.")
        return given
    if len(names) == len(shape):
        if names not in _ORDERS:
            raise source_error("axes", f"the array's axes are {names}; {', '.join(_ORDERS)} are read.", "Transpose it.")
        return names
    if len(shape) == 3 and shape[2] in {3, 4} and shape[0] not in {3, 4}:
        what = f"an array of {_times(shape)} can be one colour image or {shape[0]} gray ones."
        raise source_error("axes", what, "Set images.axes: yxc or images.axes: nyx.")
    orders = {2: "yx", 3: "nyx", 4: "nyxc"}
    if len(shape) not in orders:
        raise source_error("axes", f"the array has {len(shape)} axes ({_times(shape)}); 2, 3 or 4 are read.")
    return orders[len(shape)]


def _names(array: Any) -> str:
    """Return one letter per axis when the array's own dimension names are ones we know, else nothing."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    letters = [_AXIS_NAMES.get(str(name).lower(), "") for name in named]
    return "".join(letters) if all(letters) and len(set(letters)) == len(letters) else ""


def remote_digest(url: str) -> str:
    """Return names, sizes and tags of all objects of a zarr, hashed."""
    marks = list_marks(url)
    if not marks:
        raise source_error("path", f"{url} is not there.")
    lines = (f"{name} {mark.size} {mark.tag}" for name, mark in sorted(marks.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _tree_digest(path: Path) -> str:
    """Return names, sizes and times of all files of a zarr, hashed."""
    lines = []
    left = [("", str(path))]
    while left:
        inner, folder = left.pop()
        for entry in list_folder(folder):
            if entry.is_dir(follow_symlinks=False):
                left.append((f"{inner}/{entry.name}", entry.path))
                continue
            found = retry(entry.stat)
            lines.append(f"{inner.lstrip('/') or '.'}/{entry.name} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
