"""Features or kernels in rows and columns, by their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from featpipe.kernels.bank import Labels

MOST_COLUMNS = 16
LONGEST = 20
"""Letters of a value that are shown."""


@dataclass(frozen=True)
class Arrangement:
    """Where each of some features stands."""

    places: tuple[tuple[int, int], ...]
    """Row and column of each."""
    rows: tuple[str, ...] = ()
    """The labels that tell the row; none where they stand line by line."""
    columns: tuple[str, ...] = ()
    """The labels that tell the column."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return 1 + max(row for row, _ in self.places), 1 + max(column for _, column in self.places)


def arrange(labels: Sequence[Labels]) -> Arrangement:
    """Return a table by the labels where they make one, else line by line."""
    known = varying(labels)
    table = next(tables(labels, [(known[:i], known[i:]) for i in range(1, len(known))]), None)
    return table if table is not None else in_lines(len(labels), line_length(labels))


def tables(
    labels: Sequence[Labels], ways: Sequence[tuple[Sequence[str], Sequence[str]]], filled: float = 0.9
) -> Iterator[Arrangement]:
    """Yield the tables that labels make, of those asked for: (labels of the rows, labels of the columns) each.

    ``filled`` is the share of a table's cells that must hold something.
    """
    for of_rows, of_columns in ways:
        rows = _numbered([tuple(one.get(key) for key in of_rows) for one in labels])
        columns = _numbered([tuple(one.get(key) for key in of_columns) for one in labels])
        places = tuple(zip(rows, columns, strict=True))
        size = (1 + max(rows)) * (1 + max(columns))
        if max(columns) < MOST_COLUMNS and len(labels) >= filled * size and len(set(places)) == len(places):
            yield Arrangement(places, tuple(of_rows), tuple(of_columns))


def in_lines(count: int, width: int) -> Arrangement:
    """Return so many features line by line."""
    return Arrangement(tuple(divmod(i, width) for i in range(count)))


def line_length(labels: Sequence[Labels]) -> int:
    """Return how many stand in a line: one cycle of the last label, or what leaves the fewest gaps."""
    known = varying(labels)
    values = [one.get(known[-1]) for one in labels] if known else [None]
    count = len(labels)
    if count <= 4:
        return count
    cycle = next((i for i, value in enumerate(values) if value in values[:i]), count)
    if 4 <= cycle <= MOST_COLUMNS and cycle < count:
        return cycle
    few = min(8, count)
    wanted = range(4, few + 1) if count <= 64 else range(12, MOST_COLUMNS + 1)
    return min(wanted, key=lambda width: (-count % width, -width))


def _numbered(keys: Sequence[tuple[Any, ...]]) -> list[int]:
    """Give each key a number: whole numbers by size, others in order of appearance."""
    distinct = list(dict.fromkeys(keys))
    if all(isinstance(part, int) for key in distinct for part in key):
        distinct.sort()
    number = {key: i for i, key in enumerate(distinct)}
    return [number[key] for key in keys]


def varying(labels: Sequence[Labels]) -> list[str]:
    """Return the labels in which some features differ."""
    known = list(dict.fromkeys(label for one in labels for label in one))
    return [label for label in known if len({one.get(label) for one in labels}) > 1]


def label_text(label: str, value: str | int | float) -> str:
    """Write a label and its value for people.

    Examples
    --------
    >>> label_text("orientation", 22.5), label_text("sigma", 1.0), label_text("component", "even")
    ('22.5°', 'sigma 1', 'even')
    """
    if isinstance(value, str) or label.endswith("orientation"):
        return value_text(label, value)
    return f"{label.replace('half_cycles_', '').replace('_', ' ')} {value_text(label, value)}"


def value_text(label: str, value: str | int | float) -> str:
    """Write a label's value alone.

    Examples
    --------
    >>> value_text("sigma", 1.0), value_text("polarity", -1), value_text("transposed", "yes")
    ('1', '−1', 'transposed')
    """
    if isinstance(value, str):
        text = {"no": "", "yes": label}.get(value, value)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if label.endswith("orientation"):
        return f"{value:.4g}°"
    text = f"{value:+d}" if isinstance(value, int) and label.endswith("polarity") else f"{value:.4g}"
    return text.replace("-", "−")
