"""Direct cross-correlation of a block with a group of equally sized kernels, padding already in place.

Every output is one sum over the taps in the order (y, x, channel), each added by a fused multiply-add: the same bits
wherever the block lies. Two loops compute it: register tiles of pixels × kernels where there are several kernels, else
rows of pixels, kernel after kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from featpipe.kernels.fma import LANES, PIXELS, WIDE, fma, pixel_narrow, pixel_wide, tile_narrow, tile_wide

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

MANY = 4
"""From this many kernels on, register tiles of pixels × kernels are used."""
ROW = 1024
"""Pixels of a row computed at once by the loop over pixels: the sums stay in the first-level cache."""


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
    _, _, pixels_in_line, channels = block.shape
    kernels, rows, cols, depth = weights.shape
    by_kernel = kernels >= MANY
    if by_kernel:
        flat, pixel, plane, image = block.reshape(-1), channels, 1, block[0].size
    else:
        flat = np.ascontiguousarray(block.transpose(0, 3, 1, 2)).reshape(-1)
        pixel, plane, image = 1, block.shape[1] * pixels_in_line, block[0].size
    line = pixel * pixels_in_line
    y, x, c = np.ogrid[:rows, :cols, :depth]
    offsets = (y * dilation[0] * line + x * dilation[1] * pixel + c * plane).astype(np.int64).ravel()
    begin = corner[0] * line + corner[1] * pixel
    taps = np.ascontiguousarray(weights.reshape(kernels, -1).T)
    steps = (image, line * stride[0], pixel * stride[1])
    bank_size = bias.size
    for channel in range(channels if each else 1):
        base = begin + channel * plane
        into = columns + channel * bank_size
        if by_kernel:
            padded = np.zeros((len(taps), -(-kernels // LANES) * LANES), np.float32)
            padded[:, :kernels] = taps
            _correlate_by_kernel(flat, base, steps, offsets, padded, bias[columns], into, out)
        else:
            _correlate_by_pixel(flat, base, steps, offsets, taps, bias[columns], into, out)


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
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


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _correlate_by_pixel(
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
    taps, kernels = weights.shape
    sums = np.empty(ROW, np.float32)
    step = steps[2]
    for n in range(images):
        for i in range(height):
            for j in range(0, width, ROW):
                here = min(ROW, width - j)
                reach = (here - 1) * step + 1
                at = base + n * steps[0] + i * steps[1] + j * step
                for k in range(kernels):
                    sums[:here] = np.float32(0)
                    t = 0
                    while t + 4 <= taps:
                        a, b = at + offsets[t], at + offsets[t + 1]
                        c, d = at + offsets[t + 2], at + offsets[t + 3]
                        wa, wb, wc, wd = weights[t, k], weights[t + 1, k], weights[t + 2, k], weights[t + 3, k]
                        xa, xb, xc, xd = x[a : a + reach], x[b : b + reach], x[c : c + reach], x[d : d + reach]
                        if step == 1:
                            for p in range(here):
                                s = fma(xb[p], wb, fma(xa[p], wa, sums[p]))
                                sums[p] = fma(xd[p], wd, fma(xc[p], wc, s))
                        else:
                            for p in range(here):
                                q = p * step
                                s = fma(xb[q], wb, fma(xa[q], wa, sums[p]))
                                sums[p] = fma(xd[q], wd, fma(xc[q], wc, s))
                        t += 4
                    while t < taps:
                        a, wa = at + offsets[t], weights[t, k]
                        xa = x[a : a + reach]
                        for p in range(here):
                            sums[p] = fma(xa[p * step], wa, sums[p])
                        t += 1
                    column, add = columns[k], bias[k]
                    for p in range(here):
                        out[n, i, j + p, column] = sums[p] + add
