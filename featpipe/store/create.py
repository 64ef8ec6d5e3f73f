"""Creating a store: its header, coordinates and empty arrays.

Small arrays are encoded by zarr in memory, once for all groups that share them, and copied to files: a collection with
a group per image has a hundred thousand of them, and zarr takes a few milliseconds for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as SetOf
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from featpipe.errors import Problem, StoreError
from featpipe.kernels.bank import feature_name
from featpipe.plan.collection import Collection
from featpipe.plan.identity import DECODERS
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
    node_key,
    parse_node,
    read_node,
)
from featpipe.store.place import Place
from featpipe.store.seal import MENDS, Files, SealedGroup, Sum, sealed, sum_of

ROWS = 1 << 16
"""Images per chunk of the root's arrays."""
LONG_AXES = ("image", "row", "shard", "failure", "file")
"""Axes that may be long enough for compression to pay."""
PACKAGES = ("featpipe", "numpy", "numba", "zarr", *DECODERS)
"""Whose versions the header tells: those that make the features, and those that decode."""


def create_store(
    place: Place,
    arrays: Iterable[tuple[MapPlan, ArrayPlan]],
    collection: Collection,
    attributes: Mapping[str, Any],
    there: npt.NDArray[np.bool_] | None = None,
    contents: Sequence[str] = (),
) -> dict[str, Sum]:
    """Write the header, the coordinates and the empty arrays of a store; shards that lie there stay.

    Parameters
    ----------
    place : Place
    arrays : iterable of (MapPlan, ArrayPlan)
        Every array of features; those of one map together or not.
    collection : Collection
    attributes : mapping
        ``pipeline``, resolved, and ``digests``; they go into the header.
    there : (n,) bool, optional
        Images whose features are all there already; none unless given.
    contents : sequence of str, optional
        The content of every image, as far as it is known.

    Returns
    -------
    dict of str to Sum
        The keys written, and what was written there.

    Raises
    ------
    StoreError
        If the place cannot be written.
    """
    pairs = list(arrays)
    header = _header([a_map for a_map, _ in pairs], attributes)
    dtype = attributes.get("pipeline", {}).get("store", {}).get("dtype", "float32")
    writer = _Writer(place, dtype)
    _write_root(writer, collection, header, there, contents or [""] * len(collection))
    writer.write(pairs)
    return writer.sums


def write_ok(place: Place, failures: Mapping[int, str], unavailable: SetOf[int] = ()) -> dict[str, Sum]:
    """Write which images have features, and why the others have none; return what was written.

    Parameters
    ----------
    place : Place
        Of the store.
    failures : mapping of int to str
        Image to reason.
    unavailable : collection of int
        Those of them that could only not be reached.
    """
    node = read_node(place, "ok")
    if node is None:
        raise StoreError(Problem(str(place), "has lost its array ok while it was written.", "Run again."))
    ok = np.ones(node["shape"], np.bool_)
    ok[list(failures)] = False
    sums = {}
    for name, content in encode_group(lambda group: _add_ok(group, ok, failures, unavailable)).items():
        if name != NODE:
            place.write(name, [content])
            sums[name] = sum_of(content)
    return sums


def write_contents(place: Place, contents: Sequence[str]) -> dict[str, Sum]:
    """Write the content of every image; return what was written."""
    sums = {}
    for name, content in encode_group(lambda group: add_texts(group, "content", texts(contents))).items():
        if name != NODE:
            place.write(name, [content])
            sums[name] = sum_of(content)
    return sums


def read_failures(place: Place) -> dict[int, str]:
    """Return the images of a store that have no features, and why.

    Raises
    ------
    StoreError
        If what is there cannot be understood.
    """
    try:
        reasons = ((read_node(place, "ok") or {}).get("attributes") or {}).get("reasons") or {}
        return {int(image): str(reason) for image, reason in reasons.items()}
    except (ValueError, AttributeError):
        raise damaged(place, node_key("ok")) from None


