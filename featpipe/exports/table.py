"""A stack as a table: a row for each image, a column for each number of its stacked maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import cut
from featpipe.plan.labels import known_labels
from featpipe.stack import Stack
from featpipe.store.format import read_header
from featpipe.store.read import read_matrix

BLOCK_BYTES = 32 << 20
"""Features held at once, as float32."""
MOST_COLUMNS = 1 << 20
"""Beyond this, names of columns are what fills the memory."""
Listener = Callable[[str, int, int | None, str], None]
"""Is told of a stage, how much of it is done, of how much, and the unit."""


class Table:
    """The stacked maps of some images, read by blocks of rows.

    Parameters
    ----------
    stack : Stack
    split : str, optional
        Only the images of this split.
    progress : callable, optional

    Raises
    ------
    StoreError
        As `Stack.xy`; or if the maps have too many numbers for columns.
    """

    def __init__(self, stack: Stack, split: str | None = None, progress: Listener | None = None) -> None:
        self.stack = stack
        self.rows = stack.rows(split)
        self.maps = stack.stacked()
        self.width = sum(one.columns_per_image for one in self.maps)
        self._progress = progress
        if self.width > MOST_COLUMNS:
            what = f"its maps have {self.width:,} numbers for each image, and a table {MOST_COLUMNS:,} columns at most."
            change = "Choose a pooled map with --map NAME; maps of pixels go to an .ome.zarr."
            raise StoreError(Problem(stack.path, what, change))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """(n,) class of every row, as an index into the classes; -1 for none."""
        return self.stack.labels[self.rows]

    @cached_property
    def splits(self) -> npt.NDArray[np.int8]:
        """(n,) split of every row, as an index into the split names; -1 for none."""
        return self.stack.splits[self.rows]

    @cached_property
    def paths(self) -> npt.NDArray[Any]:
        """(n,) name of every row's image."""
        return self.stack.paths[self.rows]

    @cached_property
    def names(self) -> list[str]:
        """The name of every column, of its map, its cell where there are several, and its feature; all differ."""
        found = []
        for one in self.maps:
            height, width = one.shape[-3:-1]
            cells = [f"[{y},{x}]" if height * width > 1 else "" for y in range(height) for x in range(width)]
            found += [f"{one.name}{cell} {feature}".rstrip() for cell in cells for feature in one.features]
        return unique(found)

    @cached_property
    def facts(self) -> dict[str, npt.NDArray[Any]]:
        """Map, cell and labels of the columns, (d,) each: texts, whole numbers, or numbers; empty or NaN for none."""
        labels = [one for a_map in self.maps for one in a_map.labels]
        y, x, feature, before = [], [], [], 0
        for one in self.maps:
            cell = np.indices(one.shape[-3:]).reshape(3, -1)
            y.append(cell[0])
            x.append(cell[1])
            feature.append(cell[2] + before)
            before += one.shape[-1]
        which = np.concatenate(feature)
        maps = np.array([one.name for one in self.maps])
        facts = {"map": np.repeat(maps, [one.columns_per_image for one in self.maps])}
        facts |= {"y": np.concatenate(y), "x": np.concatenate(x)}
        return facts | {key: _values([one.get(key) for one in labels])[which] for key in known_labels(labels)}

    def spans(self) -> list[Span]:
        """Return the rows of each block."""
        return cut(len(self.rows), max(1, min(1 << 16, BLOCK_BYTES // max(1, 4 * self.width))))

    def blocks(self) -> Iterator[tuple[Span, npt.NDArray[np.float32]]]:
        """Yield the rows of each block and their features, (n, d)."""
        self._tell(0)
        for span in self.spans():
            yield span, read_matrix(self.maps, self.rows[span.start : span.stop])
            self._tell(span.stop)

    def provenance(self) -> dict[str, Any]:
        """Return where the features come from, ready for JSON."""
        maps = [dict(zip(("y", "x", "features"), one.shape[-3:], strict=True), name=one.name) for one in self.maps]
        return {"maps": maps, **provenance(self.stack)}

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress("export", done, len(self.rows), "image")


def provenance(stack: Stack) -> dict[str, Any]:
    """Return the pipeline, versions and digests that made a store."""
    header = read_header(stack.place) or {}
    return {key: header.get(key) for key in ("pipeline", "versions", "digests")}


def texts(codes: npt.NDArray[Any], names: Sequence[str]) -> list[str | None]:
    """Return codes as the names they stand for; None for -1.

    Examples
    --------
    >>> texts(np.array([1, -1]), ["cat", "dog"])
    ['dog', None]
    """
    return [names[code] if code >= 0 else None for code in codes.tolist()]


def unique(names: Sequence[str]) -> list[str]:
    """Return names with a number behind those that were there before.

    Examples
    --------
    >>> unique(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    taken = set(names)
    seen: set[str] = set()
    found = []
    for name in names:
        other, number = name, 2
        while other in seen or (other != name and other in taken):
            other, number = f"{name} ({number})", number + 1
        seen.add(other)
        found.append(other)
    return found


def _values(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return values as texts, whole numbers, or numbers; an empty text or NaN where there is none."""
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else str(value) for value in values])
    if all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    return np.array([np.nan if value is None else value for value in values], np.float64)
