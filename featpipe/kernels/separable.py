"""Cross-correlation with separable kernels: row by row, a pass along y into cache, then one along x out of it.

Every output is a sum of fixed order over the row's taps and factors, of sums of fixed order over the column's taps: the
same bits wherever the block lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, I64, TRIPLE, given, kernel, part, result
from featpipe.kernels.factors import Factors
from featpipe.kernels.flat import deal_out
from featpipe.kernels.tiles import ROW_KERNELS, ROW_PIXELS, row_tile_1, row_tile_2, row_tile_4

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SeparableGroup:
    """Separable kernels of one size, laid out for `correlate_separably`: part after part that share columns."""

    members: Int64
    """Which kernels of the group, part by part."""
    down: Float32
    """(y, all parts' ranks): the columns."""
    across: Float32
    """Each part's rows, (x, rank, kernel), one part after another."""
    ranks: Int64
    """Where each part's columns begin in ``down``."""
    kernels: Int64
    """Where each part's kernels begin in ``members``."""
    across_starts: Int64
    """Where each part begins in ``across``."""
    taps: Int64
    """Where each part's taps along x begin in ``tap_column`` and ``tap_factor``."""
    tap_column: Int64
    tap_factor: Int64

    @property
    def multiplies(self) -> int:
        """Multiply-adds of one pixel."""
        return self.down.size + self.across.size


def group_factors(factors: Sequence[Factors]) -> SeparableGroup:
    """Lay out factorised kernels for `correlate_separably`."""
    taps = [np.divmod(np.arange(part.rows.shape[2] * part.rows.shape[1]), part.rows.shape[1]) for part in factors]
    return SeparableGroup(
        members=np.concatenate([part.members for part in factors]).astype(np.int64),
        down=np.ascontiguousarray(np.concatenate([part.columns for part in factors], axis=1)),
        across=np.concatenate([part.rows.transpose(2, 1, 0).ravel() for part in factors]),
        ranks=_starts([part.columns.shape[1] for part in factors]),
        kernels=_starts([len(part.members) for part in factors]),
        across_starts=_starts([part.rows.size for part in factors]),
        taps=_starts([len(column) for column, _ in taps]),
        tap_column=np.concatenate([column for column, _ in taps]).astype(np.int64),
        tap_factor=np.concatenate([factor for _, factor in taps]).astype(np.int64),
    )


def _starts(lengths: Sequence[int]) -> Int64:
    return np.cumsum([0, *lengths]).astype(np.int64)


def correlate_separably(
    block: Float32,
    group: SeparableGroup,
    columns: Int64,
    bias: Float32,
    out: Float32,
    *,
    corner: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    """Correlate every channel of a block with separable kernels of one size; see `featpipe.kernels.convolve.correlate`.

    Parameters
    ----------
    block : (n, y, x, c) float32
        C-contiguous; holds the frame of every output, padding included.
    group : SeparableGroup
    columns : (k,) int64
        Which feature of the bank each kernel makes.
    bias : (bank size,) float32
        Added to the responses, by feature of the bank.
    out : (n, oy, ox, c · bank size) float32
        C-contiguous; features are channel-major.
    corner, stride, dilation : (int, int)
        Along y and x, in samples.
    """
    flat = deal_out(block, stride)
    width = -(-flat.line // ROW_PIXELS) * ROW_PIXELS + ROW_PIXELS
    down_offsets = (corner[0] + np.arange(len(group.down)) * dilation[0]) * flat.line
    column = corner[1] + group.tap_column * dilation[1]
    plane = group.tap_factor * flat.phases + column % flat.phases
    scratch = np.zeros(int(np.diff(group.ranks).max()) * flat.phases * width + ROW_PIXELS, np.float32)
    into = columns[group.members]
    for channel in range(block.shape[3]):
        _correlate_separably(
            flat.flat,
            channel * flat.channel,
            flat.steps,
            (flat.line, flat.phases, flat.phase),
            down_offsets,
            group.down,
            group.ranks,
            plane * width + column // flat.phases,
            group.taps,
            group.across,
            group.across_starts,
            group.kernels,
            into + channel * bias.size,
            bias[into],
            scratch,
            width,
            out,
        )


@part
def _pass_down(
    x: Float32,
    row: int,
    lines: tuple[int, int, int],
    offsets: Int64,
    down: Float32,
    ranks: tuple[int, int],
    sums: Float32,
    scratch: Float32,
    width: int,
) -> None:
    """Sum along y for every column ``ranks`` of ``down``, over one output row and every phase, into the scratch."""
    line, phases, phase = lines
    v = ranks[0]
    while v < ranks[1]:
        left = ranks[1] - v
        together = 4 if left >= 4 else 2 if left >= 2 else 1
        for p in range(phases):
            for j in range(0, line, ROW_PIXELS):
                at = row + p * phase + j
                if together == 4:
                    row_tile_4(x, at, down, v, down.shape[1], offsets, sums)
                elif together == 2:
                    row_tile_2(x, at, down, v, down.shape[1], offsets, sums)
                else:
                    row_tile_1(x, at, down, v, down.shape[1], offsets, sums)
                for k in range(together):
                    begin = ((v - ranks[0] + k) * phases + p) * width + j
                    scratch[begin : begin + ROW_PIXELS] = sums[k * ROW_PIXELS : (k + 1) * ROW_PIXELS]
        v += together


@part
def _pass_across(
    scratch: Float32,
    taps: Int64,
    across: Float32,
    start: int,
    columns: Int64,
    bias: Float32,
    sums: Float32,
    out: Float32,
) -> None:
    """Sum along x for every kernel of a part, over one row, into ``out``, (x, features)."""
    count, first = columns.size, 0
    while first < count:
        together = 4 if count - first >= 4 else 2 if count - first >= 2 else 1
        for j in range(0, out.shape[0], ROW_PIXELS):
            here = min(ROW_PIXELS, out.shape[0] - j)
            if together == 4:
                row_tile_4(scratch, j, across, start + first, count, taps, sums)
            elif together == 2:
                row_tile_2(scratch, j, across, start + first, count, taps, sums)
            else:
                row_tile_1(scratch, j, across, start + first, count, taps, sums)
            for k in range(together):
                into, add = columns[first + k], bias[first + k]
                tile = sums[k * ROW_PIXELS : k * ROW_PIXELS + here]
                for q in range(here):
                    out[j + q, into] = tile[q] + add
        first += together


@kernel(
    given(F32, 1),
    I64,
    TRIPLE,
    TRIPLE,
    given(I64, 1),
    given(F32, 2),
    given(I64, 1),
    given(I64, 1),
    given(I64, 1),
    given(F32, 1),
    given(I64, 1),
    given(I64, 1),
    given(I64, 1),
    given(F32, 1),
    result(F32, 1),
    I64,
    result(F32, 4),
)
def _correlate_separably(
    x: Float32,
    base: int,
    steps: tuple[int, int, int],
    lines: tuple[int, int, int],
    down_offsets: Int64,
    down: Float32,
    ranks: Int64,
    across_offsets: Int64,
    taps: Int64,
    across: Float32,
    across_starts: Int64,
    kernels: Int64,
    columns: Int64,
    bias: Float32,
    scratch: Float32,
    width: int,
    out: Float32,
) -> None:
    sums = np.empty(ROW_KERNELS * ROW_PIXELS, np.float32)
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            row = base + n * steps[0] + i * steps[1]
            for c in range(ranks.size - 1):
                both = (ranks[c], ranks[c + 1])
                _pass_down(x, row, lines, down_offsets, down, both, sums, scratch, width)
                some = slice(kernels[c], kernels[c + 1])
                offsets = across_offsets[taps[c] : taps[c + 1]]
                _pass_across(scratch, offsets, across, across_starts[c], columns[some], bias[some], sums, out[n, i])
