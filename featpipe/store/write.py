"""Writing features into a store that has been created."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.errors import Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import cut
from featpipe.store.create import write_ok
from featpipe.store.format import FEATURES, NODE, cannot_write, sweep_temporaries, write_header

LARGEST_FLOAT16 = 65504
CONSOLIDATED = 5000
"""Most arrays and groups whose metadata are gathered at the root: of more, opening the root would take seconds."""


class StoreWriter:
    """Writes the shards of one store; may be used by many threads, and sent to other processes.

    Two writers never meet in one shard, so there are no locks on files. A shard's file appears whole or not at all, and
    the same values give the same bytes.

    Parameters
    ----------
    path : Path
        Of a store that `create_store` made.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._arrays: dict[str, Any] = {}
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[type[StoreWriter], tuple[Path]]:
        return type(self), (self.path,)

    def write(self, group: str, region: tuple[slice, ...], values: npt.NDArray[np.floating]) -> None:
        """Write whole shards of one array of features.

        Parameters
        ----------
        group : str
            ``texture/scale1``, or ``images/7/texture/scale1``.
        region : tuple of slice
            Along the array's first axes; the others are written whole. It begins at a shard's edge on every axis, and
            ends at one or at the array's end.
        values : float array
            Of the region's shape; cast to the stored type, a shard at a time.

        Raises
        ------
        StoreError
            If the region is not whole shards, values lie beyond the stored type's range, or the disk fails.
        """
        array = self._array(group)
        spans = _whole_shards(group, region, array)
        shape = tuple(span.length for span in spans)
        if values.shape != shape:
            raise StoreError(Problem(group, f"a region of shape {shape} was given values of shape {values.shape}."))
        pieces = [cut(span.length, edge) for span, edge in zip(spans, array.shards or array.chunks, strict=True)]
        for piece in itertools.product(*pieces):
            shard = tuple(slice(s.start + p.start, s.start + p.stop) for s, p in zip(spans, piece, strict=True))
            try:
                array[shard] = to_stored(values[tuple(slice(*p) for p in piece)], array.dtype)
            except OSError as error:
                raise cannot_write(self.path / group, error) from error

    def is_written(self, group: str, region: tuple[slice, ...]) -> bool:
        """Return whether every shard of a region has been written."""
        array = self._array(group)
        spans = _whole_shards(group, region, array)
        shards = [
            range(span.start // edge, -(-span.stop // edge))
            for span, edge in zip(spans, array.shards or array.chunks, strict=True)
        ]
        folder = self.path.joinpath(group, FEATURES, "c")
        return all(folder.joinpath(*map(str, at)).is_file() for at in itertools.product(*shards))

    def finish(self, failures: Mapping[int, str]) -> None:
        """Note which images failed, gather the metadata, and mark the store complete.

        Parameters
        ----------
        failures : mapping of int to str
            Image to the reason why it has no features.
        """
        try:
            sweep_temporaries(self.path)
            write_ok(self.path, failures)
            self._consolidate()
            write_header(self.path, {"status": "complete"})
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _consolidate(self) -> None:
        if sum(1 for _ in itertools.islice(self.path.rglob(NODE), CONSOLIDATED + 1)) > CONSOLIDATED:
            return
        with warnings.catch_warnings():
            # It is outside the specification, which nothing here relies on: xarray opens faster with it.
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            zarr.consolidate_metadata(str(self.path))

    def _array(self, group: str) -> Any:
        with self._opening:
            if group not in self._arrays:
                try:
                    # chunks that hold nothing but the fill value are written too: what is missing has not been computed
                    with zarr.config.set({"array.write_empty_chunks": True}):
                        self._arrays[group] = zarr.open_array(str(self.path / group / FEATURES), mode="r+")
                except FileNotFoundError:
                    raise StoreError(Problem(str(self.path), f"has no map {group}.")) from None
            return self._arrays[group]


def to_stored(values: npt.NDArray[np.floating], dtype: npt.DTypeLike) -> npt.NDArray[np.floating]:
    """Cast values to the stored type.

    Parameters
    ----------
    values : float array
    dtype : dtype
        float32 or float16.

    Raises
    ------
    StoreError
        If finite values lie beyond the type's range.
    """
    wanted = np.dtype(dtype)
    if values.dtype == wanted:
        return values
    with np.errstate(over="ignore"):
        stored = values.astype(wanted)
    lost = np.isinf(stored)
    if lost.any():
        beyond = np.abs(values[lost & np.isfinite(values)])
        if beyond.size:
            what = (
                f"{beyond.size} values lie beyond ±{LARGEST_FLOAT16}, the range of {wanted}; "
                f"the largest is {beyond.max():.4g}."
            )
            raise StoreError(Problem("store.dtype", what, "Use store.dtype: float32."))
    return stored


def _whole_shards(group: str, region: tuple[slice, ...], array: Any) -> list[Span]:
    """Return a region's span along every axis, having made sure that it is whole shards."""
    spans = []
    for axis, (length, edge) in enumerate(zip(array.shape, array.shards or array.chunks, strict=True)):
        part = region[axis] if axis < len(region) else slice(None)
        start, stop = part.start or 0, length if part.stop is None else part.stop
        inside = 0 <= start < stop <= length and part.step in (None, 1)
        if not inside or start % edge or (stop % edge and stop != length):
            what = f"[{start}:{stop}) on axis {axis} is not whole shards of {edge} on {length} samples."
            raise StoreError(Problem(group, what, "A shard has one writer: write it whole."))
        spans.append(Span(start, stop))
    return spans
