"""The loop of a pass: a few rows of responses are made in cache, sent through the stages and pooled, then the next.

::

    pixels ──sum──▶ ┌────────────┐ ──stages──▶ ┌────────────┐ ──gather──▶ ┌────────────┐ ──columns──▶ features
                    │ a few rows │             │ a few rows │             │  one row   │
                    └────────────┘             └────────────┘             └────────────┘

A full-resolution map exists only where nothing pools it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from featpipe.kernels.compiled import F32, F64, I64, given, kernel, part, result
from featpipe.kernels.convolve import sum_by_kernel, sum_by_row
from featpipe.kernels.pool import (
    CELLS,
    NOTHING,
    POOLING,
    SUM,
    WINDOWS,
    Pooling,
    begin,
    combine,
    fill,
    gather,
    identity,
    pool_piece,
    pool_pixels,
    pool_planes,
)
from featpipe.kernels.separable import sum_separably
from featpipe.kernels.stages import STAGES, Stages, apply_stages
from featpipe.kernels.tiles import PIXELS

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
COPY, BY_KERNEL, BY_ROW, SEPARABLY = range(4)
BUFFER_BYTES = 1 << 17
"""Rows in work: they should stay in the second-level cache beside the weights."""


class Frame(NamedTuple):
    """Where the rows come from and how they lie."""

    front: int
    """How they are made: COPY, BY_KERNEL, BY_ROW or SEPARABLY."""
    features: int
    widest: int
    """The most features at any stage."""
    height: int
    width: int
    """Rows and columns to make."""
    origin: int
    """In the flat block, of the first output's first sample."""
    image: int
    """From one image to the next."""
    row: int
    """From one output row to the next."""
    pixel: int
    line: int
    """Positions from one row in work to the next; more than ``width`` where rows are made in one run."""
    together: int
    """Rows in work at once."""
    phases: int
    phase: int
    pitch: int
    """Positions that the rows in work have room for."""
    scratch: int
    """The same of each row between the passes of separable kernels."""
    top: int
    """Row of the output for the first row made, where nothing is pooled."""


class Sums(NamedTuple):
    """The kernels of a pass; empty for COPY."""

    weights: Float32
    tiles: Int64
    offsets: Int64
    bias: Float32
    parts: Int64
    across: Float32
    across_offsets: Int64
    scales: Float32
    """(n, y, x): what responses are multiplied by; empty where by nothing."""
    shift: Float32
    """Added after that, by feature."""


FRAME = types.NamedUniTuple(I64, len(Frame._fields), Frame)
SUMS = types.NamedTuple(
    (
        given(F32, 1),
        given(I64, 1),
        given(I64, 1),
        given(F32, 1),
        given(I64, 2),
        given(F32, 1),
        given(I64, 1),
        given(F32, 3),
        given(F32, 1),
    ),
    Sums,
)