def read_unavailable(place: Place) -> frozenset[int]:
    """Return the images of a store that could not be reached, which are among those without features.

    Raises
    ------
    StoreError
        If what is there cannot be understood.
    """
    try:
        attributes = (read_node(place, "ok") or {}).get("attributes") or {}
        return frozenset(map(int, attributes.get("unavailable") or ()))
    except (ValueError, TypeError, AttributeError):
        raise damaged(place, node_key("ok")) from None


def read_names(place: Place) -> list[str] | None:
    """Return the names of the images whose rows a store has; None where they are lost, or never were there."""
    return _read_texts(place, "path")


def read_contents(place: Place) -> list[str] | None:
    """Return the content of every image of a store; None where it is lost, or not known, as of featpipe 0.1."""
    return _read_texts(place, "content")


def _read_texts(place: Place, name: str) -> list[str] | None:
    node = read_node(place, name)
    try:
        assert node is not None
        chunks = [key for key, _ in place.files(f"{name}/c")]
        files = {key.removeprefix(f"{name}/"): place.read(key) or b"" for key in (*chunks, node_key(name))}
        array: Any = zarr.open_array(memory_store(files), mode="r")
        found = [str(text) for text in np.asarray(array[...])]
        written = array.attrs.get("sha256")
    except Exception:  # zarr's and its codecs' errors have no other base
        return None
    return found if written in (None, texts_digest(found)) else None


