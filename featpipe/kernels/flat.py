"""A block of pixels as a flat array, padding in place: as it is, or dealt out for vectors of neighbouring pixels.

Outputs ``stride`` columns apart are neighbours once the columns are dealt out to as many planes, or phases::

    columns 0 1 2 3 4 5 6 7    ──stride 2──▶    phase 0: 0 2 4 6    phase 1: 1 3 5 7
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import PaddingMode, Span, sources
from featpipe.kernels.compiled import F32, I64, given, kernel, result
from featpipe.kernels.tiles import ROW_PIXELS

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """Which samples of a map a layer wants, along y and x, and how padding supplies those that lie beyond it."""

    have: tuple[Span, Span]
    """Samples of the map that the block at hand holds."""
    wanted: tuple[Span, Span]
    lengths: tuple[int, int]
    """Samples of the whole map."""
    modes: tuple[PaddingMode, PaddingMode]

    @property
    def inside(self) -> bool:
        """Tell whether no padding is needed."""
        pairs = zip(self.wanted, self.have, strict=True)
        return all(wanted.start >= have.start and wanted.stop <= have.stop for wanted, have in pairs)

    @cached_property
    def rows(self) -> Int64:
        """Where in the block each wanted row lies, or -1 for zeros."""
        return self._index(0)

    @cached_property
    def cols(self) -> Int64:
        """Where in the block each wanted column lies, or -1 for zeros."""
        return self._index(1)

    def _index(self, axis: int) -> Int64:
        index = sources(self.wanted[axis], self.lengths[axis], self.modes[axis])
        return np.where(index < 0, -1, index - self.have[axis].start)


@dataclass(frozen=True)
class FlatLayout:
    """Distances in a flat block."""

    size: int
    """Of one image, in floats."""
    origin: int
    """Of the first wanted sample."""
    line: int
    """From one row to the next."""
    pixel: int
    """From one column (of a phase) to the next."""
    channel: int
    phases: int
    phase: int

    def tap_offsets(self, taps: tuple[int, int, int], corner: tuple[int, int], dilation: tuple[int, int]) -> Int64:
        """Return where each tap lies from its output's first sample, in the order (y, x, channel)."""
        y, x, c = np.ogrid[: taps[0], : taps[1], : taps[2]]
        row, column = corner[0] + y * dilation[0], corner[1] + x * dilation[1]
        along = column // self.phases * self.pixel + column % self.phases * self.phase
        offsets: Int64 = (row * self.line + along + c * self.channel).astype(np.int64)
        return offsets.ravel()


def lay_interleaved(cut: Cut, block: tuple[int, int], channels: int) -> FlatLayout:
    """Return the layout (y, x, c): of a block of so many rows and columns where that needs no padding."""
    origin, (height, width) = 0, block
    if cut.inside:
        top, left = (cut.wanted[axis].start - cut.have[axis].start for axis in (0, 1))
        origin = (top * width + left) * channels
    else:
        height, width = cut.wanted[0].length, cut.wanted[1].length
    return FlatLayout(height * width * channels, origin, width * channels, channels, 1, 1, 0)


def lay_dealt_out(cut: Cut, channels: int, stride: int) -> FlatLayout:
    """Return the layout (c, phase, y, x / stride); outputs ``stride`` columns apart become neighbours."""
    line = -(-cut.wanted[1].length // stride)
    plane = odd_lines(cut.wanted[0].length * line)
    return FlatLayout(channels * stride * plane, 0, line, 1, stride * plane, stride, plane)


def interleave(block: Float32, cut: Cut) -> Float32:
    """Return a block in the layout of `lay_interleaved`, flat: itself where no padding is needed.

    Parameters
    ----------
    block : (n, y, x, c) float32
        C-contiguous.
    cut : Cut
    """
    return (block if cut.inside else pad_block(block, cut)).reshape(-1)


def pad_block(block: Float32, cut: Cut) -> Float32:
    """Return the wanted samples of a block, (n, y, x, c) float32, C-contiguous; the block itself where it is those."""
    height, width = cut.wanted[0].length, cut.wanted[1].length
    if cut.inside and block.shape[1:3] == (height, width):
        return block
    out = np.empty((len(block), height, width, block.shape[3]), np.float32)
    _pad(block, cut.rows, cut.cols, out)
    return out


def deal_out(block: Float32, cut: Cut, layout: FlatLayout) -> Float32:
    """Return a block in the layout of `lay_dealt_out`, flat, and some more, for tiles reach beyond the last row.

    Parameters
    ----------
    block : (n, y, x, c) float32
        C-contiguous.
    cut : Cut
    layout : FlatLayout
    """
    flat = np.empty(len(block) * layout.size + ROW_PIXELS, np.float32)
    _deal_out(block, cut.rows, cut.cols, layout.phases, layout.line, layout.phase, flat)
    return flat


def odd_lines(floats: int) -> int:
    """Round up to an odd number of cache lines: rows a power of two apart would fight for the same places in it."""
    return (-(-floats // 16) | 1) * 16


@kernel(given(F32, 4), given(I64, 1), given(I64, 1), result(F32, 4))
def _pad(block: Float32, rows: Int64, cols: Int64, out: Float32) -> None:
    images, height, width, channels = out.shape
    for n in range(images):
        for i in range(height):
            for j in range(width):
                if rows[i] < 0 or cols[j] < 0:
                    out[n, i, j] = 0
                else:
                    for c in range(channels):
                        out[n, i, j, c] = block[n, rows[i], cols[j], c]


@kernel(given(F32, 4), given(I64, 1), given(I64, 1), I64, I64, I64, result(F32, 1))
def _deal_out(block: Float32, rows: Int64, cols: Int64, phases: int, line: int, plane: int, flat: Float32) -> None:
    images, _, _, channels = block.shape
    height, width = rows.size, cols.size
    padded = False
    for j in range(width):
        padded = padded or cols[j] < 0
    for n in range(images):
        for p in range(phases):
            here = (width - p + phases - 1) // phases
            for i in range(height):
                row = max(rows[i], 0)
                for c in range(channels):
                    start = ((n * channels + c) * phases + p) * plane + i * line
                    into = flat[start : start + line]
                    if rows[i] < 0:
                        for j in range(line):
                            into[j] = 0
                        continue
                    for j in range(here):
                        into[j] = block[n, row, cols[p + j * phases], c]
                    if padded:
                        for j in range(here):
                            if cols[p + j * phases] < 0:
                                into[j] = 0
                    for j in range(here, line):
                        into[j] = 0
            for c in range(channels):
                start = ((n * channels + c) * phases + p) * plane
                for j in range(start + height * line, start + plane):
                    flat[j] = 0
    for j in range(images * channels * phases * plane, flat.size):
        flat[j] = 0
