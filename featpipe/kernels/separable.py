"""Cross-correlation of a few rows with separable kernels: a pass along y into cache, then one along x out of it.

Every output is a sum of fixed order over the row's taps and factors, beginning with its bias, of sums of fixed order
over the column's taps: the same bits wherever the block lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import part as compiled_part
from featpipe.kernels.convolve import pack, split_rows, sum_by_row
from featpipe.kernels.factors import Factors

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
WEIGHT, TILE, TILES, TAP, TAPS, KERNEL, KIND = range(7)
"""Columns of ``SeparableKernels.steps``: where a step's weights, tiles and taps begin, how many there are, which kernel
it makes first, and from what."""
ACROSS, SHARED, MIX = range(3)
"""From columns to kernels; from one column to the products with shared rows; from these to kernels."""


@dataclass(frozen=True, eq=False)
class SeparableKernels:
    """Separable kernels of one size, laid out for tiles of pixels.

    One pass along y makes the columns of all parts; for each part follow the steps along x that make its kernels::

        columns ──across──▶ kernels          columns ──shared──▶ products ──mix──▶ kernels
    """

    rows: int
    """Taps along y."""
    ranks: int
    """Columns of all parts."""
    products: int
    """The most products of columns and rows that a part has."""
    down: Float32
    """The columns, (y, kernels of the tile), tile after tile."""
    down_tiles: Int64
    """Columns of each tile."""
    steps: Int64
    """(steps, 7): where each step's numbers lie in the arrays below."""
    across: Float32
    """The weights of all steps, (taps, kernels of the tile), tile after tile."""
    tiles: Int64
    """Kernels of each tile."""
    tap_column: Int64
    """Of each tap, its place along x; -1 where it takes a product."""
    tap_row: Int64
    """Of each tap, the column or product that it takes."""
    features: int

    def tap_offsets(self, corner: int, dilation: int, phases: int, pitch: int, product_pitch: int) -> Int64:
        """Return where each tap lies in the scratch, whose rows (column, phase) and products are so far apart."""
        column = corner + self.tap_column * dilation
        along = (self.tap_row * phases + column % phases) * pitch + column // phases
        offsets: Int64 = np.where(self.tap_column < 0, self.tap_row * product_pitch, along)
        return offsets


class _Layout:
    """Gathers steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, ...]] = []
        self.weights: list[Float32] = []
        self.tiles: list[int] = []
        self.columns: list[Int64] = []
        self.rows: list[Int64] = []
        self.weight = self.tap = 0

    def add(self, kind: int, kernel: int, by_tap: Float32, columns: Int64, rows: Int64) -> None:
        """Add a step of weights (taps, kernels)."""
        split = split_rows(by_tap.shape[1])
        self.steps.append((self.weight, len(self.tiles), len(split), self.tap, len(by_tap), kernel, kind))
        self.weights.append(pack(by_tap, split))
        self.tiles += split
        self.columns.append(columns)
        self.rows.append(rows)
        self.weight, self.tap = self.weight + by_tap.size, self.tap + len(by_tap)


def lay_out_factors(factors: Sequence[Factors]) -> SeparableKernels:
    """Lay out factorised kernels; features follow in the order of the factors and their members."""
    layout = _Layout()
    rank = kernel = products = 0
    for part in factors:
        ranks, width = part.columns.shape[1], part.rows.shape[-1]
        x = np.arange(width)
        if part.core is None:
            by_tap = part.rows.transpose(2, 1, 0).reshape(-1, len(part.members))
            layout.add(ACROSS, kernel, by_tap, np.repeat(x, ranks), np.tile(rank + np.arange(ranks), width))
        else:
            shared = len(part.rows)
            for r in range(ranks):
                layout.add(SHARED, r * shared, part.rows.T, x, np.full(width, rank + r))
            count = ranks * shared
            mixed = part.core.reshape(len(part.members), count).T
            layout.add(MIX, kernel, mixed, np.full(count, -1), np.arange(count))
            products = max(products, count)
        rank, kernel = rank + ranks, kernel + len(part.members)
    down_tiles = split_rows(rank)
    return SeparableKernels(
        rows=len(factors[0].columns),
        ranks=rank,
        products=products,
        down=pack(np.concatenate([part.columns for part in factors], axis=1), down_tiles),
        down_tiles=np.array(down_tiles, np.int64),
        steps=np.array(layout.steps, np.int64),
        across=np.concatenate(layout.weights),
        tiles=np.array(layout.tiles, np.int64),
        tap_column=np.concatenate(layout.columns).astype(np.int64),
        tap_row=np.concatenate(layout.rows).astype(np.int64),
        features=kernel,
    )


@compiled_part
def sum_separably(
    x: Float32,
    base: int,
    count: int,
    phases: int,
    phase: int,
    reach: int,
    down: Float32,
    down_tiles: Int64,
    down_offsets: Int64,
    steps: Int64,
    across: Float32,
    tiles: Int64,
    across_offsets: Int64,
    bias: Float32,
    none: Float32,
    scratch: Float32,
    pitch: int,
    products: Float32,
    out: Float32,
    out_pitch: int,
) -> None:
    """Write the responses of ``count`` neighbouring pixels into ``out``, (kernels, out_pitch).

    The pass along y makes ``reach`` values of each phase for the pass along x. Sums that are no kernel's response yet
    begin with ``none``, zeros.
    """
    for q in range(phases):
        sum_by_row(
            x, base + q * phase, reach, down, 0, down_tiles, down_offsets, none, 0, scratch, q * pitch, phases * pitch
        )
    for s in range(steps.shape[0]):
        step = steps[s]
        some = tiles[step[TILE] : step[TILE] + step[TILES]]
        offsets, kernel = across_offsets[step[TAP] : step[TAP] + step[TAPS]], step[KERNEL]
        at = kernel * out_pitch
        if step[KIND] == SHARED:
            sum_by_row(scratch, 0, count, across, step[WEIGHT], some, offsets, none, 0, products, at, out_pitch)
        elif step[KIND] == MIX:
            sum_by_row(products, 0, count, across, step[WEIGHT], some, offsets, bias, kernel, out, at, out_pitch)
        else:
            sum_by_row(scratch, 0, count, across, step[WEIGHT], some, offsets, bias, kernel, out, at, out_pitch)
