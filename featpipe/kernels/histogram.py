"""Histograms of whole numbers: how often windows, or a grid's cells, hold 0, 1, ... bins - 1.

Other values are counted nowhere. Counts are whole numbers, so they do not depend on the order of counting.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, F64, I64, PAIR, given, kernel, part, result
from featpipe.kernels.pool import Pooling

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def count_windows(
    block: Float32,
    rows: Int64,
    cols: Int64,
    size: tuple[int, int],
    stride: tuple[int, int],
    bins: int,
    out: Float32,
    top: int,
) -> None:
    """Write the histograms of windows.

    Parameters
    ----------
    block : (n, y, x, k) float32
        C-contiguous.
    rows, cols : (m,) int64
        Where in the block each row and column that the windows cover lies; -1 for padding, which is counted nowhere.
    size, stride : (int, int)
        Of the windows along y and x, in samples.
    bins : int
        The feature k of value v is counted in the output feature k * bins + v.
    out : (n, y', x', k * bins) float32
        C-contiguous. Its rows from ``top`` on are written, as many as there are windows in ``rows``.
    top : int
    """
    _count_windows(block, rows, cols, size, stride, bins, out, top)


def count_cells(block: Float32, pooling: Pooling, bins: int, counts: Float64) -> None:
    """Add a block's samples to the histograms of a grid's cells.

    Parameters
    ----------
    block : (n, y, x, k) float32
    pooling : Pooling
        Of cells.
    bins : int
    counts : (n, rows, columns, k * bins) float64
    """
    _count_cells(np.ascontiguousarray(block), pooling.rows, pooling.cols, bins, counts)


@part
def bin_of(value: float, bins: int) -> int:
    """Return the bin of a value, or -1 where it has none."""
    if value >= 0 and value < bins:
        found = int(value)
        if found == value:
            return found
    return -1


@kernel(given(F32, 4), given(I64, 1), given(I64, 1), PAIR, PAIR, I64, result(F32, 4), I64)
def _count_windows(
    block: Float32,
    rows: Int64,
    cols: Int64,
    size: tuple[int, int],
    stride: tuple[int, int],
    bins: int,
    out: Float32,
    top: int,
) -> None:
    features = block.shape[3]
    for n in range(block.shape[0]):
        for i in range((rows.size - size[0]) // stride[0] + 1):
            for j in range((cols.size - size[1]) // stride[1] + 1):
                counts = out[n, top + i, j]
                counts[:] = 0
                for u in range(size[0]):
                    row = rows[i * stride[0] + u]
                    for v in range(size[1]):
                        col = cols[j * stride[1] + v]
                        if row < 0 or col < 0:
                            continue
                        for k in range(features):
                            found = bin_of(block[n, row, col, k], bins)
                            if found >= 0:
                                counts[k * bins + found] += 1


@kernel(given(F32, 4), given(I64, 2), given(I64, 2), I64, result(F64, 4))
def _count_cells(block: Float32, rows: Int64, cols: Int64, bins: int, counts: Float64) -> None:
    features = block.shape[3]
    for n in range(block.shape[0]):
        for q in range(rows.shape[0]):
            for r in range(cols.shape[0]):
                here = counts[n, rows[q, 2], cols[r, 2]]
                for i in range(rows[q, 0], rows[q, 1]):
                    for j in range(cols[r, 0], cols[r, 1]):
                        for k in range(features):
                            found = bin_of(block[n, i, j, k], bins)
                            if found >= 0:
                                here[k * bins + found] += 1
