"""Mean and variance of windows, of cells and of groups of features, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, F64, I64, PAIR, given, kernel, result
from featpipe.kernels.pool import Pooling

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def window_moments(
    block: Float32,
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    *,
    across: bool = False,
) -> tuple[Float64, Float64]:
    """Return mean and variance of every window.

    Parameters
    ----------
    block : (n, y, x, c) float32
        C-contiguous; padding already in place.
    size, stride, dilation : (int, int)
        Along y and x, in samples.
    across : bool
        Take all channels of a window together.

    Returns
    -------
    mean, variance : (n, oy, ox, c or 1) float64
    """
    reach = [(s - 1) * d + 1 for s, d in zip(size, dilation, strict=True)]
    rows, cols = ((block.shape[axis + 1] - reach[axis]) // stride[axis] + 1 for axis in (0, 1))
    shape = (block.shape[0], rows, cols, 1 if across else block.shape[3])
    mean, square = np.empty(shape), np.empty(shape)
    _window_moments(block, size, stride, dilation, across, mean, square)
    return mean, np.maximum(square - mean * mean, 0.0)


@kernel(given(F32, 4), PAIR, PAIR, PAIR, I64, result(F64, 4), result(F64, 4))
def _window_moments(
    block: Float32,
    size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    across: int,
    mean: Float64,
    square: Float64,
) -> None:
    images, height, width, channels = block.shape
    rows, cols, planes = mean.shape[1:]
    count = size[0] * size[1] * (channels if across else 1)
    first, second = np.empty((height, planes, width)), np.empty((height, planes, width))
    down, down_square = np.empty(width), np.empty(width)
    along, along_square = np.empty(cols), np.empty(cols)
    for n in range(images):
        first[:], second[:] = 0.0, 0.0
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    value, plane = np.float64(block[n, i, j, c]), 0 if across else c
                    first[i, plane, j] += value
                    second[i, plane, j] += value * value
        for i in range(rows):
            for c in range(planes):
                down[:], down_square[:] = 0.0, 0.0
                for u in range(size[0]):
                    row = i * stride[0] + u * dilation[0]
                    for j in range(width):
                        down[j] += first[row, c, j]
                        down_square[j] += second[row, c, j]
                along[:], along_square[:] = 0.0, 0.0
                for v in range(size[1]):
                    for j in range(cols):
                        along[j] += down[j * stride[1] + v * dilation[1]]
                        along_square[j] += down_square[j * stride[1] + v * dilation[1]]
                for j in range(cols):
                    mean[n, i, j, c] = along[j] / count
                    square[n, i, j, c] = along_square[j] / count


def add_moments(block: Float32, pooling: Pooling, sums: Float64, squares: Float64) -> None:
    """Add a block's samples and their squares to the cells of a grid, piece by piece.

    Parameters
    ----------
    block : (n, y, x, k) float32
    pooling : Pooling
        Of cells.
    sums, squares : (n, rows, columns, k) float64
    """
    _add_moments(np.ascontiguousarray(block), pooling.rows, pooling.cols, sums, squares)


@kernel(given(F32, 4), given(I64, 2), given(I64, 2), result(F64, 4), result(F64, 4))
def _add_moments(block: Float32, rows: Int64, cols: Int64, sums: Float64, squares: Float64) -> None:
    images, _, _, features = block.shape
    total, square = np.empty(features), np.empty(features)
    for n in range(images):
        for q in range(rows.shape[0]):
            for r in range(cols.shape[0]):
                total[:], square[:] = 0.0, 0.0
                for i in range(rows[q, 0], rows[q, 1]):
                    for j in range(cols[r, 0], cols[r, 1]):
                        for k in range(features):
                            value = np.float64(block[n, i, j, k])
                            total[k] += value
                            square[k] += value * value
                sums[n, rows[q, 2], cols[r, 2]] += total
                squares[n, rows[q, 2], cols[r, 2]] += square


def fold_deviations(block: Float32, starts: Int64, members: Int64) -> Float32:
    """Return the standard deviation of groups of features.

    Parameters
    ----------
    block : (n, y, x, k) float32
    starts : (groups + 1,) int64
        Where each group begins in ``members``.
    members : (m,) int64
        Features of all groups, one group after another.

    Returns
    -------
    (n, y, x, groups) float32
    """
    counts = np.diff(starts)
    values = block[..., members].astype(np.float64)
    mean = np.add.reduceat(values, starts[:-1], axis=-1) / counts
    values -= np.repeat(mean, counts, axis=-1)
    variance = np.add.reduceat(values * values, starts[:-1], axis=-1) / counts
    result: Float32 = np.sqrt(variance).astype(np.float32)
    return result
