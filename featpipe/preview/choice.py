"""Which features are shown where there are too many, and in which rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import log, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.kernels.bank import Labels
from featpipe.report.arrangement import MOST_COLUMNS, Arrangement, in_lines, line_length, tables, varying

MOST = 64
"""Features of a layer that are shown."""
MOST_ALIKE = 32
"""Of those that only a number tells apart, as the kernels of a learned bank."""
MOST_ROWS = 12
FILLED = 0.65
"""Of a table: the cells of a bank's unoriented kernels are empty but for one."""
AS_BEFORE = "those chosen before"
Kept = Mapping[str, Sequence[Any]]
"""Labels to the values that were chosen of them before."""


@dataclass(frozen=True)
class Choice:
    """The features of a layer that are shown."""

    features: tuple[int, ...]
    words: str = ""
    """Which those are, for people; empty where they are all."""
    kept: Kept = field(default_factory=dict)
    """The values that were chosen of labels, for the layers that follow."""


def choose(labels: Sequence[Labels], variance: npt.NDArray[np.float64], kept: Kept) -> Choice:
    """Choose the features to show: all, or those whose labels have some of the values that there are.

    The label with the most values loses some until few enough features are left, so that what is shown is a table of
    labels as the whole is. Of measures (orientations, frequencies, widths) every second value stays, or every third,
    …; of numbers and names (kernels, bins) those whose features vary most over the image. Values that a layer
    before has chosen stay chosen.

    Parameters
    ----------
    labels : sequence of dict
        Of every feature.
    variance : (k,) float64
        Of every feature over the image.
    kept : mapping of str to sequence
        Values chosen of labels in the layers before.
    """
    count = len(labels)
    values = {key: list(dict.fromkeys(one.get(key) for one in labels)) for key in varying(labels)}
    carried = {key: [v for v in values[key] if v in set(kept[key])] for key in values if key in kept}
    carried = {key: some for key, some in carried.items() if some and len(some) < len(values[key])}
    if count <= (MOST if len(values) > 1 else MOST_ALIKE + 4):
        return Choice(tuple(range(count)), "", {})
    left = {**values, **carried}
    steps = _thin(left, values)
    words = []
    for key, some in values.items():
        chosen, said = _values(key, some, left[key], steps.get(key), labels, variance)
        if key in carried and len(chosen) == len(carried[key]):
            said = AS_BEFORE
        left[key] = chosen
        words += [said] if said else []
    sets = {key: set(some) for key, some in left.items()}
    features = [i for i, one in enumerate(labels) if all(one.get(key) in sets[key] for key in sets)]
    if not features:  # labels that go together in no regular way
        features = sorted(np.argsort(-variance, kind="stable")[:MOST_ALIKE].tolist())
        words = ["those that vary most"]
        left = {}
    picked = {key: some for key, some in left.items() if len(some) < len(values[key])}
    return Choice(tuple(features), f"{len(features)} of {count:,} shown: {', '.join(dict.fromkeys(words))}", picked)


def renamed(kept: Kept, features: Sequence[Labels]) -> Kept:
    """Return the values chosen of labels under the names that the labels of a convolution's input have after it."""
    known = {key for labels in features for key in labels}
    found = {}
    for key, values in kept.items():
        name = key
        while f"input_{name}" in known:
            name = f"input_{name}"
        found[name] = values
    return found


def _is_measure(values: Sequence[Any]) -> bool:
    return all(isinstance(value, float) for value in values)


def _thin(left: Mapping[str, Sequence[Any]], values: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    """Return how many values of numbers and names stay, and every how many of measures, until few are left."""
    counts = {key: len(some) for key, some in left.items()}
    steps: dict[str, int] = {}
    single = len(counts) == 1
    while prod(counts.values()) > (MOST_ALIKE if single else MOST) or (
        not single and max(counts.values()) > MOST_COLUMNS
    ):
        key = max(reversed(counts), key=counts.__getitem__)
        if _is_measure(values[key]):
            steps[key] = steps.get(key, 1) + 1
            counts[key] = -(-len(left[key]) // steps[key])
        else:
            others = prod(counts.values()) // counts[key]
            fits = MOST // others if others else 1
            limit = MOST_ALIKE if single else MOST_COLUMNS
            counts[key] = steps[key] = max(1, min(counts[key] - 1, max(fits, 8), limit))
    return steps


def _values(
    key: str,
    values: Sequence[Any],
    left: Sequence[Any],
    step: int | None,
    labels: Sequence[Labels],
    variance: npt.NDArray[np.float64],
) -> tuple[list[Any], str]:
    """Return the values of a label that are shown, and how they were chosen."""
    if step is None:
        return list(left), ""
    if _is_measure(values):
        return list(left)[::step], f"every {_ordinal(step)} {_plain(key)}"
    total = dict.fromkeys(left, 0.0)
    for one, spread in zip(labels, variance.tolist(), strict=True):
        if one.get(key) in total:
            total[one.get(key)] += spread
    most = set(sorted(total, key=lambda value: -total[value])[:step])
    return [value for value in left if value in most], f"the {step} {_plural(key)} of largest variance"


def _plain(key: str) -> str:
    return key.replace("_", " ")


def _plural(key: str) -> str:
    plain = _plain(key)
    return f"{plain[:-1]}ies" if plain.endswith("y") else f"{plain}s"


def _ordinal(step: int) -> str:
    return {2: "second", 3: "third"}.get(step, f"{step}th")


def arrangements(labels: Sequence[Labels], aspect: float) -> list[Arrangement]:
    """Return the ways to lay features out, the one of the best shape first: tables by their labels, or lines.

    Parameters
    ----------
    labels : sequence of dict
    aspect : float
        Width of one picture by its height.
    """
    known = varying(labels)
    if len(labels) == 1 or not known:
        return [in_lines(len(labels), min(len(labels), 8))]
    ways = []
    for order in permutations(known) if len(known) <= 4 else [tuple(known), tuple(known[::-1])]:
        inside = [key for key in known if key in order]
        for first in range(1, len(known)):
            rows, columns = order[:first], order[first:]
            if all(list(part) == [key for key in inside if key in part] for part in (rows, columns)):
                ways.append((rows, columns))
    found = [table for table in tables(labels, ways, FILLED) if table.shape[0] <= MOST_ROWS]
    found.sort(key=lambda table: _shapeliness(table, aspect))
    lines = _lines(labels, aspect)
    full = [table for table in found if len(labels) > 0.9 * table.shape[0] * table.shape[1]]
    return full or [*found, *lines[: 1 if found else None]]


def _shapeliness(table: Arrangement, aspect: float) -> float:
    """Return how far a table is from the shape of a line on the page, and from being full."""
    rows, columns = table.shape
    count = len(table.places)
    wanted = 2.5 if count <= 16 else 4.0
    return abs(log(columns * aspect / rows / wanted)) + 4 * (1 - count / (rows * columns))


def _lines(labels: Sequence[Labels], aspect: float) -> list[Arrangement]:
    count = len(labels)
    widths = [width for width in range(1, min(count, 12) + 1) if -(-count // width) <= MOST_ROWS]
    if len(varying(labels)) > 1:
        widths = [line_length(labels), *(width for width in widths if count % width == 0)]
    found = sorted(
        (in_lines(count, width) for width in dict.fromkeys(widths)), key=lambda one: _shapeliness(one, aspect)
    )
    return [one for one in found if one is found[0] or count % one.shape[1] == 0]
