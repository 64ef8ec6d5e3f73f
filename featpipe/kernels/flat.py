"""A block of pixels as a flat array: as it is, or with every channel's columns dealt out for vectors of neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.kernels.tiles import ROW_PIXELS

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FlatBlock:
    """A block as a flat array, and the distances in it."""

    flat: Float32
    steps: tuple[int, int, int]
    """From one image, output row and output pixel to the next."""
    line: int
    phases: int
    """Planes that the columns are dealt out to, so that outputs ``phases`` columns apart are neighbours."""
    phase: int
    """From one such plane to the next."""
    pixel: int
    channel: int

    def tap_offsets(self, taps: tuple[int, ...], corner: tuple[int, int], dilation: tuple[int, int]) -> Int64:
        """Return where each tap lies from its output's first sample, in the order (y, x, channel)."""
        y, x, c = np.ogrid[: taps[0], : taps[1], : taps[2]]
        row, column = corner[0] + y * dilation[0], corner[1] + x * dilation[1]
        along = column // self.phases * self.pixel + column % self.phases * self.phase
        offsets: Int64 = (row * self.line + along + c * self.channel).astype(np.int64)
        return offsets.ravel()


def interleave(block: Float32, stride: tuple[int, int]) -> FlatBlock:
    """Lay out (n, y, x, c) as it is."""
    _, height, width, channels = block.shape
    line = width * channels
    steps = (height * line, line * stride[0], channels * stride[1])
    return FlatBlock(block.reshape(-1), steps, line, 1, 0, channels, 1)


def deal_out(block: Float32, stride: tuple[int, int]) -> FlatBlock:
    """Lay out as (n, c, phase, y, x / stride), and some more, for row tiles reach beyond the last row."""
    images, height, width, channels = block.shape
    phases = stride[1]
    line = -(-width // phases)
    flat = np.zeros(images * channels * phases * height * line + ROW_PIXELS, np.float32)
    planes = flat[: flat.size - ROW_PIXELS].reshape(images, channels, phases, height, line)
    for p in range(min(phases, width)):
        part = block[:, :, p::phases].transpose(0, 3, 1, 2)
        planes[:, :, p, :, : part.shape[3]] = part
    plane = height * line
    steps = (channels * phases * plane, line * stride[0], 1)
    return FlatBlock(flat, steps, line, phases, plane, 1, phases * plane)
