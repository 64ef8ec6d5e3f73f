"""One task, whole: read its images, run every layer of every branch and scale, write its shards, return a receipt.

images ──read──▶ (n, y, x, c) ──chain──▶ maps ──write──▶ shards          the same task run twice writes the same bytes
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from featpipe.chain.execute import run_schedule, whole_schedule
from featpipe.chain.stream import stream_image
from featpipe.errors import ImageError, UnavailableError
from featpipe.geometry.axis import Span
from featpipe.images.reader import Reader
from featpipe.plan.layout import array_plan, block_spans
from featpipe.plan.model import Failure, Plan, Task
from featpipe.plan.program import ROOT
from featpipe.plan.schedule import make_schedule, node_shapes
from featpipe.reading.retry import retried
from featpipe.store.shard import Shard, to_stored
from featpipe.store.write import NoWriter, StoreWriter

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Receipt:
    """What a finished task tells; small, for it travels."""

    task: int
    images: int
    failures: tuple[Failure, ...]
    pixels: int
    """Input pixels read, halo included."""
    bytes_written: int
    """Features written, before compression."""
    seconds: dict[str, float]
    """Spent on ``read``, ``compute`` and ``write``."""
    shards: dict[int, list[Shard]] = field(default_factory=dict)
    """What was written of each map."""
    retried: int = 0
    """Reads that succeeded only when they were tried again."""
    contents: dict[int, str] = field(default_factory=dict)
    """The content of the images that were read whole."""


@dataclass(eq=False)
class Work:
    """All that tasks share: sent once to every worker, opened there."""

    plan: Plan
    reader: Reader
    writer: StoreWriter
    failed: Mapping[int, Failure] = field(default_factory=dict)
    """Images that have failed already, when they were scanned or in other tasks: all of their features are NaN."""

    def __post_init__(self) -> None:
        self.failed = {**self.plan.unreadable(), **self.failed}

    def run(
        self, index: int, *, maps: tuple[int, ...] | None = None, without: Mapping[int, str] | None = None
    ) -> Receipt:
        """Run one task; raises `ImageError` only where ``images.on_error`` is ``fail``.

        Parameters
        ----------
        index : int
        maps : tuple of int, optional
            Those of its maps to make; all unless given.
        without : mapping of int to str, optional
            Images to leave unread, and why: they fail.
        """
        task = self.plan.tasks[index]
        if maps is not None:
            task = replace(task, maps=maps)
        return self._run(task, {image: Failure(image, why) for image, why in (without or {}).items()})

    def images(self, index: int) -> Span:
        """Return the images of a task."""
        return self.plan.tasks[index].images

    def try_images(self, index: int, images: Span) -> None:
        """Read and compute some images of a task, and write nothing."""
        work = replace(self, writer=NoWriter(self.writer.place))
        with suppress(ImageError):
            work._run(replace(self.plan.tasks[index], images=images), {})

    def _run(self, task: Task, without: Mapping[int, Failure]) -> Receipt:
        run = _Run(self, task, {**self.failed, **without} if without else self.failed)
        if task.block is not None:
            run.block(task.block)
        elif self.plan.pieces.stream[0]:
            run.stream()
        else:
            run.batch()
        return run.receipt()


@dataclass(eq=False)
class _Run:
    work: Work
    task: Task
    failed: Mapping[int, Failure]
    """Images that are not read, for they have failed already."""
    failures: list[Failure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "compute": 0.0, "write": 0.0})
    pixels: int = 0
    written: int = 0
    retried: int = 0
    shards: dict[int, list[Shard]] = field(default_factory=dict)
    contents: dict[int, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.work.plan

    @cached_property
    def maps_of(self) -> Mapping[int, list[int]]:
        """Return the task's maps by the node whose output they are."""
        found: dict[int, list[int]] = {}
        for i in self.task.maps:
            found.setdefault(self.plan.maps[i].node, []).append(i)
        return found

    def receipt(self) -> Receipt:
        count = self.task.images.length
        return Receipt(
            self.task.index, count, tuple(self.failures), self.pixels, self.written, self.seconds,
            {i: list({shard.key: shard for shard in shards}.values()) for i, shards in self.shards.items()},
            self.retried,
            self.contents,
        )  # fmt: skip

    # -- the three kinds of task --------------------------------------------------------------------------------------

    def batch(self) -> None:
        """Small images: a few in work at once, the stacked maps gathered to whole shards."""
        nodes = frozenset(self.plan.maps[i].node for i in self.task.maps)
        shards = self._empty_shards()
        for rows, pixels in self._groups():
            schedule = whole_schedule(self.plan.program, (pixels.shape[1], pixels.shape[2]), nodes)
            for node, values in self._timed(run_schedule(self.plan.program, schedule, {ROOT: pixels})):
                self._gather(shards, node, rows, values)
        self._write_shards(shards)

    def stream(self) -> None:
        """Grid pooling of large images, one after another, each read piece by piece."""
        nodes = {self.plan.maps[i].node for i in self.task.maps}
        shards = self._empty_shards()
        for image in range(*self.task.images):
            if image in self.failed:
                self._fail(self.failed[image])
                continue
            read = partial(self._read, image)
            streamed = stream_image(
                self.plan.program,
                self.plan.shape(image),
                nodes,
                self.plan.pieces.stream,
                read,
                self.plan.pieces.read_rows,
            )
            try:
                for node, values in self._timed(streamed):
                    self._gather(shards, node, [image], values)
            except ImageError as error:
                self._fail(_failure(image, error))
        self._write_shards(shards)

    def block(self, at: tuple[int, int]) -> None:
        """One block of a large image: read core and halo, write a shard of every map."""
        image, plan = self.task.images.start, self.plan
        shape = plan.shape(image)
        shapes = node_shapes(plan.program, shape)
        assert plan.block is not None
        owned: dict[int, tuple[Span, Span]] = {}
        for i in self.task.maps:
            spans = block_spans(plan.maps[i], plan.block, at, shapes[plan.maps[i].node])
            if spans is not None:
                owned[i] = spans
        if image in self.failed:
            self._fail(self.failed[image], owned)
            return
        if not owned:  # of the maps that are missing; others, which are there, end further down or right
            return
        schedule = make_schedule(plan.program, shape, {plan.maps[i].node: spans for i, spans in owned.items()})
        try:
            pixels = self._read(image, *schedule.needs[ROOT])[None]
        except ImageError as error:
            self._fail(_failure(image, error), owned)
            return
        for node, values in self._timed(run_schedule(plan.program, schedule, {ROOT: pixels})):
            for i in self.maps_of[node]:
                if i in owned:
                    self._write(i, image, owned[i], values)

    def _timed(self, maps: Iterator[tuple[int, Float32]]) -> Iterator[tuple[int, Float32]]:
        """Pass maps through; the time taken to make them, less the reading within, is ``compute``."""
        while True:
            start, read = time.perf_counter(), self.seconds["read"]
            item = next(maps, None)
            self.seconds["compute"] += time.perf_counter() - start - (self.seconds["read"] - read)
            if item is None:
                return
            yield item

    # -- reading -------------------------------------------------------------------------------------------------------

    def _groups(self) -> Iterator[tuple[list[int], Float32]]:
        """Yield runs of images of one shape, as rows and (n, y, x, c) pixels."""
        rows: list[int] = []
        pixels: list[Float32] = []
        for image in range(*self.task.images):
            one = self._read_image(image)
            if one is None:
                continue
            if rows and (len(rows) == self.plan.pieces.group or one.shape != pixels[0].shape):
                yield rows, np.stack(pixels)
                rows, pixels = [], []
            rows.append(image)
            pixels.append(one)
        if rows:
            yield rows, np.stack(pixels)

    def _read_image(self, image: int) -> Float32 | None:
        if image in self.failed:
            self._fail(self.failed[image])
            return None
        height, width = self.plan.shape(image)
        try:
            return self._read(image, Span(0, height), Span(0, width))
        except ImageError as error:
            self._fail(_failure(image, error))
            return None

    def _read(self, image: int, y: Span, x: Span) -> Float32:
        start, before = time.perf_counter(), retried()
        pixels = self.work.reader.read(image, y, x, self.contents)
        self.seconds["read"] += time.perf_counter() - start
        self.retried += retried() - before
        self.pixels += y.length * x.length
        return pixels

    def _fail(self, failure: Failure, owned: Mapping[int, tuple[Span, Span]] | None = None) -> None:
        """Note a failure, and write NaN to what this task owns of the image in maps of which it owns whole shards.

        Parameters
        ----------
        failure : Failure
        owned : mapping of int to (Span, Span), optional
            Map to the rows and columns that the task owns of it; all of the image's own maps unless given. The rows of
            stacked maps become NaN when their shards are written.
        """
        image = failure.image
        if self.plan.pipeline.images.on_error == "fail":
            raise (UnavailableError if failure.unavailable else ImageError)(failure.reason)
        self.failures.append(failure)
        if owned is None:
            own = [i for i in self.task.maps if not self.plan.maps[i].stacked] if min(self.plan.shape(image)) else []
            shapes = {i: array_plan(self.plan, i, image).shape for i in own}
            owned = {i: (Span(0, shape[0]), Span(0, shape[1])) for i, shape in shapes.items()}
        for i, spans in owned.items():
            shape = (1, spans[0].length, spans[1].length, len(self.plan.maps[i].features))
            self._write(i, image, spans, np.broadcast_to(np.float32(np.nan), shape))

    # -- writing -------------------------------------------------------------------------------------------------------

    def _empty_shards(self) -> dict[int, npt.NDArray[np.floating]]:
        """Return an empty shard for every stacked map."""
        shards = {}
        readable = int(np.argmax(self.plan.collection.heights > 0))
        for i in self.task.maps:
            if self.plan.maps[i].stacked:
                shape = (self.task.images.length, *array_plan(self.plan, i, readable).shape[1:])
                shards[i] = np.empty(shape, self.plan.pipeline.store.dtype)
        return shards

    def _gather(self, shards: dict[int, npt.NDArray[np.floating]], node: int, rows: list[int], values: Float32) -> None:
        for i in self.maps_of[node]:
            if i in shards:
                first = rows[0] - self.task.images.start
                run = rows[-1] - rows[0] + 1 == len(rows)
                at = slice(first, first + len(rows)) if run else np.array(rows) - self.task.images.start
                shards[i][at] = to_stored(values, shards[i].dtype)
            else:
                for row, one in zip(rows, values, strict=True):
                    self._write(i, row, (Span(0, one.shape[0]), Span(0, one.shape[1])), one[None])

    def _write_shards(self, shards: dict[int, npt.NDArray[np.floating]]) -> None:
        """Write the shards; rows of images that failed are NaN."""
        failed = [failure.image - self.task.images.start for failure in self.failures]
        for i in list(shards):
            shards[i][failed] = np.nan
            self._write_region(i, self.plan.maps[i].name, (slice(*self.task.images),), shards.pop(i))

    def _write(self, map_index: int, image: int, spans: tuple[Span, Span], values: Float32) -> None:
        region = (slice(*spans[0]), slice(*spans[1]))
        name = self.plan.maps[map_index].name
        if self.plan.maps[map_index].stacked:
            self._write_region(map_index, name, (slice(image, image + 1), *region), values)
        else:
            self._write_region(map_index, f"images/{image}/{name}", region, values[0])

    def _write_region(
        self, map_index: int, group: str, region: tuple[slice, ...], values: npt.NDArray[np.floating]
    ) -> None:
        start = time.perf_counter()
        self.shards.setdefault(map_index, []).extend(self.work.writer.write(group, region, values))
        self.seconds["write"] += time.perf_counter() - start
        self.written += values.size * np.dtype(self.plan.pipeline.store.dtype).itemsize


def _failure(image: int, error: ImageError) -> Failure:
    return Failure(image, str(error), isinstance(error, UnavailableError))
