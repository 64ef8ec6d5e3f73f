"""What is done to responses between the convolution and the pooling, on a few rows in cache.

A buffer of rows is flat, in one of two orders: pixel by pixel, (pixels, features), or feature by feature,
(features, pixels). Both give the same bits: every value is made by the same operations in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.kernels.across import assign_hard, encode_triangle, measure_distances
from featpipe.kernels.compiled import F32, F64, I64, given, named_tuple, part
from featpipe.kernels.pointwise import SIMPLE
from featpipe.kernels.pool import ABOVE, ALL, CODES, L2, MEAN, Statistic, begin, combine, finish, gather

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

RELU, ABS, SQUARE, SQRT, SOFT, SPLIT = range(len(SIMPLE))
STANDARDISE, FOLD, TRIANGLE, HARD, DISTANCE = range(len(SIMPLE), len(SIMPLE) + 5)


class Stages(NamedTuple):
    """The steps, for `apply_stages`."""

    steps: Int64
    """(steps, 5): code, features before and after, where its numbers begin in ``values`` or ``members``, and the
    statistic of a fold, or 1 for the smallest of a hard assignment."""
    values: Float32
    members: Int64
    halves: int
    """The rows gathered: those ABOVE the threshold, and for 2 those BELOW it as well."""
    take: int
    """What is gathered first."""
    threshold: float


STAGES = named_tuple(Stages, [given(I64, 2), given(F32, 1), given(I64, 1), I64, I64, F64])


@dataclass
class StageList:
    """Gathers steps.

    Parameters
    ----------
    features : int
        Before the first step.
    """

    features: int
    steps: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    members: list[int] = field(default_factory=list)

    def activate(self, name: str, threshold: float) -> None:
        """Add a function of one value (sqrt takes negative ones for 0); ``split`` doubles the features."""
        code = SIMPLE.index(name)
        self._add(code, self.features * (2 if code == SPLIT else 1), len(self.values))
        self.values.append(threshold)

    def standardise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Add (v - mean) / std, feature by feature."""
        self._add(STANDARDISE, self.features, len(self.values))
        self.values += [*mean, *std]

    def fold(self, by: Statistic, groups: Sequence[Sequence[int]]) -> None:
        """Add a statistic of groups of features."""
        self._add(FOLD, len(groups), len(self.members), CODES[by])
        starts = np.cumsum([0, *map(len, groups)])
        self.members += [*(int(start) for start in starts), *(member for group in groups for member in group)]

    def encode(self, name: str, features: Sequence[bool]) -> None:
        """Add an encoder across the features that count: triangle, hard, or nearest."""
        self._across(TRIANGLE if name == "triangle" else HARD, features, int(name == "nearest"))

    def measure(self, hidden: Sequence[bool]) -> None:
        """Turn squared distances, less the square of a pixel's hidden components, into distances."""
        self._across(DISTANCE, hidden, 0)

    def _across(self, code: int, chosen: Sequence[bool], option: int) -> None:
        self._add(code, self.features, len(self.members), option)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(chosen, np.int8), [0]]).astype(np.int8)))
        runs = [number for first, stop in edges.reshape(-1, 2).tolist() for number in (first, stop - first)]
        self.members += [len(runs), *runs]

    def _add(self, code: int, features: int, at: int, statistic: int = 0) -> None:
        self.steps.append((code, self.features, features, at, statistic))
        self.features = features

    @property
    def widest(self) -> int:
        """The most features between two steps."""
        return max((max(before, after) for _, before, after, _, _ in self.steps), default=self.features)

    def finish(self, by: Statistic | None) -> Stages:
        """Return the steps as arrays; a last one that pooling ``by`` can do on its way is left to it."""
        steps, halves, take, threshold = self.steps, 1, ALL, 0.0
        code = steps[-1][0] if steps else None
        if (code == RELU and by in ("mean", "sum", "max")) or (code == SPLIT and by in ("mean", "sum")):
            steps, take = steps[:-1], ABOVE
            if code == SPLIT:
                halves, threshold = 2, self.values[self.steps[-1][3]]
        return Stages(
            np.array(steps, np.int64).reshape(-1, 5),
            np.array(self.values, np.float32),
            np.array(self.members, np.int64),
            halves,
            take,
            threshold,
        )


