"""What is sent of a map: thumbnails of its features, and one feature in full."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
THUMB = 112
"""Longest edge of a thumbnail, in pixels."""
PAGE = 48
"""Thumbnails that are sent at once."""
SAMPLES = 2**17
"""Of a map, by which its colours are chosen."""
BEYOND = 0.001
"""Share of the values, at either end, that may lie beyond the colours."""


@dataclass(frozen=True)
class Range:
    """What a map's colours stand for."""

    low: float
    high: float
    signed: bool
    """Whether there are values below 0: colours then diverge from it."""


def colour_range(values: Float32) -> Range:
    """Return the range of colours for all features of a map, from a part of its samples.

    A few outliers lie beyond it, so that the rest can be told apart.
    """
    step = max(1, int(np.sqrt(values.size / SAMPLES)))
    some = values[::step, ::step]
    some = some[np.isfinite(some)].astype(np.float64)  # float32 overflows between huge values of both signs
    if not some.size:
        return Range(0.0, 1.0, signed=False)
    low, high = (float(v) for v in np.quantile(some, (BEYOND, 1 - BEYOND)))
    if low == high or not np.any((some >= low) & (some <= high) & (some != 0)):
        low, high = float(some.min()), float(some.max())
    if low < 0:
        reach = max(-low, high)
        return Range(-reach, reach, signed=True)
    return Range(
        0.0 if low < 0.5 * high else low, high if high > low else low + max(1.0, 1e-6 * abs(low)), signed=False
    )


def thumbnails(values: Float32, span: Range, first: int, most: int = PAGE) -> UInt8:
    """Return small pictures of some features.

    Parameters
    ----------
    values : (y, x, k) float32
    span : Range
    first : int
        Feature to begin with.
    most : int
        How many.

    Returns
    -------
    (features, rows, columns) uint8
        0 at the range's low end, 255 at its high end; every s-th sample, with s such that they are small.
    """
    step = -(-max(values.shape[:2]) // THUMB)
    some = values[step // 2 :: step, step // 2 :: step, first : first + most].astype(np.float64)
    some = np.nan_to_num(some, posinf=span.high, neginf=span.low)
    scaled = (some - span.low) / (span.high - span.low) * 255
    return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8).transpose(2, 0, 1))


def plane(values: Float32, feature: int) -> Float32:
    """Return one feature of a map, (y, x)."""
    return np.ascontiguousarray(values[..., feature])
