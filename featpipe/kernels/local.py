"""Locally connected layers: every window with kernels of its own, in float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, PAIR, given, kernel, result

Float32 = npt.NDArray[np.float32]


def connect_locally(
    block: Float32, kernels: Float32, bias: Float32, first: tuple[int, int], stride: tuple[int, int], out: Float32
) -> None:
    """Correlate every window with the kernels of its position.

    Parameters
    ----------
    block : (n, y, x, c) float32
        C-contiguous; padding already in place.
    kernels : (oy, ox, ky, kx, c, k) float32
        Of all positions of the output map.
    bias : (1, 1, k) or (oy, ox, k) float32
        Likewise.
    first : (int, int)
        Position of the first output, in the output map.
    stride : (int, int)
        Along y and x, in samples.
    out : (n, rows, columns, k) float32
        Each sum begins with its bias and goes along y, x and channel, whatever the block.
    """
    _connect(block, kernels, bias, first, stride, out)


@kernel(given(F32, 4), given(F32, 6), given(F32, 3), PAIR, PAIR, result(F32, 4))
def _connect(
    block: Float32,
    kernels: Float32,
    bias: Float32,
    first: tuple[int, int],
    stride: tuple[int, int],
    out: Float32,
) -> None:
    images, rows, cols, count = out.shape
    height, width, channels = kernels.shape[2:5]
    sums = np.empty(count, np.float32)
    one_bias = bias.shape[0] == 1
    for i in range(rows):
        for j in range(cols):
            here = kernels[first[0] + i, first[1] + j]
            add = bias[0, 0] if one_bias else bias[first[0] + i, first[1] + j]
            for n in range(images):  # while the position's kernels are in cache
                for k in range(count):
                    sums[k] = add[k]
                for u in range(height):
                    for v in range(width):
                        for c in range(channels):
                            value = block[n, i * stride[0] + u, j * stride[1] + v, c]
                            for k in range(count):
                                sums[k] += here[u, v, c, k] * value
                for k in range(count):
                    out[n, i, j, k] = sums[k]