@part
def apply_stages(stages: Stages, first: Float32, second: Float32, pixels: int, planar: bool) -> Float32:
    """Apply all steps to the rows in ``first``; return the buffer that holds the result, ``first`` or ``second``."""
    source, target = first, second
    for step in stages.steps:
        code, before, after, at = step[0], step[1], step[2], step[3]
        size = before * pixels
        if code == SPLIT:
            _split(source, target, pixels, before, stages.values[at], planar)
        elif code == FOLD:
            members = stages.members[at:]
            _fold(source, target, pixels, before, after, members[: after + 1], members[after + 1 :], step[4], planar)
        elif code in (TRIANGLE, HARD, DISTANCE):
            runs = stages.members[at + 1 : at + 1 + stages.members[at]]
            if code == TRIANGLE:
                encode_triangle(source, target, pixels, before, runs, planar)
            elif code == HARD:
                assign_hard(source, target, pixels, before, runs, step[4] == 1, planar)
            else:
                measure_distances(source, target, pixels, before, runs, planar)
        elif code == STANDARDISE:
            mean, std = stages.values[at : at + before], stages.values[at + before : at + 2 * before]
            _standardise(source, pixels, before, mean, std, planar)
        else:
            _activate(source, size, code, stages.values[at])
        if code in (SPLIT, FOLD):
            source, target = target, source
    return source


@part
def _activate(rows: Float32, size: int, code: int, threshold: float) -> None:
    zero = np.float32(0)
    if code == RELU:
        for i in range(size):
            rows[i] = zero if rows[i] < zero else rows[i]
    elif code == ABS:
        for i in range(size):
            rows[i] = abs(rows[i])
    elif code == SQUARE:
        for i in range(size):
            rows[i] = rows[i] * rows[i]
    elif code == SQRT:
        for i in range(size):
            rows[i] = np.sqrt(zero if rows[i] < zero else rows[i])
    else:
        for i in range(size):
            beyond = abs(rows[i]) - threshold
            rows[i] = np.copysign(zero if beyond < zero else beyond, rows[i])


@part
def _split(source: Float32, target: Float32, pixels: int, features: int, threshold: float, planar: bool) -> None:
    """Make all positive halves, then all negative ones."""
    zero = np.float32(0)
    runs, length = (1, pixels * features) if planar else (pixels, features)
    for r in range(runs):
        values = source[r * length : (r + 1) * length]
        above = target[2 * r * length : (2 * r + 1) * length]
        below = target[(2 * r + 1) * length : (2 * r + 2) * length]
        for k in range(length):
            up, down = values[k] - threshold, -values[k] - threshold
            above[k] = zero if up < zero else up
            below[k] = zero if down < zero else down


@part
def _standardise(rows: Float32, pixels: int, features: int, mean: Float32, std: Float32, planar: bool) -> None:
    if planar:
        for k in range(features):
            row = rows[k * pixels : (k + 1) * pixels]
            for i in range(pixels):
                row[i] = (row[i] - mean[k]) / std[k]
    else:
        for p in range(pixels):
            row = rows[p * features : (p + 1) * features]
            for k in range(features):
                row[k] = (row[k] - mean[k]) / std[k]


@part
def _fold(
    source: Float32,
    target: Float32,
    pixels: int,
    before: int,
    after: int,
    starts: Int64,
    members: Int64,
    by: int,
    planar: bool,
) -> None:
    """Combine groups of features, in the order of their members."""
    zero = np.float32(0)
    if planar:
        for g in range(after):
            into = target[g * pixels : (g + 1) * pixels]
            first, count = members[starts[g]] * pixels, starts[g + 1] - starts[g]
            if by == L2 and count == 2:
                second = members[starts[g] + 1] * pixels
                _fold_pair(into, source[first : first + pixels], source[second : second + pixels])
                continue
            begin(into, source[first : first + pixels], by, ALL, zero)
            for m in range(starts[g] + 1, starts[g + 1]):
                gather(into, source[members[m] * pixels : (members[m] + 1) * pixels], by, ALL, zero)
            if by == L2:
                finish(into, L2, zero)
            elif by == MEAN:
                for i in range(pixels):
                    into[i] = into[i] / np.float32(count)
        return
    for p in range(pixels):
        row, into = source[p * before : (p + 1) * before], target[p * after : (p + 1) * after]
        for g in range(after):
            first, count = starts[g], starts[g + 1] - starts[g]
            value = row[members[first]]
            held = value * value if by == L2 else value
            for m in range(first + 1, first + count):
                value = row[members[m]]
                held = combine(held, value * value if by == L2 else value, by)
            into[g] = np.sqrt(held) if by == L2 else held / np.float32(count) if by == MEAN else held


@part
def _fold_pair(into: Float32, first: Float32, second: Float32) -> None:
    """Take the length of pairs: the local amplitude of an even and an odd filter."""
    for i in range(into.size):
        into[i] = np.sqrt(first[i] * first[i] + second[i] * second[i])
