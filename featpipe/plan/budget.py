"""Choosing batches and blocks from memory and work, and what they will hold in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm

import numpy as np

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE, ceil_div
from featpipe.objects import is_url
from featpipe.plan.collection import Collection
from featpipe.plan.cost import image_seconds, node_flops
from featpipe.plan.layout import block_spans, owned_blocks
from featpipe.plan.model import MapPlan, Memory, Pieces
from featpipe.plan.program import ROOT, Program
from featpipe.plan.schedule import (
    FLOAT,
    Schedule,
    Shape,
    Spans,
    first_grids,
    make_schedule,
    map_bytes,
    node_shapes,
    path_shapes,
    peak_bytes,
    stream_schedule,
    whole,
)
from featpipe.plan.writing import write_overhead_bytes
from featpipe.spec.pipeline import Pipeline

SHARD_BYTES = 64 << 20
"""Most bytes of one shard before compression."""
GROUP_BYTES = 4 << 20
"""Working memory that the images of a batch that are in work at once may take."""
READ_AHEAD_BYTES = 64 << 20
"""Most pixels, as float32, that the streaming of a large image reads at once."""
TASK_SECONDS = 1.0
SHORT_TASK_SECONDS = 0.05
FEW_TASKS = 16
"""A small collection is cut into this many tasks, if they are not too short, so that every core has some."""
Parts = dict[str, int]


@dataclass(frozen=True)
class Resources:
    """What a run may use."""

    memory_bytes: int
    threads: int
    base_bytes: int
    """Memory of the process before any task, in bytes."""

    @property
    def task_bytes(self) -> int:
        return (self.memory_bytes - self.base_bytes) // self.threads


@dataclass(frozen=True)
class Kept:
    """Batches and blocks of a store that is there: new shards are to lie beside the old ones."""

    batch: int | None = None
    block: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Budget:
    """Sizes and costs of one program on one collection; the largest image sets the memory."""

    pipeline: Pipeline
    collection: Collection
    program: Program
    resources: Resources
    kept: Kept = Kept()

    @property
    def asked_block(self) -> tuple[int, int] | None:
        """The block that the pipeline asks for, or else that the store has."""
        asked = self.pipeline.store.block
        return (asked[0], asked[1]) if asked is not None else self.kept.block

    @cached_property
    def shapes(self) -> Mapping[int, Shape]:
        return node_shapes(self.program, self.collection.shape)

    @property
    def item(self) -> int:
        return int(np.dtype(self.pipeline.store.dtype).itemsize)

    def decode(self, pixels: int | None = None) -> int:
        """Return the bytes that reading the largest image takes, or ``pixels`` of it where parts can be read."""
        whole_image = int(self.collection.decoded_bytes.max(initial=0))
        if pixels is not None and self.collection.regions:
            height, width = self.collection.shape
            whole_image = ceil_div(whole_image * min(pixels, height * width), height * width)
        return whole_image + self.collection.region_bytes

    def needs_blocks(self) -> bool:
        """Return whether the largest image is too much for one task: its memory, its shards, or its time."""
        outputs = {output.node for output in self.program.outputs}
        stored = [self._stored(node, whole(self.shapes[node])) for node in outputs]
        working = peak_bytes(self.program, self._whole(outputs), 1)
        needed = self.decode() + sum(working.values()) + sum(stored) + self._writing(max(stored))
        if needed > self.resources.task_bytes or max(stored) > 8 * SHARD_BYTES:
            return True
        # where every block would decode the whole image again, a large shard is the lesser evil
        much = max(stored) > 2 * SHARD_BYTES or image_seconds(self.program, self.collection.shape) > 4 * TASK_SECONDS
        return self.collection.regions and much

    def choose_pieces(self, maps: tuple[MapPlan, ...], *, large: bool) -> Pieces:
        """Return what to read, compute and write at once; ``large``: images are too large to be computed whole."""
        batched = [m for m in maps if m.batched]
        blocked = [m for m in maps if not m.batched]
        block = self._choose_block(blocked) if blocked else None
        pieces = Pieces(1, block, 1, (0, 0), 0)
        if batched and large:
            pieces = self._choose_stream(batched, pieces)
        elif batched:
            pieces = replace(pieces, group=self._choose_group(batched))
        if batched:
            pieces = self._choose_batch(batched, pieces)
        return replace(pieces, group=min(pieces.group, pieces.batch))

    def memory(self, maps: tuple[MapPlan, ...], pieces: Pieces) -> Memory:
        """Return the planned memory of a run in these pieces."""
        batched = [m for m in maps if m.batched]
        blocked = [m for m in maps if not m.batched]
        parts: Parts = {}
        if batched:
            parts = self._batch_parts(batched, pieces)
        if blocked and pieces.block is not None:
            parts = max(parts, self._block_parts(blocked, pieces.block), key=lambda part: sum(part.values()))
        resources = self.resources
        return Memory(resources.base_bytes, sum(parts.values()), parts, resources.threads, resources.memory_bytes)

    def flops(self) -> int:
        """Return the operations of the whole run."""
        return sum(self._image_flops(shape) * count for shape, count in self._sizes)

    def seconds(self) -> float:
        """Return the nominal time of the whole run on one thread."""
        return sum(image_seconds(self.program, shape) * count for shape, count in self._sizes)

    def output_bytes(self, maps: tuple[MapPlan, ...]) -> int:
        """Return the bytes of all features before compression; rows of unreadable images included."""
        total = 0
        for a_map in maps:
            if a_map.stacked:
                total += len(self.collection) * self._stored(a_map.node, whole(self.shapes[a_map.node]))
            else:
                for shape, count in self._sizes:
                    one = path_shapes(self.program, shape, a_map.node)[a_map.node]
                    total += count * self._stored(a_map.node, whole(one))
        return total

    @cached_property
    def _sizes(self) -> list[tuple[Shape, int]]:
        readable = self.collection.heights > 0
        pairs = np.stack([self.collection.heights[readable], self.collection.widths[readable]], axis=1)
        shapes, counts = np.unique(pairs, axis=0, return_counts=True)
        return [((int(h), int(w)), int(n)) for (h, w), n in zip(shapes, counts, strict=True)]

    def _image_flops(self, image: Shape) -> int:
        shapes = node_shapes(self.program, image)
        return sum(node_flops(self.program, i, shapes[i][0] * shapes[i][1]) for i in range(len(self.program.nodes)))

    def _seconds(self, pixels: int) -> float:
        """Return the nominal time of so many pixels of the largest image."""
        height, width = self.collection.shape
        return image_seconds(self.program, (height, width)) * pixels / (height * width)

    def _stored(self, node: int, spans: Spans) -> int:
        return map_bytes(self.program, node, spans) // FLOAT * self.item

    def _writing(self, shard_bytes: int) -> int:
        return write_overhead_bytes(shard_bytes, at_once=is_url(self.pipeline.store.path))

    def _whole(self, nodes: set[int]) -> Schedule:
        return make_schedule(self.program, self.collection.shape, {node: whole(self.shapes[node]) for node in nodes})

    # -- batches ------------------------------------------------------------------------------------------------------

    def _choose_group(self, batched: list[MapPlan]) -> int:
        working = peak_bytes(self.program, self._whole({m.node for m in batched}), 1)
        return max(1, GROUP_BYTES // max(1, working["input"] + working["maps"]))

    def _choose_batch(self, batched: list[MapPlan], pieces: Pieces) -> Pieces:
        count = len(self.collection)
        asked = self.pipeline.store.batch
        if asked is not None:
            return replace(pieces, batch=min(asked, count))
        if self.kept.batch is not None:
            return replace(pieces, batch=self.kept.batch)
        height, width = self.collection.shape
        stacked = [self._stored(m.node, whole(self.shapes[m.node])) for m in batched if m.stacked]
        seconds = self._seconds(height * width)
        spread = max(ceil_div(count, FEW_TASKS), int(SHORT_TASK_SECONDS / seconds))
        most = min(int(TASK_SECONDS / seconds), spread)
        if stacked:
            most = min(most, SHARD_BYTES // max(1, *stacked))
        batch = _round_batch(max(1, min(most, count)), count)
        room = self.resources.task_bytes
        while batch > 1 and sum(self._batch_parts(batched, replace(pieces, batch=batch)).values()) > room:
            batch = _round_batch(batch // 2, count)
        return replace(pieces, batch=batch)

    def _batch_parts(self, batched: list[MapPlan], pieces: Pieces) -> Parts:
        nodes = {m.node for m in batched}
        if pieces.stream[0]:
            working = self._stream_parts(nodes, pieces)
        else:
            group = min(pieces.group, pieces.batch)
            working = {"decode": self.decode(), **peak_bytes(self.program, self._whole(nodes), group)}
        shards = [
            (pieces.batch if m.stacked else 1) * self._stored(m.node, whole(self.shapes[m.node])) for m in batched
        ]
        return {**working, "shards": sum(shards), "writing": self._writing(max(shards))}

    # -- grid pooling of large images, streamed -------------------------------------------------------------------

    def _choose_stream(self, batched: list[MapPlan], pieces: Pieces) -> Pieces:
        """Compute one row of tiles at once, or part of one; read many rows ahead where there is room for them."""
        nodes = {m.node for m in batched}
        widest = max(self.shapes[self.program.nodes[grid].parent][1] for grid in first_grids(self.program, nodes))
        tiles = max(1, ceil_div(widest, TILE))
        fixed = self.collection.region_bytes  # taken by the smallest piece too
        room = max(1, (self.resources.task_bytes + fixed) // 2)
        pieces = replace(pieces, stream=(TILE, tiles * TILE))
        while tiles > 1 and sum(self._stream_parts(nodes, pieces).values()) > room:
            tiles = ceil_div(tiles, 2)
            pieces = replace(pieces, stream=(TILE, tiles * TILE))
        rows = READ_AHEAD_BYTES // (self.collection.shape[1] * self.program.channels * FLOAT)
        while rows > TILE:
            ahead = replace(pieces, read_rows=min(rows, self.collection.shape[0]))
            if sum(self._stream_parts(nodes, ahead).values()) <= room:
                return ahead
            rows //= 2
        return pieces

    def _stream_parts(self, nodes: set[int], pieces: Pieces) -> Parts:
        """Return the bytes of the worst piece: those at the edges and an inner one are looked at."""
        worst: Parts = {}
        size, channels = self.collection.shape, self.program.channels
        for grid in first_grids(self.program, nodes):
            height, width = self.shapes[self.program.nodes[grid].parent]
            for y in _samples(height, pieces.stream[0]):
                for x in _samples(width, pieces.stream[1]):
                    schedule = stream_schedule(self.program, size, grid, (y, x))
                    parts = peak_bytes(self.program, schedule, 1)
                    y_read = schedule.needs[ROOT][0].length
                    if pieces.read_rows:
                        rows = min(max(pieces.read_rows, y_read), size[0])
                        parts["read ahead"] = rows * size[1] * channels * FLOAT
                    read = parts.get("read ahead", parts["input"]) // (channels * FLOAT)
                    worst = max(worst, {"decode": self.decode(read), **parts}, key=lambda part: sum(part.values()))
        return worst

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _choose_block(self, blocked: list[MapPlan]) -> tuple[int, int]:
        steps = [lcm(*(m.windows[axis].stride for m in blocked if m.windows)) for axis in (0, 1)]
        asked = self.asked_block
        if asked is not None:
            return ceil_div(asked[0], steps[0]) * steps[0], ceil_div(asked[1], steps[1]) * steps[1]
        edge = 1 << max(self.collection.shape).bit_length()
        # Where reading alone takes too much, no block fits, and there would be as many tiny ones as pixels
        least = 256 if self.decode(1) > self.resources.task_bytes else 1
        while True:
            block = self._fit_block(edge, steps)
            if edge <= max(*steps, least) or self._block_fits(blocked, block):
                return block
            edge //= 2

    def _fit_block(self, edge: int, steps: list[int]) -> tuple[int, int]:
        y, x = (
            min(ceil_div(edge, step), ceil_div(n, step)) * step
            for step, n in zip(steps, self.collection.shape, strict=True)
        )
        return y, x

    def _block_fits(self, blocked: list[MapPlan], block: tuple[int, int]) -> bool:
        parts = self._block_parts(blocked, block)
        largest = max(self._block_bytes(m, block) for m in blocked)
        return (
            sum(parts.values()) <= self.resources.task_bytes
            and largest <= SHARD_BYTES
            and self._seconds(block[0] * block[1]) <= 2 * TASK_SECONDS
        )

    def _block_bytes(self, a_map: MapPlan, block: tuple[int, int]) -> int:
        assert a_map.windows is not None
        samples = (block[0] // a_map.windows[0].stride) * (block[1] // a_map.windows[1].stride)
        return samples * len(a_map.features) * self.item

    def _block_parts(self, blocked: list[MapPlan], block: tuple[int, int]) -> Parts:
        """Return the bytes of the worst block: corners, edges and an inner one are looked at."""
        blocks = owned_blocks(self.program, blocked, block, self.collection.shape)
        rows, cols = (sorted({at[axis] for at in blocks}) for axis in (0, 1))
        worst: Parts = {}
        for row in {rows[0], rows[len(rows) // 2], rows[-1]}:
            for col in {cols[0], cols[len(cols) // 2], cols[-1]}:
                wants = {}
                for a_map in blocked:
                    spans = block_spans(a_map, block, (row, col), self.shapes[a_map.node])
                    if spans is not None:
                        wants[a_map.node] = spans
                if wants:
                    schedule = make_schedule(self.program, self.collection.shape, wants)
                    worst = max(worst, peak_bytes(self.program, schedule, 1), key=lambda part: sum(part.values()))
        shards = [self._block_bytes(m, block) for m in blocked]
        return {
            "decode": self.decode(worst["input"] // (self.program.channels * FLOAT)),
            **worst,
            "shards": max(shards),
            "writing": self._writing(max(shards)),
        }


def _samples(length: int, size: int) -> list[Span]:
    """Return the first, an inner and the last of the spans of ``size`` that an axis is cut into."""
    starts = {0, (length // size // 2) * size, (length - 1) // size * size}
    return [Span(start, min(start + size, length)) for start in sorted(starts)]


def _round_batch(batch: int, count: int) -> int:
    """Round to sizes that chunks divide well: a multiple of 16, or a power of two."""
    if batch >= count:
        return count if count < 16 else ceil_div(count, 16) * 16
    return batch // 16 * 16 if batch >= 16 else 1 << (max(1, batch).bit_length() - 1)
