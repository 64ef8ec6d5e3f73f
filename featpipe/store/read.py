"""Reading one array of features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.errors import FeatpipeError, Problem, StoreError
from featpipe.geometry.grid import cut
from featpipe.kernels.bank import Labels
from featpipe.store.coordinates import Coordinate, decode_labels
from featpipe.store.format import FEATURES

Indices = npt.NDArray[np.intp]
READ_BYTES = 32 << 20
"""Features that one read brings, about, if many are wanted."""


class UnreadableError(StoreError):
    """A file of the store is damaged, or something else than featpipe wrote it."""


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Tell in words that something of a store cannot be read.

    Parameters
    ----------
    where : str
        What is read meanwhile.

    Raises
    ------
    UnreadableError
        Whatever zarr and its codecs say of damaged files; what is wrong with an index stays as it is.
    """
    try:
        yield
    except (FeatpipeError, IndexError, MemoryError):
        raise
    except Exception as error:  # zarr's and its codecs' errors have no other base
        change = "featpipe verify names what is damaged; running the pipeline again mends it."
        raise UnreadableError(Problem(where, f"cannot be read ({type(error).__name__}: {error}).", change)) from error


def place_of(group: zarr.Group) -> str:
    """Return where a group lies."""
    return str(group.store_path).removeprefix("file://")


def member(group: zarr.Group, name: str) -> Any:
    """Return a group or an array by its path in a group.

    Raises
    ------
    StoreError
        If it is not there, as in a store that is just being made, or cannot be read.
    """
    with reading(f"{place_of(group)}/{name}"):
        try:
            return group[name]
        except KeyError:
            what = f"has no {name}: it is not all there, as while a run begins."
            raise StoreError(Problem(place_of(group), what, "Wait for that run, or run the pipeline again.")) from None


