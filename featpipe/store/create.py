"""Creating a store: its header, coordinates and empty arrays.

Small arrays are encoded by zarr in memory, once for all groups that share them, and copied to files: a collection with
a group per image has a hundred thousand of them, and zarr takes a few milliseconds for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import MemoryStore

from featpipe.errors import StoreError
from featpipe.kernels.bank import feature_name
from featpipe.plan.collection import Collection
from featpipe.plan.model import ArrayPlan, MapPlan
from featpipe.store.coordinates import encode_labels, name_attributes
from featpipe.store.format import (
    CNAME,
    FEATURES,
    FORMAT,
    KEY,
    LEVEL,
    NODE,
    ROOT_COORDINATES,
    SHUFFLE,
    cannot_write,
    read_header,
    read_node,
    write_file,
)
from featpipe.store.target import check_target, discard

Files = dict[str, bytes]
"""Path within a group to content."""
ROWS = 1 << 16
"""Images per chunk of the root's arrays."""
PACKAGES = ("featpipe", "numpy", "numba", "zarr", "imagecodecs", "pillow", "tifffile")
"""Whose versions the header tells: those that make the features, and those that decode."""


def create_store(
    path: Path, arrays: Iterable[tuple[MapPlan, ArrayPlan]], collection: Collection, attributes: Mapping[str, Any]
) -> None:
    """Create a store, ready for its shards to be written.

    A store begun with the same digests keeps its shards. Any other feature stack at ``path`` is emptied first:
    `check_target` is who asks whether it may be.

    Parameters
    ----------
    path : Path
    arrays : iterable of (MapPlan, ArrayPlan)
        Every array of features; those of one map together or not.
    collection : Collection
    attributes : mapping
        ``pipeline``, resolved, and ``digests``; they go into the header.

    Raises
    ------
    StoreError
        If something else is at ``path``, or it cannot be written.
    """
    path = Path(path)
    check_target(path, attributes.get("digests", {}), overwrite=True)
    pairs = list(arrays)
    header = _header([a_map for a_map, _ in pairs], attributes)
    dtype = attributes.get("pipeline", {}).get("store", {}).get("dtype", "float32")
    try:
        path.mkdir(parents=True, exist_ok=True)
        before = read_header(path)
        if before is not None and any(before.get(key) != header[key] for key in ("format", "status", "digests")):
            discard(path)
        _write_root(path, collection, header)
        _Writer(path, dtype).write(pairs)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_ok(path: Path, failures: Mapping[int, str]) -> None:
    """Write which images have features, and why the others have none.

    Parameters
    ----------
    path : Path
        Of the store.
    failures : mapping of int to str
        Image to reason.
    """
    node = read_node(path / "ok")
    if node is None:
        raise StoreError(f"{path} has lost its array ok.")
    ok = np.ones(node["shape"], np.bool_)
    ok[list(failures)] = False
    for name, content in _encode(lambda group: _add_ok(group, ok, failures), {}).items():
        if name != NODE:
            write_file(path / name, content)


def _header(maps: Sequence[MapPlan], attributes: Mapping[str, Any]) -> dict[str, Any]:
    unique = {a_map.name: a_map for a_map in maps}
    return {
        "format": FORMAT,
        "status": "partial",
        "pipeline": {},
        "digests": {},
        "versions": {name: version(name) for name in PACKAGES},
        **attributes,
        "maps": [
            {"name": a_map.name, "branch": a_map.branch, "scale": a_map.scale, "stacked": a_map.stacked}
            for a_map in unique.values()
        ],
    }


def _encode(build: Callable[[zarr.Group], None], attributes: dict[str, Any]) -> Files:
    """Return the files of a group, its own metadata first."""
    held: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(held), attributes=attributes)
    build(group)
    return {name: content.to_bytes() for name, content in held.items()}


def _add(
    group: zarr.Group, name: str, values: npt.NDArray[Any], axis: str, attributes: Mapping[str, Any] | None = None
) -> None:
    """Add a coordinate to a group."""
    text = values.dtype.kind not in "biuf"
    array: Any = group.create_array(
        name,
        shape=values.shape,
        chunks=(max(1, min(len(values), ROWS)),),
        dtype="string" if text else values.dtype,
        compressors=ZstdCodec(level=1) if axis == "image" else None,
        dimension_names=(axis,),
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
    )
    array[:] = values


def _texts(texts: Iterable[str]) -> npt.NDArray[Any]:
    # A file name that is not UTF-8 holds surrogates, which no string array can.
    return np.array([text.encode(errors="replace").decode() for text in texts], np.dtypes.StringDType())


