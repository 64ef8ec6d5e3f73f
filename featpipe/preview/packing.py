"""Which blocks stand in a line, which below one another in it, and how large: little paper, and little of it blank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.preview.frames import ARROW, FACT, LEADING, MARGIN, TITLE, WIDTH, Frame, Measure, frame
from featpipe.preview.panels import Block, Preview

BETWEEN = 0.32
"""Between a lane and another beside it."""
LINE_GAP, STACK_GAP = 0.2, 0.26
"""Between lines, and between a block and the next below it."""
TAG = TITLE * LEADING + 0.06
"""Height of a lane's name."""
LONGEST_LINE, MOST_COLUMNS, DEEPEST = 6, 4, 3
"""Blocks in a line, columns of it, and blocks in one of these."""
SIZES = 8
"""Sizes of a block that are tried, between the smallest and the largest."""
EMPTY, SMALL, OTHER = 10.0, 2.0, 1.0
"""What blank paper costs beside what is covered, pictures of the smallest size, and an arrangement of the second best
shape; in inches."""


@dataclass(frozen=True)
class Item:
    """A block in its lane."""

    block: Block
    lane: int
    """-1 for the image."""
    first: bool
    """Whether it begins its lane."""


@dataclass(frozen=True)
class Column:
    """Blocks that stand below one another, at their sizes."""

    items: tuple[Item, ...]
    frames: tuple[Frame, ...]
    width: float
    height: float
    cost: float
    """Of what is not the height of its line."""


class Room:
    """What blocks take, worked out once."""

    def __init__(self, preview: Preview, measure: Measure) -> None:
        self.preview = preview
        self.measure = measure
        self._sizes: dict[Item, list[tuple[float, Frame, float]]] = {}
        self._columns: dict[tuple[Item, ...], list[Column]] = {}

    def name(self, item: Item) -> tuple[str, str]:
        """Return the name of a lane that begins with a block, and where it goes on from; empty where there is none."""
        row = self.preview.rows[item.lane] if item.first and item.lane >= 0 else None
        return (row.name, f"from {row.after or 'the image'}") if row and row.name else ("", "")

    def tag(self, item: Item) -> float:
        """Return the height of the lane's name above a block."""
        return TAG if self.name(item)[0] else 0.0

    def sizes(self, item: Item) -> list[tuple[float, Frame, float]]:
        """Return a block at its sizes and arrangements: width with the lane's name, frame, what it costs."""
        if item not in self._sizes:
            name, after = self.name(item)
            tag = self.measure(f"{name} ", TITLE, True) + self.measure(after, FACT, False) if name else 0.0
            found = []
            for block, step in product((item.block, *item.block.others), range(SIZES + 1)):
                made = frame(block, step / SIZES, self.measure)
                cost = SMALL * (1 - step / SIZES) + OTHER * (block is not item.block)
                found.append((max(made.width, tag), made, cost))
            self._sizes[item] = found
        return self._sizes[item]

    def columns(self, items: tuple[Item, ...]) -> list[Column]:
        """Return the columns that blocks make below one another, each as wide as one of them, none worse in all."""
        if items not in self._columns:
            found = []
            for width in sorted({width for item in items for width, *_ in self.sizes(item)}):
                chosen = [self._widest(item, width) for item in items]
                found += [self._column(items, some) for some in product(*chosen)]
            self._columns[items] = _best(found)
        return self._columns[items]

    def _widest(self, item: Item, most: float) -> list[tuple[float, Frame, float]]:
        """Return a block in every arrangement, at the largest size that is no wider than this."""
        fitting: dict[object, tuple[float, Frame, float]] = {}
        for one in self.sizes(item):
            if one[0] <= most:
                fitting[one[1].block] = one
        return list(fitting.values())

    def _column(self, items: tuple[Item, ...], chosen: Sequence[tuple[float, Frame, float]]) -> Column:
        frames = tuple(made for _, made, _ in chosen)
        height = sum(self.tag(item) + made.whole_height for item, made in zip(items, frames, strict=True))
        covered = sum(made.covered for made in frames)
        cost = sum(one for *_, one in chosen) - EMPTY * covered / WIDTH
        return Column(items, frames, max(width for width, *_ in chosen), height + STACK_GAP * (len(items) - 1), cost)


