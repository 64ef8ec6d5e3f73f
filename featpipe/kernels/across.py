"""Stages that look across the features of a pixel: triangle and hard assignment, and distances to centroids.

Rows are flat, (pixels, features) or, where ``planar``, (features, pixels). The features that count lie in *runs*, first
and how many: others fill up a vector. Sums and maxima over features are taken in a tree::

    v0  v1  v2  v3  v4   ──▶   v0+v3  v1+v4  v2   ──▶   v0+v3+v2  v1+v4   ──▶   their sum

whose order depends on their number alone: the same bits in both layouts, and vectors all the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import part
from featpipe.kernels.pool import ALL, L2, MAX, MIN, SUM, begin, gather

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@part
def encode_triangle(rows: Float32, spare: Float32, pixels: int, features: int, runs: Int64, planar: bool) -> None:
    """Replace z by max(0, mean - z), with the mean over the pixel's features."""
    zero, share = np.float32(0), np.float32(1) / np.float32(_count(runs))
    if planar:
        _combine_planes(rows, spare, pixels, runs, SUM)
        for k in range(features):
            row = rows[k * pixels : (k + 1) * pixels]
            for i in range(pixels):
                below = spare[i] * share - row[i]
                row[i] = zero if below < zero else below
        return
    for p in range(pixels):
        row = rows[p * features : (p + 1) * features]
        mean = _combine_pixel(row, spare, runs, SUM) * share
        for k in range(features):
            below = mean - row[k]
            row[k] = zero if below < zero else below


@part
def assign_hard(
    rows: Float32, spare: Float32, pixels: int, features: int, runs: Int64, smallest: bool, planar: bool
) -> None:
    """Replace the largest feature of a pixel, or the smallest, by 1, all others by 0; of equal ones the first wins."""
    zero, one, how = np.float32(0), np.float32(1), MIN if smallest else MAX
    if planar:
        _combine_planes(rows, spare, pixels, runs, how)
        for r in range(runs.size // 2):
            for k in range(runs[2 * r], runs[2 * r] + runs[2 * r + 1]):
                row = rows[k * pixels : (k + 1) * pixels]
                for i in range(pixels):
                    wins = row[i] == spare[i]
                    row[i] = one if wins else zero
                    spare[i] = np.float32(np.nan) if wins else spare[i]  # none that follows is equal
        return
    for p in range(pixels):
        row = rows[p * features : (p + 1) * features]
        best, r, k = _combine_pixel(row, spare, runs, how), 0, runs[0]
        while r < runs.size // 2 and row[k] != best:
            k += 1
            if k == runs[2 * r] + runs[2 * r + 1]:
                r += 1
                k = runs[2 * r] if r < runs.size // 2 else features
        row[:] = zero
        if k < features:
            row[k] = one


@part
def measure_distances(rows: Float32, spare: Float32, pixels: int, features: int, hidden: Int64, planar: bool) -> None:
    """Replace |w - v|² - w · w by |w - v|; the components of w are the ``hidden`` features."""
    zero = np.float32(0)
    if planar:
        _combine_planes(rows, spare, pixels, hidden, L2)
        for k in range(features):
            row = rows[k * pixels : (k + 1) * pixels]
            for i in range(pixels):
                square = row[i] + spare[i]
                row[i] = np.sqrt(zero if square < zero else square)
        return
    for p in range(pixels):
        row = rows[p * features : (p + 1) * features]
        length = _combine_pixel(row, spare, hidden, L2)
        for k in range(features):
            square = row[k] + length
            row[k] = np.sqrt(zero if square < zero else square)


@part
def _count(runs: Int64) -> int:
    total = 0
    for r in range(runs.size // 2):
        total += runs[2 * r + 1]
    return total


@part
def _combine_pixel(row: Float32, spare: Float32, runs: Int64, how: int) -> Any:
    """Combine the features of one pixel; their squares for l2, without the root."""
    count, zero, plain = 0, np.float32(0), SUM if how == L2 else how
    for r in range(runs.size // 2):
        length = runs[2 * r + 1]
        values, into = row[runs[2 * r] : runs[2 * r] + length], spare[count : count + length]
        begin(into, values, how, ALL, zero)
        count += length
    while count > 1:
        half = (count + 1) // 2
        gather(spare[: count - half], spare[half:count], plain, ALL, zero)
        count = half
    return spare[0]


@part
def _combine_planes(rows: Float32, spare: Float32, pixels: int, runs: Int64, how: int) -> None:
    """Combine the features of every pixel, into the first ``pixels`` of ``spare``."""
    count, zero, plain = 0, np.float32(0), SUM if how == L2 else how
    for r in range(runs.size // 2):
        length = runs[2 * r + 1]
        first = runs[2 * r] * pixels
        values, into = rows[first : first + length * pixels], spare[count * pixels : (count + length) * pixels]
        begin(into, values, how, ALL, zero)
        count += length
    while count > 1:
        half = (count + 1) // 2
        gather(spare[: (count - half) * pixels], spare[half * pixels : count * pixels], plain, ALL, zero)
        count = half