def compute_rows(
    x: Float32,
    frame: Frame,
    sums: Sums,
    stages: Stages,
    pooling: Pooling,
    runs: Int64,
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
    runs : (m, 3) int64
        Runs of features: first in the rows, first in the output, how many. Features in none of them are dropped.
    out : (n, y, x, features) float32
        Written where nothing or windows are pooled.
    totals : (n, rows, columns, features) float64
        Added to where cells are pooled.
    """
    _compute_rows(x, frame, _frozen(sums), _frozen(stages), _frozen(pooling), runs, out, totals)


def _frozen(values: Any) -> Any:
    """Make views of arrays read-only, for a compiled function takes named tuples of one type only."""
    return type(values)(*(_freeze(value) if isinstance(value, np.ndarray) else value for value in values))


def _freeze(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@part
def _live(pooling: Pooling) -> int:
    """Return the most windows along y that have a row in common."""
    most, first = 1, 0
    for q in range(pooling.rows.shape[0]):
        while pooling.rows[first, 1] <= pooling.rows[q, 0]:
            first += 1
        most = max(most, q - first + 1)
    return most


@part
def _make_rows(
    x: Float32,
    base: int,
    frame: Frame,
    sums: Sums,
    count: int,
    starts: Int64,
    none: Float32,
    scratch: Float32,
    out: Float32,
) -> None:
    """Make ``count`` rows that begin at ``x[base]``."""
    run = (count - 1) * frame.line + frame.width
    if frame.front == BY_KERNEL:
        for i in range(count):
            for j in range(frame.width):
                starts[i * frame.width + j] = i * frame.row + j * frame.pixel
        starts[run : run + PIXELS] = starts[run - 1]
        sum_by_kernel(x, base, starts, run, sums.weights, sums.tiles, sums.offsets, sums.bias, out, frame.features)
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
            sums.parts,
            sums.weights,
            sums.offsets,
            sums.across,
            sums.across_offsets,
            sums.tiles,
            sums.bias,
            none,
            scratch,
            frame.scratch,
            out,
            frame.pitch,
        )
    else:
        length = frame.width * frame.features
        for i in range(count):
            begin(out[i * length : (i + 1) * length], x[base + i * frame.row : base + i * frame.row + length], SUM)


@part
def _scale(rows: Float32, frame: Frame, scales: Float32, shift: Float32, row: int, count: int, planar: bool) -> None:
    """Multiply every position's responses by its scale and add the shift."""
    for i in range(count):
        scale = scales[row + i]
        if planar:
            for k in range(frame.features):
                at = k * frame.pitch + i * frame.line
                for j in range(frame.width):
                    rows[at + j] = rows[at + j] * scale[j] + shift[k]
        else:
            for j in range(frame.width):
                at = (i * frame.line + j) * frame.features
                for k in range(frame.features):
                    rows[at + k] = rows[at + k] * scale[j] + shift[k]


@part
def _gather_row(
    rows: Float32,
    position: int,
    features: int,
    frame: Frame,
    planar: bool,
    pooling: Pooling,
    done: int,
    row: int,
    slots: Float32,
) -> None:
    """Add a row to every window that it lies in."""
    q = done
    while q < pooling.rows.shape[0] and pooling.rows[q, 0] <= row:
        slot, first = slots[q % slots.shape[0]], row == max(pooling.rows[q, 0], 0)
        runs, length = (features, frame.width) if planar else (1, frame.width * features)
        for k in range(runs):
            at = k * frame.pitch + position if planar else position * features
            into, values = slot[k * length : (k + 1) * length], rows[at : at + length]
            if first:
                begin(into, values, pooling.by)
            else:
                gather(into, values, pooling.by)
        q += 1


@part
def _put_row(
    rows: Float32, position: int, features: int, frame: Frame, planar: bool, runs: Int64, out: Float32
) -> None:
    """Write a row that nothing pools."""
    for r in range(runs.shape[0]):
        first, column, length = runs[r, 0], runs[r, 1], runs[r, 2]
        if planar:
            for k in range(length):
                at = (first + k) * frame.pitch + position
                values = rows[at : at + frame.width]
                for j in range(frame.width):
                    out[j, column + k] = values[j]
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


@kernel(given(F32, 1), FRAME, SUMS, STAGES, POOLING, given(I64, 2), result(F32, 4), result(F64, 4))
def _compute_rows(
    x: Float32,
    frame: Frame,
    sums: Sums,
    stages: Stages,
    pooling: Pooling,
    runs: Int64,
    out: Float32,
    totals: Float64,
) -> None:
    planar = frame.front in (BY_ROW, SEPARABLY)
    features = stages.steps[-1, 2] if stages.steps.shape[0] else frame.features
    first = np.zeros(frame.widest * frame.pitch, np.float32)
    second = np.zeros(frame.widest * frame.pitch if stages.steps.shape[0] else 0, np.float32)
    ranks = np.max(sums.parts[:, 0]) if sums.parts.shape[0] else 0
    scratch = np.zeros(ranks * frame.phases * frame.scratch, np.float32)
    none = np.zeros(ranks, np.float32)
    starts = np.zeros(frame.pitch, np.int64)
    slots = np.empty((_live(pooling), features * frame.width), np.float32)
    column, cell = np.empty(pooling.cols.shape[0], np.float32), np.empty(features, np.float64)
    images = out.shape[0] if pooling.kind != CELLS else totals.shape[0]
    for n in range(images):
        done = 0
        for row in range(0, frame.height, frame.together):
            count = min(frame.together, frame.height - row)
            base = frame.origin + n * frame.image + row * frame.row
            _make_rows(x, base, frame, sums, count, starts, none, scratch, first)
            if sums.scales.size:
                _scale(first, frame, sums.scales[n], sums.shift, row, count, planar)
            held = apply_stages(stages, first, second, frame.pitch if planar else count * frame.width, planar)
            for i in range(count):
                if pooling.kind == NOTHING:
                    _put_row(held, i * frame.line, features, frame, planar, runs, out[n, frame.top + row + i])
                    continue
                _gather_row(held, i * frame.line, features, frame, planar, pooling, done, row + i, slots)
                while done < pooling.rows.shape[0] and min(pooling.rows[done, 1], frame.height) <= row + i + 1:
                    slot, into = slots[done % slots.shape[0]], pooling.rows[done, 2]
                    if max(pooling.rows[done, 0], 0) >= min(pooling.rows[done, 1], frame.height):
                        fill(slot, identity(pooling.by))  # a window of padding alone
                    if pooling.kind == WINDOWS:
                        if planar:
                            pool_planes(slot, frame.width, pooling, column, runs, out[n, into])
                        else:
                            pool_pixels(slot, frame.width, features, pooling, runs, out[n, into])
                    else:
                        _add_pieces(slot, features, frame, planar, pooling, runs, cell, totals[n, into])
                    done += 1