def _best(columns: Sequence[Column]) -> list[Column]:
    """Return the columns but for those than which another is no wider, no higher, and costs no more."""
    kept: list[Column] = []
    for one in sorted(columns, key=lambda one: (one.width, one.height, one.cost)):
        if not any(other.height <= one.height and other.cost <= one.cost for other in kept):
            kept.append(one)
    return kept


def pack(items: Sequence[Item], room: Room) -> list[list[Column]]:
    """Break blocks into lines, and lines into columns, where this costs least."""
    best: list[tuple[float, int, list[Column]]] = [(0.0, 0, [])]
    for stop in range(1, len(items) + 1):
        options = []
        for start in range(max(0, stop - LONGEST_LINE), stop):
            following = items[stop] if stop < len(items) else None
            if _may_share(items[start:stop], following, room.preview):
                cost, line = _cheapest(items[start:stop], room)
                options.append((best[start][0] + cost, start, line))
        best.append(min(options, key=lambda option: option[0]))
    lines, stop = [], len(items)
    while stop:
        _, stop, line = best[stop]
        lines.append(line)
    return lines[::-1]


def _may_share(line: Sequence[Item], following: Item | None, preview: Preview) -> bool:
    """Tell whether items may stand in a line: lanes beside others end there, and begin together or go on from these."""
    for i, item in enumerate(line):
        if i and item.first and item.lane > 0:
            goes_on = preview.rows[item.lane].node in {one.block.node for one in line[:i]}
            if not (line[0].first or goes_on) or (following is not None and following.lane == line[-1].lane):
                return False
    return True


def _cheapest(line: Sequence[Item], room: Room) -> tuple[float, list[Column]]:
    """Return what a line costs at least, and its columns then; of many that fit no page, infinitely much."""
    found = (float("inf"), list[Column]())
    for parts in _splits(line):
        options = [room.columns(part) for part in parts]
        space = WIDTH - 2 * MARGIN - sum(gaps(parts, room))
        if sum(columns[0].width for columns in options) > space and len(line) > 1:
            continue
        least = max(min(one.height for one in columns) for columns in options)
        if _price(least) + sum(min(one.cost for one in columns) for columns in options) >= found[0]:
            continue
        widths, heights, costs = (
            _over([[getattr(one, name) for one in columns] for columns in options], how)
            for name, how in (("width", np.add), ("height", np.maximum), ("cost", np.add))
        )
        total = _price(heights) + costs
        if len(line) > 1:
            total[widths > space] = np.inf
        at = np.unravel_index(int(total.argmin()), total.shape)
        if total[at] < found[0]:
            found = float(total[at]), [columns[i] for columns, i in zip(options, at, strict=True)]
    return found


def _price(height: Any) -> Any:
    """Return what the height of a line costs, were nothing covered."""
    return (1 + EMPTY) * (height + LINE_GAP)


def _over(values: Sequence[Sequence[float]], how: np.ufunc) -> npt.NDArray[np.float64]:
    """Return a number for every choice of one value of each sequence: an axis for each."""
    axes = np.ix_(*[np.array(some, np.float64) for some in values])
    return np.asarray(reduce(how, axes), np.float64)


def _splits(line: Sequence[Item]) -> Iterator[list[tuple[Item, ...]]]:
    """Yield a line in columns; a lane that begins beside another is in one of these."""
    begun = {line[0].lane, max(0, line[0].lane)}
    for count in range(min(MOST_COLUMNS, len(line))):
        for cuts in combinations(range(1, len(line)), count):
            ends = (0, *cuts, len(line))
            parts = [tuple(line[a:b]) for a, b in pairwise(ends)]
            one_each = all(part[0].first or part[0].lane in begun for part in parts)
            if one_each and all(len(part) <= DEEPEST and _may_stack(part) for part in parts):
                yield parts


def _may_stack(part: Sequence[Item]) -> bool:
    """Tell whether items may stand below one another: whole lanes, a part of one, or the image and what follows.

    Kernels stand above what is made with them, or beside it, not at the foot of what comes before.
    """
    if part[0].lane < 0:
        return part[-1].lane <= 0
    if len(part) > 1 and part[-1].block.kind == "kernels":
        return False
    return part[0].first or not any(item.first for item in part)


def gaps(columns: Sequence[Sequence[Item]], room: Room) -> list[float]:
    """Return the room left of every column of a line."""
    found = []
    for i, (item, *_) in enumerate(columns):
        beside = i > 0 and columns[i - 1][-1].lane >= 0 and bool(room.tag(item))
        found.append(0.0 if item.lane < 0 else BETWEEN if beside else ARROW)
    return found