def texts_digest(values: Iterable[str]) -> str:
    """Return the SHA-256, in hex, of texts as a store holds them."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()


def damaged(place: Place, key: str) -> StoreError:
    """Return the error for a file of a store that is not as it was written."""
    return StoreError(Problem(f"{place}/{key}", "is damaged.", MENDS))


def read_sizes(place: Place) -> dict[str, tuple[int, int]]:
    """Return height and width of the images whose rows a store has, by name; the first of each; none where it fails."""
    try:
        opened = place.open_zarr()
        arrays: Any = [zarr.open_array(opened, path=name, mode="r") for name in ("height", "width")]
        sizes = zip(*(np.asarray(array[...]).tolist() for array in arrays), strict=True)
        found = list(zip(read_names(place) or (), sizes, strict=True))
    except Exception:  # zarr's and its codecs' errors have no other base
        return {}
    return dict(reversed(found))


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


def encode_group(build: Callable[[zarr.Group], None], attributes: Mapping[str, Any] | None = None) -> Files:
    """Return the files of a group, its own metadata first."""
    held: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(held), attributes=dict(attributes or {}))
    build(group)
    return {name: content.to_bytes() for name, content in held.items()}


def open_sealed(found: SealedGroup) -> zarr.Group:
    """Return a sealed group as zarr reads it, from memory: what is parsed is what was checked."""
    return zarr.open_group(memory_store(found.files), mode="r", use_consolidated=False)


def memory_store(files: Mapping[str, bytes]) -> MemoryStore:
    """Return files as a store of zarr-python, in memory."""
    make = default_buffer_prototype().buffer.from_bytes
    return MemoryStore({name: make(content) for name, content in files.items()})


def add_array(
    group: zarr.Group, name: str, values: npt.NDArray[Any], axis: str, attributes: Mapping[str, Any] | None = None
) -> None:
    """Add a small array of one axis to a group."""
    text = values.dtype.kind not in "biuf"
    array: Any = group.create_array(
        name,
        shape=values.shape,
        chunks=(max(1, min(len(values), ROWS)),),
        dtype="string" if text else values.dtype,
        compressors=ZstdCodec(level=1) if axis in LONG_AXES else None,
        dimension_names=(axis,),
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
    )
    array[:] = values


def texts(values: Iterable[str]) -> npt.NDArray[Any]:
    """Return texts as zarr stores them; a file name that is not UTF-8 holds surrogates, which no string array can."""
    return np.array([text.encode(errors="replace").decode() for text in values], np.dtypes.StringDType())


def _write_root(
    writer: _Writer,
    collection: Collection,
    header: Mapping[str, Any],
    there: npt.NDArray[np.bool_] | None,
    contents: Sequence[str],
) -> None:
    def build(group: zarr.Group) -> None:
        labels, splits = collection.labels.astype(np.int64), collection.splits.astype(np.int8)
        add_array(group, "image", np.arange(len(collection), dtype=np.int64), "image")
        add_texts(group, "path", texts(collection.paths))
        add_array(group, "label", labels, "image", name_attributes(collection.classes, np.int64, "classes"))
        add_array(group, "split", splits, "image", name_attributes(collection.split_names, np.int8, "splits"))
        add_array(group, "height", collection.heights.astype(np.int64), "image", {"units": "pixel"})
        add_array(group, "width", collection.widths.astype(np.int64), "image", {"units": "pixel"})
        done = np.zeros(len(collection), np.bool_) if there is None else there
        _add_ok(group, done, collection.unreadable, collection.unavailable)
        add_texts(group, "content", texts(contents))

    # The header is the first to be written: from there on it is a partial store of this pipeline
    files = encode_group(build, {KEY: dict(header), "coordinates": " ".join(ROOT_COORDINATES)})
    writer.put("", {**files, NODE: sealed(parse_node(files[NODE]) or {})})


def add_texts(group: zarr.Group, name: str, values: npt.NDArray[Any]) -> None:
    """Add texts of every image to a group; they come with a digest, as what becomes of all rows hangs on them."""
    add_array(group, name, values, "image", {"sha256": texts_digest(values.tolist())})


def _add_ok(group: zarr.Group, ok: npt.NDArray[np.bool_], reasons: Mapping[int, str], unavailable: SetOf[int]) -> None:
    told = {str(image): reasons[image] for image in sorted(reasons)}
    add_array(group, "ok", ok, "image", {"reasons": told, "unavailable": sorted(unavailable)})


class _Writer:
    """Writes the groups of maps, encoding but once what several share."""

    def __init__(self, place: Place, dtype: str) -> None:
        self.place = place
        self.dtype = dtype
        self.plain = encode_group(lambda _: None)
        self.sums: dict[str, Sum] = {}
        self.known: dict[bytes, Sum] = {}
        self.labels: dict[str, Files] = {}
        self.arrays: dict[tuple[object, ...], Files] = {}

    def put(self, group: str, files: Files) -> None:
        """Write a group's files, its own metadata first."""
        for name, content in sorted(files.items(), key=lambda file: file[0] != NODE):
            key = f"{group}/{name}" if group else name
            self.place.write(key, [content])
            self.sums[key] = self._sum(content)

    def _sum(self, content: bytes) -> Sum:
        """Return size and SHA-256 of a file, worked out once for all groups that share it."""
        if content not in self.known:
            self.known[content] = sum_of(content)
        return self.known[content]

    def write(self, pairs: Iterable[tuple[MapPlan, ArrayPlan]]) -> None:
        for a_map, array in pairs:
            self._write_parents(array.group)
            name = a_map.name
            if name not in self.labels:
                self.labels[name] = encode_group(lambda group, a_map=a_map: _add_labels(group, a_map))  # type: ignore[misc]
                del self.labels[name][NODE]
            key = (name, array.shape, array.chunk, array.shard, array.y.tobytes(), array.x.tobytes(), array.relative)
            if key not in self.arrays:
                self.arrays[key] = _map_files(a_map, array, self.dtype)
            self.put(array.group, {**self.arrays[key], **self.labels[name]})

    def _write_parents(self, group: str) -> None:
        parts = group.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if node_key(parent) not in self.sums:
                self.put(parent, self.plain)


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
            add_array(group, axis, np.asarray(centres, np.float64), axis, {"units": units})

    return encode_group(build, _map_attributes(a_map))


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
    add_array(group, "feature", texts(map(feature_name, a_map.features)), "feature")
    for coordinate in encode_labels(a_map.features):
        add_array(group, coordinate.name, coordinate.values, "feature", coordinate.attributes)
