"""Pooling: statistics of windows, and of the cells of a grid, gathered row by row.

Rows are first combined down each column, in float32, then the columns of a window from left to right. Cells are laid
out in canonical tiles whose origin is the map's: each tile's part of a cell is combined down its columns, at most TILE
rows, then from left to right in float64, and the parts are added up in raster order. Blocks that hold whole tiles and
arrive in raster order therefore give the same bits as the whole map at once::

    ┌────┬────┬────┐
    │ 1  │ 2 ┊│ 3  │     ─ │ tiles    ┊ ┄ cells
    ├────┼────┼────┤
    │┄┄┄┄│┄┄┄┼│┄┄┄┄│
    │ 4  │ 5 ┊│ 6  │
    └────┴────┴────┘

Padding of zeros takes no part: it never wins a max or min, adds nothing to a sum, and counts in a mean. It is narrower
than the window, so that every window holds a sample.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE, cells
from featpipe.kernels.compiled import I64, given, named_tuple, part

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Statistic = Literal["max", "mean", "min", "sum", "l2", "std"]

MAX, MEAN, MIN, SUM, L2, STD = range(6)
CODES: dict[Statistic, int] = {"max": MAX, "mean": MEAN, "min": MIN, "sum": SUM, "l2": L2, "std": STD}
NOTHING, WINDOWS, CELLS = range(3)
ALL, ABOVE, BELOW = range(3)
"""What is gathered of a value v: itself, or what of v - t or of -v - t is positive."""


class Pooling(NamedTuple):
    """How rows are pooled, for the parts below."""

    kind: int
    by: int
    window: int
    """Samples of a window, padding included."""
    rows: Int64
    """(windows or pieces of cells, 3): first row, row after the last, of the rows that come; cell."""
    cols: Int64
    """The same along x."""


POOLING = named_tuple(Pooling, [I64, I64, I64, given(I64, 2), given(I64, 2)])
NO_POOLING = Pooling(NOTHING, SUM, 1, np.empty((0, 3), np.int64), np.empty((0, 3), np.int64))


def pool_windows(
    by: Statistic,
    size: tuple[int, int],
    stride: tuple[int, int],
    first: tuple[int, int],
    counts: tuple[int, int],
    top: int,
) -> Pooling:
    """Return the pooling of a run of windows.

    Parameters
    ----------
    by : {"max", "mean", "min", "sum", "l2"}
    size, stride : (int, int)
        Along y and x, in samples.
    first : (int, int)
        First sample of the first window, counted from the first row and column that come.
    counts : (int, int)
        Windows along y and x.
    top : int
        Row of the output for the first of them.
    """
    edges = []
    for axis in (0, 1):
        index = np.arange(counts[axis])
        start = first[axis] + index * stride[axis]
        edges.append(np.stack([start, start + size[axis], index + (top if axis == 0 else 0)], 1))
    return Pooling(WINDOWS, CODES[by], size[0] * size[1], edges[0], edges[1])


def pool_cells(by: Statistic, grid: tuple[int, int], height: int, width: int, y: Span, x: Span) -> Pooling:
    """Return the pooling of the samples ``y``, ``x`` of a map to a grid of cells; they begin at a tile's corner.

    Raises
    ------
    ValueError
        If they do not.
    """
    if y.start % TILE or x.start % TILE:
        raise ValueError(f"block at ({y.start}, {x.start}) does not begin at a multiple of {TILE}")
    return Pooling(CELLS, CODES[by], 1, _pieces(height, grid[0], y), _pieces(width, grid[1], x))


def _pieces(length: int, parts: int, span: Span) -> Int64:
    """Return the pieces of a span that lie in one tile and one cell."""
    spans = cells(length, parts)
    cuts = sorted({span.start, span.stop, *range(span.start, span.stop, TILE), *(cell.start for cell in spans)})
    cuts = [cut for cut in cuts if span.start <= cut <= span.stop]
    starts = np.array(cuts[:-1], np.int64)
    cell = np.searchsorted([one.start for one in spans], starts, side="right") - 1
    return np.stack([starts - span.start, np.array(cuts[1:], np.int64) - span.start, cell], 1).astype(np.int64)


@part
def identity(by: int) -> Any:
    """Return the value that leaves a statistic as it is."""
    return np.float32(-np.inf if by == MAX else np.inf if by == MIN else 0.0)


@part
def combine(held: float, value: float, by: int) -> float:
    """Combine two columns, whose values are squares already for l2."""
    if by == MAX:
        return value if value > held or np.isnan(value) else held
    if by == MIN:
        return value if value < held or np.isnan(value) else held
    return held + value


@part
def begin(into: Float32, values: Float32, by: int, take: int, threshold: Any) -> None:
    """Take the first row of values; their squares for l2."""
    zero = np.float32(0)
    if take == ABOVE:
        for i in range(into.size):
            above = values[i] - threshold
            into[i] = zero if above < zero else above
    elif take == BELOW:
        for i in range(into.size):
            below = -values[i] - threshold
            into[i] = zero if below < zero else below
    elif by == L2:
        for i in range(into.size):
            into[i] = values[i] * values[i]
    else:
        for i in range(into.size):
            into[i] = values[i]


@part
def gather(into: Float32, values: Float32, by: int, take: int, threshold: Any) -> None:
    """Combine a row of values with those above it."""
    zero = np.float32(0)
    if by == MAX:  # what is not above the threshold is no larger than what `begin` took
        for i in range(into.size):
            into[i] = combine(into[i], values[i], MAX)
    elif by == MIN:
        for i in range(into.size):
            into[i] = combine(into[i], values[i], MIN)
    elif by == L2:
        for i in range(into.size):
            into[i] = into[i] + values[i] * values[i]
    elif take == ABOVE:
        for i in range(into.size):
            above = values[i] - threshold
            into[i] = into[i] + (zero if above < zero else above)
    elif take == BELOW:
        for i in range(into.size):
            below = -values[i] - threshold
            into[i] = into[i] + (zero if below < zero else below)
    else:
        for i in range(into.size):
            into[i] = into[i] + values[i]


@part
def pool_planes(rows: Float32, width: int, pooling: Pooling, held: Float32, runs: Int64, out: Float32) -> None:
    """Combine the columns of every window, of rows (features, width), into ``out``, (windows, features)."""
    cols, by, share = pooling.cols, pooling.by, np.float32(1) / np.float32(pooling.window)
    stride = cols[1, 0] - cols[0, 0] if cols.shape[0] > 1 else 1
    first, last = _inside(cols, width)
    count = last - first
    pairs = count > 0 and stride == 2 and cols[first, 1] - cols[first, 0] == 2
    for r in range(runs.shape[0]):
        for k in range(runs[r, 2]):
            at = (runs[r, 0] + k) * width
            row, into = rows[at : at + width], out[:, runs[r, 1] + k]
            for w in range(cols.shape[0]):
                if first <= w < last:
                    continue
                held[w] = identity(by)
                for v in range(max(cols[w, 0], 0), min(cols[w, 1], width)):
                    held[w] = combine(held[w], row[v], by)
            if pairs:
                _combine_pairs(held[first:last], row[cols[first, 0] :], count, by)
            elif count:
                size = cols[first, 1] - cols[first, 0]
                _combine_columns(held[first:last], row[cols[first, 0] :], count, size, stride, by)
            finish(held, by, share)
            for w in range(cols.shape[0]):
                into[w] = held[w]


@part
def _inside(cols: Int64, width: int) -> tuple[int, int]:
    """Return the first and the last but one of the windows that have no padding."""
    first, last = 0, cols.shape[0]
    while first < last and cols[first, 0] < 0:
        first += 1
    while last > first and cols[last - 1, 1] > width:
        last -= 1
    return first, last


@part
def _combine_columns(held: Float32, columns: Float32, count: int, size: int, stride: int, by: int) -> None:
    for w in range(count):
        held[w] = columns[w * stride]
    for v in range(1, size):
        if by == MAX:
            for w in range(count):
                held[w] = combine(held[w], columns[w * stride + v], MAX)
        elif by == MIN:
            for w in range(count):
                held[w] = combine(held[w], columns[w * stride + v], MIN)
        else:
            for w in range(count):
                held[w] = combine(held[w], columns[w * stride + v], SUM)


@part
def _combine_pairs(held: Float32, columns: Float32, count: int, by: int) -> None:
    """Combine columns two by two: what vectors can do without gathering."""
    if by == MAX:
        for w in range(count):
            held[w] = combine(columns[2 * w], columns[2 * w + 1], MAX)
    elif by == MIN:
        for w in range(count):
            held[w] = combine(columns[2 * w], columns[2 * w + 1], MIN)
    else:
        for w in range(count):
            held[w] = columns[2 * w] + columns[2 * w + 1]


@part
def pool_pixels(rows: Float32, width: int, features: int, pooling: Pooling, runs: Int64, out: Float32) -> None:
    """Combine the columns of every window, of rows (width, features), into ``out``, (windows, features)."""
    by, share, none = pooling.by, np.float32(1) / np.float32(pooling.window), np.float32(0)
    plain = by if by in (MAX, MIN) else SUM  # of squares already, for l2
    for w in range(pooling.cols.shape[0]):
        first, last = max(pooling.cols[w, 0], 0), min(pooling.cols[w, 1], width)
        for r in range(runs.shape[0]):
            at, length = first * features + runs[r, 0], runs[r, 2]
            held = out[pooling.cols[w, 2], runs[r, 1] : runs[r, 1] + length]
            left = rows[at : at + length]
            right = rows[at + features : at + features + length]
            if last - first < 2:
                for k in range(length):
                    held[k] = left[k]
            elif by == MAX:
                for k in range(length):
                    held[k] = combine(left[k], right[k], MAX)
            elif by == MIN:
                for k in range(length):
                    held[k] = combine(left[k], right[k], MIN)
            elif by == MEAN and last - first == 2:
                for k in range(length):
                    held[k] = (left[k] + right[k]) * share
                continue
            else:
                for k in range(length):
                    held[k] = left[k] + right[k]
            for v in range(2, last - first):
                gather(held, rows[at + v * features : at + v * features + length], plain, ALL, none)
            if by in (MEAN, L2):
                finish(held, by, share)


@part
def finish(values: Float32, by: int, share: Any) -> None:
    """Make a mean of sums, a length of sums of squares."""
    if by == MEAN:
        for i in range(values.size):
            values[i] = values[i] * share
    elif by == L2:
        for i in range(values.size):
            values[i] = np.sqrt(values[i])


@part
def pool_piece(
    rows: Float32, width: int, features: int, planar: bool, piece: tuple[int, int], by: int, out: Float64
) -> None:
    """Combine the columns of one piece of a cell in float64, into ``out``, (features,)."""
    out[:features] = identity(by)
    for v in range(piece[0], piece[1]):
        for k in range(features):
            out[k] = combine(out[k], np.float64(rows[k * width + v if planar else v * features + k]), by)
