"""The loop of a pass: a few rows of responses are made in cache, sent through the stages and pooled, then the next.

::

    pixels ──sum──▶ ┌────────────┐ ──stages──▶ ┌────────────┐ ──gather──▶ ┌────────────┐ ──columns──▶ features
                    │ a few rows │             │ a few rows │             │  one row   │
                    └────────────┘             └────────────┘             └────────────┘

A full-resolution map exists only where nothing pools it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, F64, I64, borrow, given, kernel, part, result
from featpipe.kernels.convolve import sum_by_kernel, sum_by_row
from featpipe.kernels.frame import BY_KERNEL, BY_ROW, FRAME, SEPARABLY, SUMS, WORK, Frame, Sums, Work
from featpipe.kernels.pool import (
    ALL,
    BELOW,
    CELLS,
    NOTHING,
    POOLING,
    SUM,
    Pooling,
    begin,
    combine,
    gather,
    pool_piece,
    pool_pixels,
    pool_planes,
)
from featpipe.kernels.separable import sum_separably
from featpipe.kernels.stages import STAGES, Stages, apply_stages
from featpipe.kernels.tiles import PIXELS, TURNED, turn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
NEIGHBOURS = 16
"""Pixels whose features are written at once, where they lie apart: their lines stay in the first-level cache."""
BUFFER_BYTES = 1 << 18
"""Rows in work: they should stay in the second-level cache beside the weights."""


def compute_rows(
    x: Float32,
    frame: Frame,
    sums: Sums,
    stages: Stages,
    pooling: Pooling,
    runs: Int64,
    cut: int,
    out: Float32,
    totals: Float64,
) -> None:
    """Run one pass over a batch of images.

    Parameters
    ----------
    x : flat float32
    frame : Frame
    sums : Sums
    stages : Stages
    pooling : Pooling
        These three as `freeze` returns them.
    runs : (m, 3) int64
        Runs of features: first in the rows, first in the output, how many. Features in none of them are dropped.
    cut : int
        The first run of the second half of the rows gathered, where there are two.
    out : (n, y, x, features) float32
        Written where nothing or windows are pooled.
    totals : (n, rows, columns, features) float64
        Added to where cells are pooled.
    """
    features = int(stages.steps[-1, 2]) if len(stages.steps) else frame.features
    work = Work(
        first=np.empty(frame.widest * frame.pitch, np.float32),
        second=np.empty(frame.widest * frame.pitch if len(stages.steps) else 0, np.float32),
        scratch=np.zeros(frame.ranks * frame.phases * frame.scratch, np.float32),
        products=np.empty(frame.products * frame.pitch, np.float32),
        starts=np.empty(frame.pitch, np.int64),
        slots=np.empty((_live(pooling.rows), stages.halves, features * frame.width), np.float32),
        column=np.empty(len(pooling.cols), np.float32),
        cell=np.empty(features, np.float64),
    )
    _compute_rows(x, frame, sums, stages, pooling, runs, cut, work, out, totals)


def _live(rows: Int64) -> int:
    """Return the most windows along y that have a row in common; ``rows`` holds their first and last but one."""
    ended = np.searchsorted(rows[:, 1], rows[:, 0], side="right")
    return int((np.arange(1, len(rows) + 1) - ended).max(initial=1))


Values = TypeVar("Values", Sums, Stages, Pooling)


def freeze(values: Values) -> Values:
    """Make a tuple's arrays contiguous and read-only, as compiled code takes it that they are."""
    parts: Any = (_freeze(value) if isinstance(value, np.ndarray) else value for value in values)
    return type(values)(*parts)


