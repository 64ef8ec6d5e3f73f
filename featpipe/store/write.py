"""Writing features into a store that has been created."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.errors import Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import ceil_div
from featpipe.store.create import write_ok
from featpipe.store.format import FEATURES, NODE, cannot_write, sweep_temporaries, write_header
from featpipe.store.shard import Layout, read_layout, write_shard

CONSOLIDATED = 5000
"""Most arrays and groups whose metadata are gathered at the root: of more, opening the root would take seconds."""


class StoreWriter:
    """Writes the shards of one store; may be used by many threads, and sent to other processes.

    Two writers never meet in one shard, so there are no locks on files. A shard's file appears whole or not at all, and
    the same values give the same bytes. Each thread encodes its own shards: nothing is shared but the directory.

    Parameters
    ----------
    path : Path
        Of a store that `create_store` made.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

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
            Of the region's shape; cast to the stored type, a chunk at a time.

        Raises
        ------
        StoreError
            If the region is not whole shards, values lie beyond the stored type's range, or the disk fails.
        """
        layout = self._layout(group)
        spans = _whole_shards(group, region, layout)
        shape = tuple(span.length for span in spans)
        if values.shape != shape:
            raise StoreError(Problem(group, f"a region of shape {shape} was given values of shape {values.shape}."))
        try:
            for at in itertools.product(*_shards(spans, layout)):
                piece = tuple(_within(span, i, edge) for span, i, edge in zip(spans, at, layout.shard, strict=True))
                write_shard(self._file(group, at), values[piece], layout)
        except OSError as error:
            raise cannot_write(self.path / group, error) from error

    def is_written(self, group: str, region: tuple[slice, ...]) -> bool:
        """Return whether every shard of a region has been written."""
        layout = self._layout(group)
        spans = _whole_shards(group, region, layout)
        return all(self._file(group, at).is_file() for at in itertools.product(*_shards(spans, layout)))

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

    def _layout(self, group: str) -> Layout:
        layout = read_layout(self.path / group / FEATURES)
        if layout is None:
            raise StoreError(Problem(str(self.path), f"has no map {group}."))
        return layout

    def _file(self, group: str, at: tuple[int, ...]) -> Path:
        return self.path.joinpath(group, FEATURES, "c", *map(str, at))


def _whole_shards(group: str, region: tuple[slice, ...], layout: Layout) -> list[Span]:
    """Return a region's span along every axis, having made sure that it is whole shards."""
    spans = []
    for axis, (length, edge) in enumerate(zip(layout.shape, layout.shard, strict=True)):
        part = region[axis] if axis < len(region) else slice(None)
        start, stop = part.start or 0, length if part.stop is None else part.stop
        inside = 0 <= start < stop <= length and part.step in (None, 1)
        if not inside or start % edge or (stop % edge and stop != length):
            what = f"[{start}:{stop}) on axis {axis} is not whole shards of {edge} on {length} samples."
            raise StoreError(Problem(group, what, "A shard has one writer: write it whole."))
        spans.append(Span(start, stop))
    return spans


def _shards(spans: list[Span], layout: Layout) -> list[range]:
    """Return the numbers of the shards along every axis."""
    return [
        range(span.start // edge, ceil_div(span.stop, edge)) for span, edge in zip(spans, layout.shard, strict=True)
    ]


def _within(span: Span, shard: int, edge: int) -> slice:
    """Return where a shard lies within a span that begins at a shard's edge."""
    return slice(shard * edge - span.start, min((shard + 1) * edge, span.stop) - span.start)
