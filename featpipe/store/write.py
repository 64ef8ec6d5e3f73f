"""Writing features into a store that has been created."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.errors import Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import ceil_div
from featpipe.replacing import TEMPORARY
from featpipe.store.checksums import is_listed, write_checksums
from featpipe.store.create import memory_store, read_names, write_contents, write_ok
from featpipe.store.format import FEATURES, KEY, NODE, header_of, parse_node
from featpipe.store.place import Place
from featpipe.store.receipts import Receipt, write_receipts
from featpipe.store.root import CHECKSUMS
from featpipe.store.seal import Sum, read_all, sealed, sum_of
from featpipe.store.shard import Layout, Shard, read_layout, shard_parts, write_shard

CONSOLIDATED = 5000
"""Most arrays and groups whose metadata are gathered at the root: of more, opening the root would take seconds."""


class StoreWriter:
    """Writes the shards of one store; may be used by many threads, and sent to other processes.

    Two writers never meet in one shard, so there are no locks on shards. A shard appears whole or not at all, and
    the same values give the same bytes. Each thread encodes its own shards: nothing is shared but the place.

    Parameters
    ----------
    place : Place
        Of a store that `create_store` made.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def write(self, group: str, region: tuple[slice, ...], values: npt.NDArray[np.floating]) -> list[Shard]:
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

        Returns
        -------
        list of Shard
            What was written.

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
        written = []
        for at in itertools.product(*_shards(spans, layout)):
            piece = tuple(_within(span, i, edge) for span, i, edge in zip(spans, at, layout.shard, strict=True))
            written.append(self._put(shard_key(group, at), values[piece], layout))
        return written

    def _put(self, key: str, values: npt.NDArray[np.floating], layout: Layout) -> Shard:
        return write_shard(self.place, key, values, layout)

    def finish(
        self,
        failures: Mapping[int, str],
        receipts: Iterable[Receipt] = (),
        unavailable: Collection[int] = (),
        sums: Mapping[str, Sum] | None = None,
        contents: Sequence[str] | None = None,
    ) -> None:
        """Note which images failed and what was written, and mark the store complete.

        The root's metadata come last, in one step: they promise that all the others are there.

        Parameters
        ----------
        failures : mapping of int to str
            Image to the reason why it has no features.
        receipts : iterable of Receipt
        unavailable : collection of int
            Images among those that failed that could only not be reached.
        sums : mapping of str to Sum, optional
            What `create_store` wrote; what else is there is read.
        contents : sequence of str, optional
            The content of every image; nothing is known of it unless given.
        """
        listed, place = list(receipts), self.place
        place.remove(key for key, _ in list(place.files()) if key.endswith(TEMPORARY))
        names = read_names(place) or ()
        contents = contents or [""] * len(names)
        known = {**(sums or {}), **write_ok(place, failures, unavailable), **write_contents(place, contents)}
        known |= write_receipts(place, listed, failures, unavailable, names, contents)
        known |= {shard.key: Sum(shard.bytes, shard.sha256) for one in listed for shard in one.shards}
        known.pop(NODE, None)
        there = [key for key, _ in place.files() if is_listed(key)]
        for key, content in read_all(place, [key for key in there if key not in known]):
            known[key] = sum_of(content or b"")
        root = parse_node(place.read(NODE)) or {}
        header = header_of(root)
        if header is None:
            raise StoreError(Problem(str(place), "has lost its header while it was written.", "Run again."))
        header = {**header, "status": "complete"}
        write_checksums(place, known, header)
        nodes = [*(key for key in known if key.endswith(NODE)), *self._checksum_nodes()]
        consolidated = _consolidate(place, nodes) if len(nodes) < CONSOLIDATED else root
        consolidated["attributes"][KEY] = header
        place.write(NODE, [sealed(consolidated)])

    def _checksum_nodes(self) -> list[str]:
        return [key for key, _ in self.place.files(CHECKSUMS) if key.endswith(NODE)]

    def _layout(self, group: str) -> Layout:
        layout = read_layout(self.place, f"{group}/{FEATURES}")
        if layout is None:
            raise StoreError(Problem(str(self.place), f"has no map {group}."))
        return layout


def _consolidate(place: Place, nodes: Iterable[str]) -> dict[str, Any]:
    """Return the root's metadata with those of all groups and arrays."""
    held = memory_store({key: content or b"" for key, content in read_all(place, [NODE, *nodes])})
    with warnings.catch_warnings():
        # It is outside the specification, which nothing here relies on: xarray opens faster with it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(held)
    return parse_node(held._store_dict[NODE].to_bytes()) or {}


class ShardHasher(StoreWriter):
    """Encodes shards as a `StoreWriter` does and writes none: what would lie there is only told."""

    def _put(self, key: str, values: npt.NDArray[np.floating], layout: Layout) -> Shard:
        digest, size = hashlib.sha256(), 0
        for part in shard_parts(values, layout):
            digest.update(part)
            size += len(part)
        return Shard(key, size, digest.hexdigest())


class NoWriter(StoreWriter):
    """Takes what it is given and writes none of it."""

    def write(self, group: str, region: tuple[slice, ...], values: npt.NDArray[np.floating]) -> list[Shard]:
        """Do nothing."""
        del group, region, values
        return []


def shard_key(group: str, at: Iterable[int]) -> str:
    """Return the key of a shard by its number along every axis."""
    return "/".join([group, FEATURES, "c", *map(str, at)])


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
