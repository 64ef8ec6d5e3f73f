"""Grid and global pooling: statistics of the cells of a map that may be far larger than memory.

The map is laid out in canonical tiles whose origin is the map's. Within a tile the samples of a cell are summed in
raster order; the tiles' partial results are added up in raster order too, in float64. Blocks that hold whole tiles and
arrive in raster order therefore give the same bits as the whole map at once::

    ┌────┬────┬────┐
    │ 1  │ 2 ┊│ 3  │     ─ │ tiles    ┊ ┄ cells
    ├────┼────┼────┤
    │┄┄┄┄│┄┄┄┼│┄┄┄┄│
    │ 4  │ 5 ┊│ 6  │
    └────┴────┴────┘
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE, cells
from featpipe.kernels.compiled import F32, F64, I64, given, kernel, part, result
from featpipe.kernels.pool import CODES, L2, MAX, MIN, STD, Statistic

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class CellPool:
    """Running statistics of every cell of a map.

    Parameters
    ----------
    by : {"max", "mean", "min", "sum", "l2", "std"}
    grid : (int, int)
        Rows and columns of cells.
    images, height, width, features : int
        Shape of the whole map; at least as many samples as cells along each axis.
    """

    def __init__(
        self, by: Statistic, grid: tuple[int, int], *, images: int, height: int, width: int, features: int
    ) -> None:
        self.by = by
        self.rows = _edges(height, grid[0])
        self.cols = _edges(width, grid[1])
        first = {"max": -np.inf, "min": np.inf}.get(by, 0.0)
        self.first = np.full((images, *grid, features), first)
        self.second = np.zeros((images, *grid, features) if by == "std" else (1, 1, 1, 1))
        self.count = np.zeros((images, *grid))

    def add(self, block: Float32, y: Span, x: Span) -> None:
        """Add a block's samples, (n, y, x, k) float32; it holds whole tiles and follows the last one in raster order.

        Raises
        ------
        ValueError
            If the block does not begin at a tile's corner.
        """
        if y.start % TILE or x.start % TILE:
            raise ValueError(f"block at ({y.start}, {x.start}) does not begin at a multiple of {TILE}")
        block = np.ascontiguousarray(block)
        _add(block, y.start, x.start, self.rows, self.cols, CODES[self.by], self.first, self.second, self.count)

    def result(self) -> Float32:
        """Return the (n, rows, columns, k) float32 statistics."""
        count = self.count[..., None]
        values = self.first
        match self.by:
            case "mean":
                values = values / count
            case "l2":
                values = np.sqrt(values)
            case "std":
                values = np.sqrt(self.second / count)
        return values.astype(np.float32)


def _edges(n: int, parts: int) -> Int64:
    return np.array([0, *(cell.stop for cell in cells(n, parts))], np.int64)


@part
def _summarise(region: Float32, by: int, part: Float64, square: Float64) -> None:
    """Sum (or max, min, mean and squared deviations of) a region, (y, x, k), in raster order."""
    height, width, features = region.shape
    part[:] = -np.inf if by == MAX else np.inf if by == MIN else 0.0
    for i in range(height):
        for j in range(width):
            sample = region[i, j]
            if by == MAX:
                for k in range(features):
                    part[k] = sample[k] if sample[k] > part[k] else part[k]
            elif by == MIN:
                for k in range(features):
                    part[k] = sample[k] if sample[k] < part[k] else part[k]
            elif by == L2:
                for k in range(features):
                    part[k] += np.float64(sample[k]) * np.float64(sample[k])
            else:
                for k in range(features):
                    part[k] += sample[k]
    if by == STD:
        square[:] = 0.0
        for k in range(features):
            part[k] /= height * width
        for i in range(height):
            for j in range(width):
                for k in range(features):
                    d = region[i, j, k] - part[k]
                    square[k] += d * d


@part
def _merge(
    first: Float64,
    second: Float64,
    cell: tuple[int, int, int],
    old: float,
    part: Float64,
    square: Float64,
    new: float,
    by: int,
) -> None:
    """Merge a tile's part of a cell into the cell; ``std`` by Chan, Golub and LeVeque (1983), eq. 2.1."""
    for k in range(part.size):
        if by == MAX:
            first[k] = part[k] if part[k] > first[k] else first[k]
        elif by == MIN:
            first[k] = part[k] if part[k] < first[k] else first[k]
        elif by == STD:
            d = part[k] - first[k]
            total = old + new
            first[k] += d * new / total
            second[cell[0], cell[1], cell[2], k] += square[k] + d * d * old * new / total
        else:
            first[k] += part[k]


@kernel(given(F32, 4), I64, I64, given(I64, 1), given(I64, 1), I64, result(F64, 4), result(F64, 4), result(F64, 3))
def _add(
    block: Float32,
    y0: int,
    x0: int,
    rows: Int64,
    cols: Int64,
    by: int,
    first: Float64,
    second: Float64,
    count: Float64,
) -> None:
    images, height, width, features = block.shape
    part, square = np.empty(features), np.empty(features)
    for n in range(images):
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                for r in range(rows.size - 1):
                    a, b = max(top, rows[r] - y0), min(top + TILE, height, rows[r + 1] - y0)
                    if a >= b:
                        continue
                    for c in range(cols.size - 1):
                        d, e = max(left, cols[c] - x0), min(left + TILE, width, cols[c + 1] - x0)
                        if d >= e:
                            continue
                        _summarise(block[n, a:b, d:e], by, part, square)
                        new = float((b - a) * (e - d))
                        _merge(first[n, r, c], second, (n, r, c), count[n, r, c], part, square, new, by)
                        count[n, r, c] += new