def _write_root(path: Path, collection: Collection, header: Mapping[str, Any]) -> None:
    def build(group: zarr.Group) -> None:
        labels, splits = collection.labels.astype(np.int64), collection.splits.astype(np.int8)
        _add(group, "image", np.arange(len(collection), dtype=np.int64), "image")
        _add(group, "path", _texts(collection.paths), "image")
        _add(group, "label", labels, "image", name_attributes(collection.classes, np.int64, "classes"))
        _add(group, "split", splits, "image", name_attributes(collection.split_names, np.int8, "splits"))
        _add(group, "height", collection.heights.astype(np.int64), "image", {"units": "pixel"})
        _add(group, "width", collection.widths.astype(np.int64), "image", {"units": "pixel"})
        _add_ok(group, collection.heights > 0, collection.unreadable)

    files = _encode(build, {KEY: dict(header), "coordinates": " ".join(ROOT_COORDINATES)})
    write_file(path / NODE, files.pop(NODE))
    _copy(path, files, set())


def _add_ok(group: zarr.Group, ok: npt.NDArray[np.bool_], reasons: Mapping[int, str]) -> None:
    _add(group, "ok", ok, "image", {"reasons": {str(image): reasons[image] for image in sorted(reasons)}})


class _Writer:
    """Writes the groups of maps, encoding but once what several share."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.dtype = dtype
        self.plain = _encode(lambda _: None, {})[NODE]
        self.groups: set[str] = set()
        self.folders: set[Path] = set()
        self.labels: dict[str, Files] = {}
        self.arrays: dict[tuple[object, ...], Files] = {}

    def write(self, pairs: Iterable[tuple[MapPlan, ArrayPlan]]) -> None:
        for a_map, array in pairs:
            self._write_parents(array.group)
            name = a_map.name
            if name not in self.labels:
                self.labels[name] = _encode(lambda group, a_map=a_map: _add_labels(group, a_map), {})  # type: ignore[misc]
                del self.labels[name][NODE]
            key = (name, array.shape, array.chunk, array.shard, array.y.tobytes(), array.x.tobytes(), array.relative)
            if key not in self.arrays:
                self.arrays[key] = _map_files(a_map, array, self.dtype)
            _copy(self.path / array.group, {**self.arrays[key], **self.labels[name]}, self.folders)

    def _write_parents(self, group: str) -> None:
        parts = group.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in self.groups:
                self.groups.add(parent)
                _copy(self.path / parent, {NODE: self.plain}, self.folders)


def _map_files(a_map: MapPlan, array: ArrayPlan, dtype: str) -> Files:
    """Return the files of a map's group but for its labels."""

    def build(group: zarr.Group) -> None:
        group.create_array(
            FEATURES,
            shape=array.shape,
            chunks=array.chunk,
            shards=None if array.chunk == array.shard else array.shard,
            dtype=dtype,
            compressors=BloscCodec(cname=CNAME, clevel=LEVEL, shuffle=SHUFFLE),
            fill_value=np.nan,
            dimension_names=("image", "y", "x", "feature")[-len(array.shape) :],
        )
        for axis, centres, side in (("y", array.y, "height"), ("x", array.x, "width")):
            units = f"fraction of image {side}" if array.relative else "pixel"
            _add(group, axis, np.asarray(centres, np.float64), axis, {"units": units})

    return _encode(build, _map_attributes(a_map))


def _map_attributes(a_map: MapPlan) -> dict[str, Any]:
    window = None
    if a_map.windows is not None:
        window = {
            axis: {"size": w.size, "stride": w.stride, "offset": w.offset}
            for axis, w in zip("yx", a_map.windows, strict=True)
        }
    labels = " ".join(coordinate.name for coordinate in encode_labels(a_map.features))
    return {"branch": a_map.branch, "scale": a_map.scale, "window": window, "coordinates": labels}


def _add_labels(group: zarr.Group, a_map: MapPlan) -> None:
    _add(group, "feature", _texts(map(feature_name, a_map.features)), "feature")
    for coordinate in encode_labels(a_map.features):
        _add(group, coordinate.name, coordinate.values, "feature", coordinate.attributes)


def _copy(folder: Path, files: Files, folders: set[Path]) -> None:
    """Write files below ``folder``; ``folders`` are known to be there."""
    for name, content in files.items():
        file = folder / name
        if file.parent not in folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            folders.add(file.parent)
        file.write_bytes(content)