def _freeze(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@part
def _copy_rows(x: Float32, base: int, frame: Frame, count: int, out: Float32) -> None:
    length = frame.width * frame.features
    for i in range(count):
        values = x[base + i * frame.row : base + i * frame.row + length]
        begin(out[i * length : (i + 1) * length], values, SUM, ALL, np.float32(0))


@part
def _make_rows(
    x: Float32,
    base: int,
    frame: Frame,
    sums: Sums,
    image: int,
    row: int,
    count: int,
    work: Work,
) -> None:
    """Make ``count`` rows from ``row`` on, of which the first pixel begins at ``x[base]``."""
    starts, out = work.starts, work.first
    run = (count - 1) * frame.line + frame.width
    if frame.front == BY_KERNEL:
        for i in range(count):
            for j in range(frame.width):
                starts[i * frame.width + j] = i * frame.row + j * frame.pixel
        starts[run : run + PIXELS] = starts[run - 1]
        sum_by_kernel(
            x,
            base,
            starts,
            run,
            sums.weights,
            sums.tiles,
            sums.offsets,
            sums.shift if sums.scales.size else sums.bias,
            sums.scales.size,
            sums.scales,
            image * frame.height * frame.width + row * frame.width,
            out,
            frame.features,
        )
    elif frame.front == BY_ROW:
        sum_by_row(x, base, run, sums.weights, 0, sums.tiles, sums.offsets, sums.bias, 0, out, 0, frame.pitch)
    elif frame.front == SEPARABLY:
        sum_separably(
            x,
            base,
            run,
            frame.phases,
            frame.phase,
            count * frame.line,
            sums.weights,
            sums.tiles,
            sums.offsets,
            sums.steps,
            sums.across,
            sums.across_tiles,
            sums.across_offsets,
            sums.bias,
            sums.none,
            work.scratch,
            frame.scratch,
            work.products,
            out,
            frame.pitch,
        )
    else:
        _copy_rows(x, base, frame, count, out)


@part
def _scale_rows(rows: Float32, frame: Frame, scales: Float32, shift: Float32, first: int, count: int) -> None:
    """Multiply every position's responses by its scale and add the shift."""
    for i in range(count):
        scale = scales[first + i * frame.width : first + (i + 1) * frame.width]
        for k in range(frame.features):
            at, add = k * frame.pitch + i * frame.line, shift[k]
            values = rows[at : at + frame.width]
            for j in range(frame.width):
                values[j] = values[j] * scale[j] + add


@part
def _gather_row(
    rows: Float32,
    position: int,
    features: int,
    frame: Frame,
    planar: bool,
    stages: Stages,
    pooling: Pooling,
    done: int,
    row: int,
    slots: Float32,
) -> None:
    """Add a row to every window that it lies in."""
    q = done
    runs, length = (features, frame.width) if planar else (1, frame.width * features)
    while q < pooling.rows.shape[0] and pooling.rows[q, 0] <= row:
        first = row == max(pooling.rows[q, 0], 0)
        for half in range(stages.halves):
            slot, take = slots[q % slots.shape[0], half], stages.take if half == 0 else BELOW
            for k in range(runs):
                at = k * frame.pitch + position if planar else position * features
                into, values = slot[k * length : (k + 1) * length], rows[at : at + length]
                if first:
                    begin(into, values, pooling.by, take, np.float32(stages.threshold))
                else:
                    gather(into, values, pooling.by, take, np.float32(stages.threshold))
        q += 1


@part
def _put_row(
    rows: Float32, position: int, features: int, frame: Frame, planar: bool, runs: Int64, out: Float32
) -> None:
    """Write a row that nothing pools."""
    for r in range(runs.shape[0]):
        first, column, length = runs[r, 0], runs[r, 1], runs[r, 2]
        if planar and length >= TURNED and frame.width >= TURNED:
            for start in range(0, frame.width, TURNED):
                pixel = min(start, frame.width - TURNED)
                for k in range(0, length, TURNED):
                    feature = min(k, length - TURNED)
                    at = (first + feature) * frame.pitch + position + pixel
                    turn(rows, at, frame.pitch, out, pixel * out.shape[1] + column + feature, out.shape[1])
        elif planar:
            for start in range(0, frame.width, NEIGHBOURS):
                here = min(NEIGHBOURS, frame.width - start)
                for k in range(length):
                    at = (first + k) * frame.pitch + position + start
                    values = rows[at : at + here]
                    for j in range(here):
                        out[start + j, column + k] = values[j]
        else:
            for j in range(frame.width):
                at = (position + j) * features + first
                values, into = rows[at : at + length], out[j, column : column + length]
                for k in range(length):
                    into[k] = values[k]


@part
def _add_pieces(
    rows: Float32,
    features: int,
    frame: Frame,
    planar: bool,
    pooling: Pooling,
    runs: Int64,
    values: Float64,
    totals: Float64,
) -> None:
    """Add the pieces of a row of tiles to their cells."""
    for piece in pooling.cols:
        pool_piece(rows, frame.width, features, planar, (piece[0], piece[1]), pooling.by, values)
        for run in runs:
            for k in range(run[2]):
                held = totals[piece[2], run[1] + k]
                totals[piece[2], run[1] + k] = combine(held, values[run[0] + k], pooling.by)


@kernel(given(F32, 1), FRAME, SUMS, STAGES, POOLING, given(I64, 2), I64, WORK, result(F32, 4), result(F64, 4))
def _compute_rows(
    x: Float32,
    frame: Frame,
    sums: Sums,
    stages: Stages,
    pooling: Pooling,
    runs: Int64,
    cut: int,
    work: Work,
    out: Float32,
    totals: Float64,
) -> None:
    x, runs, out, totals = borrow(x), borrow(runs), borrow(out), borrow(totals)
    sums, stages, pooling, work = borrow(sums), borrow(stages), borrow(pooling), borrow(work)
    planar = frame.front in (BY_ROW, SEPARABLY)
    features = stages.steps[-1, 2] if stages.steps.shape[0] else frame.features
    images = out.shape[0] if pooling.kind != CELLS else totals.shape[0]
    for n in range(images):
        done = 0
        for row in range(0, frame.height, frame.together):
            count = min(frame.together, frame.height - row)
            base = frame.origin + n * frame.image + row * frame.row
            _make_rows(x, base, frame, sums, n, row, count, work)
            if planar and sums.scales.size:
                _scale_rows(work.first, frame, sums.scales, sums.shift, (n * frame.height + row) * frame.width, count)
            pixels = frame.pitch if planar else count * frame.width
            held = apply_stages(stages, work.first, work.second, pixels, planar)
            for i in range(count):
                if pooling.kind == NOTHING:
                    _put_row(held, i * frame.line, features, frame, planar, runs, out[n, frame.top + row + i])
                    continue
                position = i * frame.line
                _gather_row(held, position, features, frame, planar, stages, pooling, done, row + i, work.slots)
                while done < pooling.rows.shape[0] and min(pooling.rows[done, 1], frame.height) <= row + i + 1:
                    into = pooling.rows[done, 2]
                    for half in range(stages.halves):
                        slot = work.slots[done % work.slots.shape[0], half]
                        some = runs[cut * half : cut if half == 0 else runs.shape[0]]
                        if pooling.kind == CELLS:
                            _add_pieces(slot, features, frame, planar, pooling, some, work.cell, totals[n, into])
                        elif planar:
                            pool_planes(slot, frame.width, pooling, work.column, some, out[n, into])
                        else:
                            pool_pixels(slot, frame.width, features, pooling, some, out[n, into])
                    done += 1
