"""Statistics of windows: pooling, and the mean and variance that contrast normalisation needs.

Each output is formed in one fixed order of its window's samples, so its bits do not depend on where a block begins.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, I64, PAIR, given, kernel, result

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Statistic = Literal["max", "mean", "min", "sum", "l2", "std"]

MAX, MEAN, MIN, SUM, L2, STD = range(6)
CODES: dict[Statistic, int] = {"max": MAX, "mean": MEAN, "min": MIN, "sum": SUM, "l2": L2, "std": STD}


def padding_fill(by: Statistic) -> float:
    """Return what zero padding holds for a statistic: a value that never wins, else 0."""
    return {"max": -np.inf, "min": np.inf}.get(by, 0.0)


def pool_windows(block: Float32, by: Statistic, size: tuple[int, int], stride: tuple[int, int]) -> Float32:
    """Summarise every window of a block, padding already in place.

    Parameters
    ----------
    block : (n, y, x, k) float32
    by : {"max", "mean", "min", "sum", "l2", "std"}
        ``l2`` is the root of the sum of squares, ``std`` the population standard deviation.
    size, stride : (int, int)
        Along y and x, in samples.

    Returns
    -------
    (n, (y - size) // stride + 1, (x - size) // stride + 1, k) float32
    """
    images, height, width, features = block.shape
    shape = (images, (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1, features)
    out = np.empty(shape, np.float32)
    _pool(np.ascontiguousarray(block), CODES[by], size, stride, out)
    return out


@kernel(given(F32, 4), I64, PAIR, PAIR, result(F32, 4))
def _pool(block: Float32, by: int, size: tuple[int, int], stride: tuple[int, int], out: Float32) -> None:
    images, height, width, features = out.shape
    count = np.float32(size[0] * size[1])
    for n in range(images):
        for i in range(height):
            for j in range(width):
                acc = out[n, i, j]
                if by in (MAX, MIN):
                    acc[:] = block[n, i * stride[0], j * stride[1]]
                else:
                    acc[:] = np.float32(0)
                for u in range(size[0]):
                    row = block[n, i * stride[0] + u]
                    for v in range(size[1]):
                        sample = row[j * stride[1] + v]
                        if by == MAX:
                            for k in range(features):
                                acc[k] = sample[k] if sample[k] > acc[k] else acc[k]
                        elif by == MIN:
                            for k in range(features):
                                acc[k] = sample[k] if sample[k] < acc[k] else acc[k]
                        elif by == L2:
                            for k in range(features):
                                acc[k] += sample[k] * sample[k]
                        else:
                            for k in range(features):
                                acc[k] += sample[k]
                if by in (MEAN, STD):
                    for k in range(features):
                        acc[k] /= count
                if by == L2:
                    for k in range(features):
                        acc[k] = np.sqrt(acc[k])
                if by == STD:
                    for k in range(features):
                        square = np.float32(0)
                        for u in range(size[0]):
                            for v in range(size[1]):
                                d = block[n, i * stride[0] + u, j * stride[1] + v, k] - acc[k]
                                square += d * d
                        acc[k] = np.sqrt(square / count)


def window_moments(
    block: Float32, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], *, across: bool
) -> tuple[Float64, Float64]:
    """Return mean and variance of every window, in float64.

    Parameters
    ----------
    block : (n, y, x, c) float32
        Padding already in place.
    size, stride, dilation : (int, int)
        Along y and x, in samples.
    across : bool
        Take all channels of a window together.

    Returns
    -------
    mean, variance : (n, oy, ox, c or 1) float64
    """
    values = block.astype(np.float64)
    reach = [(s - 1) * d + 1 for s, d in zip(size, dilation, strict=True)]
    rows, cols = ((block.shape[axis + 1] - reach[axis]) // stride[axis] + 1 for axis in (0, 1))
    moments = []
    for power in (values, values * values):
        summed = _sum_channels(power) if across else power
        along = np.zeros((*summed.shape[:2], cols, summed.shape[3]))
        for v in range(size[1]):
            start = v * dilation[1]
            along += summed[:, :, start : start + (cols - 1) * stride[1] + 1 : stride[1]]
        total = np.zeros((summed.shape[0], rows, *along.shape[2:]))
        for u in range(size[0]):
            start = u * dilation[0]
            total += along[:, start : start + (rows - 1) * stride[0] + 1 : stride[0]]
        moments.append(total / (size[0] * size[1] * (block.shape[3] if across else 1)))
    mean, square = moments
    return mean, np.maximum(square - mean * mean, 0.0)


def _sum_channels(values: Float64) -> Float64:
    """Return the sum over channels, (n, y, x, 1), in the channels' order."""
    total = np.zeros((*values.shape[:3], 1))
    for c in range(values.shape[3]):
        total[..., 0] += values[..., c]
    return total


def fold_features(block: Float32, by: Statistic, starts: Int64, members: Int64) -> Float32:
    """Combine groups of features into one feature each.

    Parameters
    ----------
    block : (n, y, x, k) float32
    by : {"max", "mean", "min", "sum", "l2", "std"}
    starts : (groups + 1,) int64
        Where each group begins in ``members``.
    members : (m,) int64
        Features of all groups, one group after another.

    Returns
    -------
    (n, y, x, groups) float32
    """
    groups = len(starts) - 1
    out = np.empty((*block.shape[:3], groups), np.float32)
    flat = np.ascontiguousarray(block)
    size = len(members) // groups
    in_order = len(members) == block.shape[3] and np.array_equal(members, np.arange(len(members)))
    if in_order and np.array_equal(starts, np.arange(groups + 1) * size):
        _fold_neighbours(flat.reshape(-1, size), CODES[by], out.reshape(-1))
        return out
    _fold(flat.reshape(-1, block.shape[3]), CODES[by], starts, members, out.reshape(-1, groups))
    return out


@kernel(given(F32, 2), I64, result(F32, 1))
def _fold_neighbours(block: Float32, by: int, out: Float32) -> None:
    """Fold groups of neighbouring features, all of one size: as `_fold`, but in loops that vectors can run."""
    rows, size = block.shape
    if by == L2 and size == 2:
        for p in range(rows):
            out[p] = np.sqrt(block[p, 0] * block[p, 0] + block[p, 1] * block[p, 1])
        return
    if by == MAX:
        for p in range(rows):
            acc = block[p, 0]
            for m in range(1, size):
                acc = block[p, m] if block[p, m] > acc else acc
            out[p] = acc
        return
    if by == MIN:
        for p in range(rows):
            acc = block[p, 0]
            for m in range(1, size):
                acc = block[p, m] if block[p, m] < acc else acc
            out[p] = acc
        return
    for p in range(rows):
        acc = np.float32(0)
        for m in range(size):
            acc += block[p, m] * block[p, m] if by == L2 else block[p, m]
        if by == L2:
            acc = abs(block[p, 0]) if size == 1 else np.sqrt(acc)
        if by in (MEAN, STD):
            acc /= np.float32(size)
        if by == STD:
            square = np.float32(0)
            for m in range(size):
                d = block[p, m] - acc
                square += d * d
            acc = np.sqrt(square / np.float32(size))
        out[p] = acc


@kernel(given(F32, 2), I64, given(I64, 1), given(I64, 1), result(F32, 2))
def _fold(block: Float32, by: int, starts: Int64, members: Int64, out: Float32) -> None:
    for p in range(block.shape[0]):
        row = block[p]
        for g in range(out.shape[1]):
            first, last = starts[g], starts[g + 1]
            acc = row[members[first]] if by in (MAX, MIN) else np.float32(0)
            count = np.float32(last - first)
            for m in range(first, last):
                value = row[members[m]]
                if by == MAX:
                    acc = value if value > acc else acc
                elif by == MIN:
                    acc = value if value < acc else acc
                elif by == L2:
                    acc += value * value
                else:
                    acc += value
            if by in (MEAN, STD):
                acc /= count
            if by == STD:
                square = np.float32(0)
                for m in range(first, last):
                    d = row[members[m]] - acc
                    square += d * d
                acc = np.sqrt(square / count)
            if by == L2:
                acc = abs(row[members[first]]) if last - first == 1 else np.sqrt(acc)
            out[p, g] = acc
