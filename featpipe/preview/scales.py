"""Which colours tell which values: one scale for a layer where that can be read, else one a row, else one a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Mode = Literal["all", "rows", "own"]
SHARE = 99.5
"""Percent of the values that colours tell apart at least."""
CLEAR, TELLING = 0.3, 0.25
"""Of a scale that a picture must use, to be seen in it at a glance, and at all."""
EVEN = 0.5
"""Of the strongest pictures' reach that those of every row have where rows share a scale."""
FAINT = 20
"""Percent of the pictures that may use less."""
SAMPLED = 1 << 20
"""Values that percentiles are taken from."""


@dataclass(frozen=True)
class Scale:
    """The values from the first colour to the last."""

    low: float
    high: float
    cut_low: bool = False
    """Whether there are values below it."""
    cut_high: bool = False

    @property
    def signed(self) -> bool:
        """Whether 0 is in the middle."""
        return self.low < 0

    @property
    def text(self) -> str:
        """For people: ``±0.12``, ``0 – 3.4``."""
        return f"±{number_text(self.high)}" if self.signed else f"{number_text(self.low)} – {number_text(self.high)}"


def scale_of(values: Sequence[Floats], *, signed: bool | None = None, whole: bool = False) -> Scale:
    """Return the scale of some pictures together: around 0 if any value is negative, else from 0, or from the least.

    The largest 0.5 % are cut off where they would take most of the scale.

    Parameters
    ----------
    values : sequence of arrays
    signed : bool, optional
        Whether 0 is in the middle; found out unless given.
    whole : bool
        Cut nothing off.
    """
    low, high = min(float(one.min()) for one in values), max(float(one.max()) for one in values)
    step = max(1, sum(one.size for one in values) // SAMPLED)
    flat = np.concatenate([one.ravel()[::step] for one in values]).astype(np.float64)
    if signed if signed is not None else low < 0:
        size = _robust(np.abs(flat), max(-low, high), whole=whole)
        return Scale(-size, size, low < -size, high > size)
    top = _robust(flat, high, whole=whole)
    bottom = low if whole else float(np.percentile(flat, 100 - SHARE))
    bottom = _rounded(bottom, top - bottom, up=False) if bottom > 0.6 * top else 0.0
    return Scale(bottom, top, low < bottom, high > top)


def _robust(flat: Floats, most: float, *, whole: bool) -> float:
    """Return the largest value but for a few that are far beyond the others, rounded up to two digits."""
    if most <= 0:
        return 1.0
    size = float(np.percentile(flat, SHARE))
    return _rounded(most if whole or not 0.02 * most < size < 0.7 * most else size)


def _rounded(value: float, span: float | None = None, *, up: bool = True) -> float:
    """Round to two digits of ``span``, or of the value itself."""
    span = abs(value) if span is None else span
    if span <= 0:
        return value
    unit = 10.0 ** (floor(log10(span)) - 1)
    steps = value / unit
    return float(f"{(np.ceil(steps - 1e-9) if up else np.floor(steps + 1e-9)) * unit:.12g}")


def share_scales(
    values: Sequence[Floats], rows: Sequence[int], *, kernels: bool = False, even: bool = True
) -> tuple[Mode, tuple[Scale, ...], int]:
    """Return what shares a scale, every picture's scale, and how hard those are to read: 0 to 4.

    Parameters
    ----------
    values : sequence of arrays
    rows : sequence of int
        In which row each picture stands.
    kernels : bool
        Whether 0 is in the middle, and nothing is cut off.
    even : bool
        Whether one scale may be clear for all.
    """
    values = finite(values)
    reach = _reach(values)
    found: list[tuple[Mode, tuple[Scale, ...], float]] = []
    ways: dict[Mode, Sequence[int]] = {"all": [0] * len(values), "rows": rows, "own": range(len(values))}
    for mode, groups in ways.items():
        shared = {
            at: scale_of(
                [one for one, group in zip(values, groups, strict=True) if group == at],
                signed=kernels or None,
                whole=kernels,
            )
            for at in set(groups)
        }
        scales = tuple(shared[at] for at in groups)
        found.append((mode, scales, _faintest(reach, [one.high for one in scales])))
    for limit in (CLEAR, TELLING):
        for mode, scales, faintest in found[:2]:
            useful = mode == "all" or 1 < len(set(rows)) < len(values)
            clear = limit == CLEAR
            if len(values) == 1 or (useful and faintest >= limit and (even or mode == "rows" or not clear)):
                return mode, scales, 2 * (not clear) + (mode == "rows")
    return "own", found[2][1], 4


def finite(values: Sequence[Floats]) -> list[Floats]:
    """Return the values of each picture that can be told by colours; a lone 0 of one that has none."""
    kept = [one[np.isfinite(one)] for one in values]
    return [one if one.size else np.zeros(1) for one in kept]


def are_even(values: Sequence[Floats], groups: Sequence[object]) -> bool:
    """Tell whether the strongest pictures of all groups are about as strong."""
    tops: dict[object, float] = {}
    for group, reach in zip(groups, _reach(finite(values)).tolist(), strict=True):
        tops[group] = max(reach, tops.get(group, 0.0))
    return min(tops.values()) >= EVEN * max(tops.values())


def _reach(values: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """Return how far from 0 each picture goes, but for its few largest values."""
    some = (np.abs(one[:: max(1, one.size // SAMPLED)].astype(np.float64)) for one in values)
    return np.array([float(np.percentile(one, SHARE)) for one in some])


def _faintest(reach: npt.NDArray[np.float64], tops: Sequence[float]) -> float:
    seen = reach > 0
    shares = reach[seen] / np.array(tops)[seen]
    return float(np.percentile(shares, FAINT, method="lower")) if seen.any() else 1.0


def number_text(value: float) -> str:
    """Write a number shortly.

    Examples
    --------
    >>> number_text(0.0347), number_text(-2400.0), number_text(0.0), number_text(0.00001234), number_text(1.25)
    ('0.035', '−2400', '0', '1.2e−5', '1.2')
    """
    if value == 0:
        return "0"
    digits = 2 if abs(value) < 10 else 3 if abs(value) < 1000 else 4
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, _, power = text.partition("e")
        text = f"{mantissa}e{int(power)}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.0f}"
    return text.replace("-", "−")
