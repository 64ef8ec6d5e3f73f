"""Direct cross-correlation of a block with a group of equally sized kernels, padding already in place.

Every output is one sum over the taps in the order (y, x, channel), each added by a fused multiply-add: the same bits
wherever the block lies. Register tiles of pixels × kernels compute it: vectors of kernels where there are many of them,
vectors of neighbouring pixels where there are few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, F64, I64, TRIPLE, given, kernel, result
from featpipe.kernels.flat import deal_out, interleave
from featpipe.kernels.tiles import (
    LANES,
    PIXELS,
    ROW_KERNELS,
    ROW_PIXELS,
    WIDE,
    pixel_narrow,
    pixel_wide,
    row_tile_1,
    row_tile_2,
    row_tile_4,
    tile_narrow,
    tile_wide,
)

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def correlate(
    block: Float32,
    weights: Float32,
    columns: Int64,
    bias: Float32,
    out: Float32,
    *,
    corner: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    each: bool,
) -> None:
    """Correlate a block with a group of kernels, in valid mode, into some features of ``out``.

    Parameters
    ----------
    block : (n, y, x, c) float32
        C-contiguous; holds the frame of every output, padding included.
    weights : (k, y, x, c) float32
        Kernels of one size; ``c`` is 1 where ``each``.
    columns : (k,) int64
        Which feature of the bank each kernel makes.
    bias : (bank size,) float32
        Added to the responses, by feature of the bank.
    out : (n, oy, ox, bank size) or, where ``each``, (n, oy, ox, c · bank size) float32
        C-contiguous; features are channel-major.
    corner : (int, int)
        First tap (y, x) of these kernels in the frame of the bank's largest, in samples.
    stride, dilation : (int, int)
        Along y and x, in samples.
    each : bool
        Filter every channel by itself instead of summing over them.
    """
    kernels = len(weights)
    taps = np.ascontiguousarray(weights.reshape(kernels, -1).T)
    by_kernel = kernels >= LANES or (kernels >= ROW_KERNELS and out.shape[2] < 2 * LANES)
    layout = interleave(block, stride) if by_kernel else deal_out(block, stride)
    offsets = layout.tap_offsets(weights.shape[1:], corner, dilation)
    if by_kernel:
        taps = np.pad(taps, ((0, 0), (0, -kernels % LANES)))
    for channel in range(block.shape[3] if each else 1):
        into = columns + channel * bias.size
        base = channel * layout.channel
        run = _correlate_by_kernel if by_kernel else _correlate_by_row
        run(layout.flat, base, layout.steps, offsets, taps, bias[columns], into, out)


def shift_and_scale(out: Float32, columns: Int64, mean: Float64, scale: Float64, total: Float64, bias: Float32) -> None:
    """Make responses to patches x those to (x - mean) · scale, in place: a response is linear in its patch.

    Parameters
    ----------
    out : (n, y, x, features) float32
        C-contiguous.
    columns : (k,) int64
        The features to change.
    mean, scale : (n, y, x) float64
        Of each position's patch.
    total : (k,) float64
        Sum of each kernel's weights.
    bias : (k,) float32
        Added at the end.
    """
    _shift_and_scale(out, columns, np.ascontiguousarray(mean), np.ascontiguousarray(scale), total, bias)


@kernel(result(F32, 4), given(I64, 1), given(F64, 3), given(F64, 3), given(F64, 1), given(F32, 1))
def _shift_and_scale(
    out: Float32, columns: Int64, mean: Float64, scale: Float64, total: Float64, bias: Float32
) -> None:
    images, height, width, _ = out.shape
    for n in range(images):
        for i in range(height):
            for j in range(width):
                row, m, s = out[n, i, j], mean[n, i, j], scale[n, i, j]
                for k in range(columns.size):
                    row[columns[k]] = (row[columns[k]] - m * total[k]) * s + bias[k]


@kernel(given(F32, 1), I64, TRIPLE, given(I64, 1), given(F32, 2), given(F32, 1), given(I64, 1), result(F32, 4))
def _correlate_by_kernel(
    x: Float32,
    base: int,
    steps: tuple[int, int, int],
    offsets: Int64,
    weights: Float32,
    bias: Float32,
    columns: Int64,
    out: Float32,
) -> None:
    images, height, width, _ = out.shape
    kernels, padded = columns.size, weights.shape[1]
    sums = np.empty(PIXELS * WIDE * LANES, np.float32)
    step = steps[2]
    for n in range(images):
        for i in range(height):
            line = base + n * steps[0] + i * steps[1]
            first = 0
            while first < padded:
                wide = padded - first >= WIDE * LANES
                lanes = WIDE * LANES if wide else LANES
                here = min(lanes, kernels - first)
                into, add = columns[first : first + here], bias[first : first + here]
                j = 0
                while j < width:
                    pixels = PIXELS if width - j >= PIXELS else 1
                    at = line + j * step
                    if pixels == PIXELS:
                        if wide:
                            tile_wide(x, at, step, weights, first, padded, offsets, sums)
                        else:
                            tile_narrow(x, at, step, weights, first, padded, offsets, sums)
                    elif wide:
                        pixel_wide(x, at, step, weights, first, padded, offsets, sums)
                    else:
                        pixel_narrow(x, at, step, weights, first, padded, offsets, sums)
                    for p in range(pixels):
                        row, tile = out[n, i, j + p], sums[p * lanes : p * lanes + here]
                        for k in range(here):
                            row[into[k]] = tile[k] + add[k]
                    j += pixels
                first += lanes


@kernel(given(F32, 1), I64, TRIPLE, given(I64, 1), given(F32, 2), given(F32, 1), given(I64, 1), result(F32, 4))
def _correlate_by_row(
    x: Float32,
    base: int,
    steps: tuple[int, int, int],
    offsets: Int64,
    weights: Float32,
    bias: Float32,
    columns: Int64,
    out: Float32,
) -> None:
    images, height, width, _ = out.shape
    kernels = columns.size
    sums = np.empty(ROW_KERNELS * ROW_PIXELS, np.float32)
    for n in range(images):
        for i in range(height):
            line = base + n * steps[0] + i * steps[1]
            for j in range(0, width, ROW_PIXELS):
                here = min(ROW_PIXELS, width - j)
                first = 0
                while first < kernels:
                    left = kernels - first
                    together = 4 if left >= 4 else 2 if left >= 2 else 1
                    if together == 4:
                        row_tile_4(x, line + j, weights, first, kernels, offsets, sums)
                    elif together == 2:
                        row_tile_2(x, line + j, weights, first, kernels, offsets, sums)
                    else:
                        row_tile_1(x, line + j, weights, first, kernels, offsets, sums)
                    for k in range(together):
                        column, add = columns[first + k], bias[first + k]
                        tile = sums[k * ROW_PIXELS : k * ROW_PIXELS + here]
                        for p in range(here):
                            out[n, i, j + p, column] = tile[p] + add
                    first += together
