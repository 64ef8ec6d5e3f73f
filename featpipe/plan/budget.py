"""Choosing batches and blocks from memory and work, and what they will hold in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import lcm

import numpy as np

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE, ceil_div
from featpipe.plan.collection import Collection
from featpipe.plan.layout import block_spans, owned_blocks
from featpipe.plan.model import MapPlan, Memory
from featpipe.plan.program import ROOT, Program
from featpipe.plan.schedule import (
    FLOAT,
    Schedule,
    Shape,
    Spans,
    first_grids,
    make_schedule,
    map_bytes,
    node_flops,
    node_shapes,
    peak_bytes,
    stream_schedule,
    whole,
)
from featpipe.plan.writing import write_overhead_bytes
from featpipe.spec.pipeline import Pipeline

SHARD_BYTES = 64 << 20
"""Most bytes of one shard before compression."""
GROUP_BYTES = 16 << 20
"""Working memory that the images of a batch that are in work at once may take."""
TASK_SECONDS = 1.0
SHORT_TASK_SECONDS = 0.05
FEW_TASKS = 16
"""A small collection is cut into this many tasks, if they are not too short, so that every core has some."""
FLOPS_PER_SECOND = 100e9
PIXELS_PER_SECOND = 20e6
"""Nominal speeds, so that shards depend on the pipeline and not on the machine that planned them."""

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


@dataclass(frozen=True, eq=False)
class Budget:
    """Sizes and costs of one program on one collection; the largest image sets the memory."""

    pipeline: Pipeline
    collection: Collection
    program: Program
    resources: Resources

    @cached_property
    def shapes(self) -> dict[int, Shape]:
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

    def one_image(self) -> int:
        """Return the bytes of a task that computes the largest image whole."""
        outputs = {output.node for output in self.program.outputs}
        stored = [self._stored(node, whole(self.shapes[node])) for node in outputs]
        working = peak_bytes(self.program, self._whole(outputs), 1)
        return self.decode() + sum(working.values()) + sum(stored) + write_overhead_bytes(max(stored))

    def choose_pieces(
        self, maps: tuple[MapPlan, ...], *, large: bool
    ) -> tuple[tuple[int, int] | None, tuple[int, int], int, int]:
        """Return block (or None), stream, group and batch; see `Plan`."""
        batched = [m for m in maps if m.batched]
        blocked = [m for m in maps if not m.batched]
        block = self._choose_block(blocked) if blocked else None
        stream = self._choose_stream(batched) if large and batched else (0, 0)
        group = 1 if large or not batched else self._choose_group(batched)
        batch = self._choose_batch(batched, group, stream) if batched else 1
        return block, stream, min(group, batch), batch

    def memory(
        self,
        maps: tuple[MapPlan, ...],
        block: tuple[int, int] | None,
        stream: tuple[int, int],
        group: int,
        batch: int,
    ) -> Memory:
        """Return the planned memory of a run in these pieces."""
        batched = [m for m in maps if m.batched]
        blocked = [m for m in maps if not m.batched]
        parts: Parts = {}
        if batched:
            parts = self._batch_parts(batched, batch, group, stream)
        if blocked and block is not None:
            parts = max(parts, self._block_parts(blocked, block), key=lambda part: sum(part.values()))
        resources = self.resources
        return Memory(resources.base_bytes, sum(parts.values()), parts, resources.threads, resources.memory_bytes)

    def flops(self) -> int:
        """Return the operations of the whole run."""
        return sum(self._image_flops(shape) * count for shape, count in self._sizes())

    def output_bytes(self, maps: tuple[MapPlan, ...]) -> int:
        """Return the bytes of all features before compression; rows of unreadable images included."""
        total = 0
        for a_map in maps:
            if a_map.stacked:
                total += len(self.collection) * self._stored(a_map.node, whole(self.shapes[a_map.node]))
            else:
                for shape, count in self._sizes():
                    total += count * self._stored(a_map.node, whole(node_shapes(self.program, shape)[a_map.node]))
        return total

    def _sizes(self) -> list[tuple[Shape, int]]:
        readable = self.collection.heights > 0
        pairs = np.stack([self.collection.heights[readable], self.collection.widths[readable]], axis=1)
        shapes, counts = np.unique(pairs, axis=0, return_counts=True)
        return [((int(h), int(w)), int(n)) for (h, w), n in zip(shapes, counts, strict=True)]

    def _image_flops(self, image: Shape) -> int:
        shapes = node_shapes(self.program, image)
        return sum(node_flops(self.program, i, shapes[i][0] * shapes[i][1]) for i in range(len(self.program.nodes)))

    def _decode_part(self, parts: Parts) -> int:
        """Return the bytes that reading a block of ``parts["input"]`` bytes takes."""
        return self.decode(parts["input"] // (self.program.channels * FLOAT))

    def _seconds(self, pixels: int, fraction: float = 1.0) -> float:
        height, width = self.collection.shape
        share = fraction * pixels / (height * width)
        return share * self._image_flops((height, width)) / FLOPS_PER_SECOND + pixels / PIXELS_PER_SECOND

    def _stored(self, node: int, spans: Spans) -> int:
        return map_bytes(self.program, node, spans) // FLOAT * self.item

    def _whole(self, nodes: set[int]) -> Schedule:
        return make_schedule(self.program, self.collection.shape, {node: whole(self.shapes[node]) for node in nodes})

    # -- batches ------------------------------------------------------------------------------------------------------

    def _choose_group(self, batched: list[MapPlan]) -> int:
        working = peak_bytes(self.program, self._whole({m.node for m in batched}), 1)
        return max(1, GROUP_BYTES // max(1, working["input"] + working["maps"]))

    def _choose_batch(self, batched: list[MapPlan], group: int, stream: tuple[int, int]) -> int:
        count = len(self.collection)
        asked = self.pipeline.store.batch
        if asked is not None:
            return min(asked, count)
        height, width = self.collection.shape
        stacked = [self._stored(m.node, whole(self.shapes[m.node])) for m in batched if m.stacked]
        seconds = self._seconds(height * width)
        spread = max(ceil_div(count, FEW_TASKS), int(SHORT_TASK_SECONDS / seconds))
        most = min(int(TASK_SECONDS / seconds), spread)
        if stacked:
            most = min(most, SHARD_BYTES // max(1, *stacked))
        batch = _round_batch(max(1, min(most, count)), count)
        room = self.resources.task_bytes
        while batch > 1 and sum(self._batch_parts(batched, batch, group, stream).values()) > room:
            batch = _round_batch(batch // 2, count)
        return batch

    def _batch_parts(self, batched: list[MapPlan], batch: int, group: int, stream: tuple[int, int]) -> Parts:
        nodes = {m.node for m in batched}
        group = min(group, batch)
        parts = self._stream_parts(nodes, stream) if stream[0] else peak_bytes(self.program, self._whole(nodes), group)
        shards = [(batch if m.stacked else 1) * self._stored(m.node, whole(self.shapes[m.node])) for m in batched]
        parts = {"decode": self._decode_part(parts) if stream[0] else self.decode(), **parts}
        parts["shards"] = sum(shards)
        parts["writing"] = write_overhead_bytes(max(shards))
        return parts

    # -- grid pooling of large images, streamed -------------------------------------------------------------------

    def _choose_stream(self, batched: list[MapPlan]) -> tuple[int, int]:
        """Return the samples (y, x) of a grid pooling's input to compute at once: one row of tiles, or part of one."""
        nodes = {m.node for m in batched}
        widest = max(self.shapes[self.program.nodes[grid].parent][1] for grid in first_grids(self.program, nodes))
        tiles = max(1, ceil_div(widest, TILE))
        room = max(1, self.resources.task_bytes)
        while tiles > 1:
            parts = self._stream_parts(nodes, (TILE, tiles * TILE))
            if sum(parts.values()) + self._decode_part(parts) <= room // 2:
                break
            tiles = ceil_div(tiles, 2)
        return TILE, tiles * TILE

    def _stream_parts(self, nodes: set[int], stream: tuple[int, int]) -> Parts:
        worst: Parts = {"input": 0, "maps": 0, "strips": 0}
        for grid in first_grids(self.program, nodes):
            parent = self.program.nodes[grid].parent
            height, width = self.shapes[parent]
            y, x = _middle(height, stream[0]), _middle(width, stream[1])
            schedule = stream_schedule(self.program, self.collection.shape, grid, (y, x))
            parts = (
                peak_bytes(self.program, schedule, 1) if schedule is not None else {"input": 0, "maps": 0, "strips": 0}
            )
            if parent == ROOT:
                parts["input"] = y.length * x.length * self.program.channels * FLOAT
            worst = max(worst, parts, key=lambda part: sum(part.values()))
        return worst

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _choose_block(self, blocked: list[MapPlan]) -> tuple[int, int]:
        steps = [lcm(*(m.windows[axis].stride for m in blocked if m.windows)) for axis in (0, 1)]
        asked = self.pipeline.store.block
        if asked is not None:
            return ceil_div(asked[0], steps[0]) * steps[0], ceil_div(asked[1], steps[1]) * steps[1]
        edge = 1 << max(self.collection.shape).bit_length()
        while True:
            block = self._fit_block(edge, steps)
            if edge <= max(steps) or self._block_fits(blocked, block):
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
            "decode": self._decode_part(worst),
            **worst,
            "shards": max(shards),
            "writing": write_overhead_bytes(max(shards)),
        }


def _middle(length: int, size: int) -> Span:
    start = (length // 2) // TILE * TILE if length > size else 0
    start = max(0, min(start, length - size) // TILE * TILE)
    return Span(start, min(start + size, length))


def _round_batch(batch: int, count: int) -> int:
    """Round to sizes that chunks divide well: a multiple of 16, or a power of two."""
    if batch >= count:
        return count if count < 16 else ceil_div(count, 16) * 16
    return batch // 16 * 16 if batch >= 16 else 1 << (max(1, batch).bit_length() - 1)
