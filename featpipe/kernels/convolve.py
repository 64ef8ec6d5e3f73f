"""Direct cross-correlation of a few rows with kernels of one size, into a buffer in cache.

Every output is one sum over the taps in the order (y, x, channel), beginning with its bias, each tap added by a fused
multiply-add: the same bits wherever the block lies. Register tiles compute it: of kernels where there are many of
them, of neighbouring pixels where there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import part
from featpipe.kernels.tiles import (
    KERNEL_TILES,
    LANES,
    PIXELS,
    ROW_PIXELS,
    ROW_TILES,
    kernel_tile_1,
    kernel_tile_2,
    kernel_tile_3,
    kernel_tile_4,
    row_tile_1,
    row_tile_2,
    row_tile_4,
    row_tile_6,
)

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
TILE_COST = {4: 4.0, 3: 3.0, 2: 2.2, 1: 1.6} if LANES != 8 else {2: 2.0, 1: 1.3}
"""Of a tile of kernels, by its vectors: narrow ones wait for their loads."""
ROW_COST = 1.05
"""Of tiles of pixels: they wait a little for their loads across cache lines."""
TURNED_COST = 1.15
"""The same where nothing pools their rows, which are then turned around as they are written."""


@dataclass(frozen=True, eq=False)
class DirectKernels:
    """Kernels of one size, laid out for register tiles."""

    by_kernel: bool
    """Vectors hold kernels; else neighbouring pixels."""
    taps: tuple[int, int, int]
    """Along y, x and channel."""
    weights: Float32
    """Tile after tile, (taps, kernels of the tile)."""
    tiles: Int64
    """Kernels of each tile."""
    features: int
    """With those that fill up the last vector."""


def lay_out_kernels(weights: Float32, *, pooled: bool) -> DirectKernels:
    """Lay out kernels for the tiles that waste less.

    Parameters
    ----------
    weights : (k, y, x, c) float32
    pooled : bool
        Whether the responses are pooled before they are written.
    """
    count = len(weights)
    vectors = _split(-(-count // LANES), KERNEL_TILES)
    by_kernel = sum(TILE_COST[tile] for tile in vectors) * LANES <= (ROW_COST if pooled else TURNED_COST) * count
    tiles = [tile * LANES for tile in vectors] if by_kernel else split_rows(count)
    features = sum(tiles)
    by_tap = np.zeros((weights[0].size, features), np.float32)
    by_tap[:, :count] = weights.reshape(count, -1).T
    shape = (weights.shape[1], weights.shape[2], weights.shape[3])
    return DirectKernels(by_kernel, shape, pack(by_tap, tiles), np.array(tiles, np.int64), features)


def split_rows(count: int) -> list[int]:
    """Return the tiles of pixels for so many kernels."""
    return [4, 4] if count == 8 else _split(count, ROW_TILES)


def pack(by_tap: Float32, tiles: Sequence[int]) -> Float32:
    """Lay out weights, (taps, kernels), tile after tile."""
    pieces = np.split(by_tap, np.cumsum(tiles)[:-1], axis=1)
    return np.concatenate([np.ascontiguousarray(piece, np.float32).ravel() for piece in pieces])


def _split(count: int, sizes: Sequence[int]) -> list[int]:
    """Split a count into tiles, the widest first."""
    tiles = []
    while count:
        tiles.append(next(size for size in sizes if size <= count))
        count -= tiles[-1]
    return tiles


@part
def sum_by_kernel(
    x: Float32,
    base: int,
    starts: Int64,
    count: int,
    weights: Float32,
    tiles: Int64,
    offsets: Int64,
    bias: Float32,
    scaled: int,
    scales: Float32,
    scale: int,
    out: Float32,
    pitch: int,
) -> None:
    """Write the responses of pixels ``starts`` to all kernels into ``out``, (pixels, pitch).

    Where ``scaled``, responses are multiplied by ``scales[scale + pixel]`` before the bias is added. ``starts``,
    ``scales`` and ``out`` hold PIXELS more than ``count``.
    """
    kernel = first = 0
    for tile in tiles:
        for p in range(0, count, PIXELS):
            at = p * pitch + kernel
            if tile == 4 * LANES:
                kernel_tile_4(
                    x, base, starts, p, weights, first, offsets, bias, kernel, scaled, scales, scale, out, at, pitch
                )
            elif tile == 3 * LANES:
                kernel_tile_3(
                    x, base, starts, p, weights, first, offsets, bias, kernel, scaled, scales, scale, out, at, pitch
                )
            elif tile == 2 * LANES:
                kernel_tile_2(
                    x, base, starts, p, weights, first, offsets, bias, kernel, scaled, scales, scale, out, at, pitch
                )
            else:
                kernel_tile_1(
                    x, base, starts, p, weights, first, offsets, bias, kernel, scaled, scales, scale, out, at, pitch
                )
        kernel += tile
        first += tile * offsets.size


@part
def sum_by_row(
    x: Float32,
    base: int,
    count: int,
    weights: Float32,
    first: int,
    tiles: Int64,
    offsets: Int64,
    bias: Float32,
    kernel: int,
    out: Float32,
    at: int,
    pitch: int,
) -> None:
    """Write the responses of ``count`` neighbouring pixels, and up to ROW_PIXELS more, into ``out``, (kernels, pitch).

    The kernels begin at ``weights[first]`` and ``bias[kernel]``, their rows at ``out[at]``.
    """
    for tile in tiles:
        for j in range(0, count, ROW_PIXELS):
            if tile == 6:
                row_tile_6(x, base + j, weights, first, offsets, bias, kernel, out, at + j, pitch)
            elif tile == 4:
                row_tile_4(x, base + j, weights, first, offsets, bias, kernel, out, at + j, pitch)
            elif tile == 2:
                row_tile_2(x, base + j, weights, first, offsets, bias, kernel, out, at + j, pitch)
            else:
                row_tile_1(x, base + j, weights, first, offsets, bias, kernel, out, at + j, pitch)
        kernel += tile
        at += tile * pitch
        first += tile * offsets.size