class StoredMap:
    """An array of features in a store, or some features of it, with what is known of its axes.

    It is indexed as a NumPy array is, but several lists of indices at once choose from every axis by itself. What is
    indexed is read from disk; nothing else is.

    Parameters
    ----------
    group : zarr.Group
        Of the map.
    name : str
        Of the map.
    chosen : (k,) int array, optional
        Features to show, in order; all unless given.
    """

    def __init__(self, group: zarr.Group, name: str, chosen: Indices | None = None) -> None:
        self._group = group
        self.name = name
        self.chosen = chosen

    @cached_property
    def zarr(self) -> Any:
        """The zarr.Array, with all its features."""
        return member(self._group, FEATURES)

    @property
    def attrs(self) -> dict[str, Any]:
        """``branch``, ``scale`` and ``window`` (receptive field in image pixels, None after grid pooling)."""
        return {key: value for key, value in self._group.attrs.asdict().items() if key != "coordinates"}

    @property
    def shape(self) -> tuple[int, ...]:
        stored = self.zarr.shape
        return stored if self.chosen is None else (*stored[:-1], len(self.chosen))

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.zarr.dtype)
        return dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """What one read brings, at least."""
        return tuple(self.zarr.chunks)

    @property
    def shards(self) -> tuple[int, ...]:
        """What is one file."""
        return tuple(self.zarr.shards or self.zarr.chunks)

    @property
    def ndim(self) -> int:
        return len(self.zarr.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def columns_per_image(self) -> int:
        return int(np.prod(self.shape[-3:]))

    def __len__(self) -> int:
        return int(self.shape[0])

    @cached_property
    def labels(self) -> tuple[Labels, ...]:
        """What is known of every feature."""
        names = str(self._group.attrs.get("coordinates", "")).split()
        found: list[Any] = [member(self._group, name) for name in names]
        with reading(place_of(self._group)):
            coordinates = [
                Coordinate(name, np.asarray(array[...]), array.attrs.asdict())
                for name, array in zip(names, found, strict=True)
            ]
            return self._take(decode_labels(coordinates, self.zarr.shape[-1]))

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The name of every feature."""
        return self._take([str(name) for name in self._read("feature")])

    @cached_property
    def y(self) -> npt.NDArray[np.float64]:
        """Window centres along y, in image pixels, or as a fraction of the height where images differ in size."""
        return self._read("y")

    @cached_property
    def x(self) -> npt.NDArray[np.float64]:
        """Window centres along x, in image pixels, or as a fraction of the width where images differ in size."""
        return self._read("x")

    @property
    def relative(self) -> bool:
        """Whether ``y`` and ``x`` are fractions of the image, rather than its pixels."""
        return str(member(self._group, "y").attrs.get("units")) != "pixel"

    def columns(self) -> list[dict[str, Any]]:
        """Return what stands in every column when one image's map is flattened: map, cell (y, x), and labels."""
        height, width = self.shape[-3:-1]
        return [
            {"map": self.name, "y": y, "x": x, **labels}
            for y in range(height)
            for x in range(width)
            for labels in self.labels
        ]

    def facts(self, *, stacked: bool) -> dict[str, Any]:
        """Return what is to be told of the map, and of its array where that is the map's only one."""
        values: dict[str, list[Any]] = {}
        for labels in self.labels:
            for label, value in labels.items():
                if value not in values.setdefault(label, []):
                    values[label].append(value)
        facts = {
            "dtype": str(self.dtype),
            "features": self.shape[-1],
            "labels": values,
            "window": self.attrs["window"],
        }
        if not stacked:
            return facts
        sizes = {"shape": list(self.shape), "chunk": list(self.chunks), "shard": list(self.shards)}
        return {**facts, **sizes, "bytes": self.nbytes}

    def __getitem__(self, key: Any) -> Any:
        full = _expand(key, self.ndim)
        everything = np.arange(self.zarr.shape[-1]) if self.chosen is None else self.chosen
        features = everything[full[-1]]
        if features.ndim == 0:
            return self._stored((*full[:-1], int(features)))
        if not features.size:
            return self._stored((*full[:-1], slice(0, 0)))
        low, high = int(features.min()), int(features.max()) + 1
        values = self._stored((*full[:-1], slice(low, high)))
        if np.array_equal(features, np.arange(low, high)):
            return values
        return values[..., features - low]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("features are read from disk: they cannot be had without a copy.")
        return np.asarray(self[...], dtype)

    def __repr__(self) -> str:
        axes = ("image", "y", "x", "feature")[-self.ndim :]
        sizes = ", ".join(f"{axis} {length}" for axis, length in zip(axes, self.shape, strict=True))
        return f"<FeatureMap {self.name}: {sizes}; {self.dtype}>"

    def _stored(self, key: tuple[Any, ...]) -> Any:
        fancy = any(isinstance(part, (list, np.ndarray)) for part in key)
        with reading(f"{place_of(self._group)}/{FEATURES}"):
            return self.zarr.oindex[key] if fancy else self.zarr[key]

    def _read(self, name: str) -> npt.NDArray[Any]:
        array = member(self._group, name)
        with reading(f"{place_of(self._group)}/{name}"):
            return np.asarray(array[...])

    def _take(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values) if self.chosen is None else tuple(values[i] for i in self.chosen)


def read_matrix(maps: Sequence[StoredMap], rows: Indices) -> npt.NDArray[np.float32]:
    """Return stacked maps side by side, each flattened (y, x, feature), for some images in ascending order.

    Parameters
    ----------
    maps : sequence of StoredMap
    rows : (n,) int

    Returns
    -------
    (n, d) float32
    """
    values = np.empty((len(rows), sum(one.columns_per_image for one in maps)), np.float32)
    at = 0
    for one in maps:
        fill_columns(values[:, at : at + one.columns_per_image], one, rows)
        at += one.columns_per_image
    return values


def fill_columns(columns: npt.NDArray[np.float32], one: StoredMap, rows: Indices) -> None:
    """Fill a matrix with a stacked map, flattened (y, x, feature), some chunks at a time.

    Parameters
    ----------
    columns : (n, d) float32
        Written to.
    one : StoredMap
        Of ``d`` values an image.
    rows : (n,) int
        Images, in ascending order.
    """
    chunk = one.chunks[0]
    piece = chunk * max(1, READ_BYTES // max(1, chunk * one.columns_per_image * one.dtype.itemsize))
    for span in cut(len(one), piece):
        first, last = np.searchsorted(rows, [span.start, span.stop])
        if first == last:
            continue
        wanted = rows[first:last]
        low, high = int(wanted[0]), int(wanted[-1]) + 1
        values = one[low:high]
        if last - first < high - low:
            values = values[wanted - low]
        columns[first:last] = values.reshape(last - first, -1)


def _expand(key: Any, ndim: int) -> tuple[Any, ...]:
    """Return an index with an entry for every axis."""
    parts = key if isinstance(key, tuple) else (key,)
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    at = dots[0] if dots else len(parts)
    missing = ndim - len(parts) + len(dots)
    if len(dots) > 1 or missing < 0 or any(part is None for part in parts):
        raise IndexError(f"a map of {ndim} axes cannot be indexed with {key!r}.")
    return (*parts[:at], *(slice(None),) * missing, *parts[at + 1 :])
