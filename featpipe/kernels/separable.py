"""Cross-correlation of a few rows with separable kernels: a pass along y into cache, then one along x out of it.

Every output is a sum of fixed order over the row's taps and factors, beginning with its bias, of sums of fixed order
over the column's taps: the same bits wherever the block lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import part
from featpipe.kernels.convolve import pack, split_rows, sum_by_row
from featpipe.kernels.factors import Factors

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
RANKS, DOWN, DOWN_TILE, DOWN_TILES, ACROSS, ACROSS_TILE, ACROSS_TILES, TAP, TAPS, KERNEL = range(10)
"""Columns of ``SeparableKernels.parts``."""


@dataclass(frozen=True, eq=False)
class SeparableKernels:
    """Separable kernels of one size, laid out for tiles of pixels: part after part that share columns."""

    parts: Int64
    """(parts, 10): where each part's numbers lie in the other arrays."""
    rows: int
    """Taps along y."""
    down: Float32
    """The columns, tile after tile."""
    across: Float32
    """The rows, (x and factor, kernels of the tile), tile after tile."""
    tiles: Int64
    """Kernels of each tile, of both passes."""
    tap_column: Int64
    tap_factor: Int64
    """Of each part's taps along x, in the order (x, factor)."""
    features: int

    def tap_offsets(self, corner: int, dilation: int, phases: int, pitch: int) -> Int64:
        """Return where each tap along x lies in the scratch, whose rows (factor, phase) are ``pitch`` apart."""
        column = corner + self.tap_column * dilation
        offsets: Int64 = (self.tap_factor * phases + column % phases) * pitch + column // phases
        return offsets

    @property
    def ranks(self) -> int:
        """The most columns that a part has."""
        return int(self.parts[:, RANKS].max())


def lay_out_factors(factors: Sequence[Factors]) -> SeparableKernels:
    """Lay out factorised kernels; features follow in the order of the factors and their members."""
    parts = np.zeros((len(factors), 10), np.int64)
    down, across, tiles, columns, of_factor = [], [], [], [], []
    sizes = [0] * 5  # of down, across, tiles, taps, kernels so far
    for i, shared in enumerate(factors):
        kernels, rank, width = shared.rows.shape
        vertical, horizontal = split_rows(rank), split_rows(kernels)
        x, factor = np.divmod(np.arange(width * rank), rank)
        row = parts[i]
        row[[RANKS, DOWN, DOWN_TILE, DOWN_TILES]] = rank, sizes[0], sizes[2], len(vertical)
        row[[ACROSS, ACROSS_TILE, ACROSS_TILES]] = sizes[1], sizes[2] + len(vertical), len(horizontal)
        row[[TAP, TAPS, KERNEL]] = sizes[3], len(x), sizes[4]
        down.append(pack(shared.columns, vertical))
        across.append(pack(shared.rows.transpose(2, 1, 0).reshape(-1, kernels), horizontal))
        tiles += vertical + horizontal
        columns.append(x)
        of_factor.append(factor)
        added = (shared.columns.size, shared.rows.size, len(vertical) + len(horizontal), len(x), kernels)
        sizes = [size + more for size, more in zip(sizes, added, strict=True)]
    return SeparableKernels(
        parts,
        len(factors[0].columns),
        np.concatenate(down),
        np.concatenate(across),
        np.array(tiles, np.int64),
        np.concatenate(columns).astype(np.int64),
        np.concatenate(of_factor).astype(np.int64),
        sizes[4],
    )


@part
def sum_separably(
    x: Float32,
    base: int,
    count: int,
    phases: int,
    phase: int,
    reach: int,
    parts: Int64,
    down: Float32,
    down_offsets: Int64,
    across: Float32,
    across_offsets: Int64,
    tiles: Int64,
    bias: Float32,
    none: Float32,
    scratch: Float32,
    pitch: int,
    out: Float32,
    out_pitch: int,
) -> None:
    """Write the responses of ``count`` neighbouring pixels into ``out``, (kernels, out_pitch).

    The pass along y makes ``reach`` values of each phase for the pass along x; its sums begin with ``none``, zeros.
    """
    for p in range(parts.shape[0]):
        row = parts[p]
        some = tiles[row[DOWN_TILE] : row[DOWN_TILE] + row[DOWN_TILES]]
        for q in range(phases):
            at = q * pitch
            sum_by_row(
                x, base + q * phase, reach, down, row[DOWN], some, down_offsets, none, 0, scratch, at, phases * pitch
            )
        some = tiles[row[ACROSS_TILE] : row[ACROSS_TILE] + row[ACROSS_TILES]]
        offsets = across_offsets[row[TAP] : row[TAP] + row[TAPS]]
        kernel = row[KERNEL]
        sum_by_row(
            scratch, 0, count, across, row[ACROSS], some, offsets, bias, kernel, out, kernel * out_pitch, out_pitch
        )
