"""Where every block lies: in lines from left to right, as words lie on a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

from featpipe.preview.frames import ARROW, FACT, LEADING, MARGIN, TITLE, WIDTH, Frame, Measure, broken, frame
from featpipe.preview.panels import Block, Preview
from featpipe.report.units import count_text

BETWEEN = 0.32
"""Between a lane and another beside it."""
LINE_GAP = 0.2
TAG = TITLE * LEADING + 0.06
"""Height of a lane's name."""
TITLE_HEIGHT = 0.3
LONGEST_LINE, MOST_WAYS = 5, 24
"""Blocks in a line, and ways to lay these out, that are tried."""
EMPTY = 2.0
"""What empty paper costs, beside what is covered."""
OTHER = 0.25
"""What a block costs in rows and columns of its second best shape."""
TALLEST = 40.0
"""Of one picture, in inches."""


@dataclass(frozen=True)
class Item:
    """A block in its lane."""

    block: Block
    lane: int
    """-1 for the image."""
    first: bool
    """Whether it begins its lane."""


@dataclass(frozen=True)
class Placed:
    """A block on the page; x and y in inches from the upper left."""

    frame: Frame
    x: float
    y: float
    """Of its header."""
    body: float
    """Upper edge of its pictures."""
    arrow: float | None
    """Where the arrow that leads to it begins; None at the image."""
    lane: int
    tag: float | None
    """Upper edge of its lane's name, where that begins here."""


@dataclass(frozen=True)
class Page:
    """A picture's blocks, and its height."""

    preview: Preview
    blocks: tuple[Placed, ...]
    height: float
    left_out: int
    """Lanes that are too much for one picture."""
    rules: tuple[float, ...]
    """Lines across, above lanes."""
    notes: tuple[str, ...]
    """Lines of text at the foot."""


class _Room:
    """What blocks take, worked out once for each size."""

    def __init__(self, preview: Preview, measure: Measure) -> None:
        self.preview = preview
        self.measure = measure
        self.known: dict[tuple[Block, float], Frame] = {}

    def frame(self, block: Block, size: float) -> Frame:
        if (block, size) not in self.known:
            self.known[block, size] = frame(block, size, self.measure)
        return self.known[block, size]

    def width(self, item: Item, size: float) -> float:
        """Return the width of a block, and of its lane's name where that begins with it."""
        name, after = tag_text(self.preview, item.lane) if item.first and item.lane >= 0 else ("", "")
        tag = self.measure(f"{name} ", TITLE, True) + self.measure(after, FACT, False) if name else 0.0
        return max(self.frame(item.block, size).width, tag)


def lay_out(preview: Preview, measure: Measure) -> Page:
    """Place every block: as few lines as it takes, each filled by making its pictures larger."""
    room = _Room(preview, measure)
    lanes = list(range(len(preview.rows)))
    while True:
        page = _lay_out(preview, lanes, room)
        if page.height <= TALLEST or len(lanes) == 1:
            return page
        lanes = lanes[: max(1, int(len(lanes) * TALLEST / page.height))] if page.height > TALLEST else lanes[:-1]


def _lay_out(preview: Preview, lanes: Sequence[int], room: _Room) -> Page:
    items = [Item(preview.image, -1, first=True)]
    for lane in lanes:
        items += [Item(block, lane, i == 0) for i, block in enumerate(preview.rows[lane].blocks)]
    placed: list[Placed] = []
    rules: list[float] = []
    y = MARGIN + TITLE_HEIGHT
    for line, size in _lines(items, room):
        if placed and line[0].first and preview.rows[line[0].lane].name:
            rules.append(y - 0.4 * LINE_GAP)
        here, height = _line(preview, line, size, y, room)
        placed += here
        y += height + LINE_GAP
    left_out = len(preview.rows) - len(lanes)
    notes = broken(_notes(preview, placed, left_out), FACT, WIDTH - 2 * MARGIN, room.measure)
    height = y + len(notes) * FACT * LEADING + MARGIN
    return Page(preview, tuple(placed), height, left_out, tuple(rules), tuple(notes))


def _notes(preview: Preview, placed: Sequence[Placed], left_out: int) -> str:
    """Return what stands at the foot of a picture."""
    notes = list(preview.notes)
    scales = [scale for one in placed for scale in one.frame.block.scales]
    if any(scale.cut_low or scale.cut_high for scale in scales):
        notes.append("Where a colour bar ends in a point, up to 0.5 % of the values lie beyond it.")
    if left_out:
        notes.append(f"{count_text(left_out, 'lane')} more: write a .pdf, or choose a branch with --branch.")
    return " ".join(notes)


def _line(preview: Preview, line: Sequence[Item], size: float, y: float, room: _Room) -> tuple[list[Placed], float]:
    """Place one line; return its height too."""
    frames = [room.frame(item.block, size) for item in line]
    tagged = any(item.first and item.lane >= 0 and preview.rows[item.lane].name for item in line)
    header = max(one.header_height for one in frames)
    top = max(one.top for one in frames)
    x = MARGIN
    placed: list[Placed] = []
    for item, one in zip(line, frames, strict=True):
        arrow = None
        if item.lane >= 0:
            beside = item.first and item is not line[0] and bool(preview.rows[item.lane].name)
            wide = BETWEEN if beside and placed[-1].lane >= 0 else ARROW
            arrow = x + wide - ARROW
            x += wide
        begins = y + (TAG if tagged else 0)
        body = begins + header + top - one.top
        tag = y if item.first and item.lane >= 0 and preview.rows[item.lane].name else None
        placed.append(Placed(one, x, begins + header - one.header_height, body, arrow, item.lane, tag))
        x += room.width(item, size)
    return placed, (TAG if tagged else 0) + header + top + max(one.height - one.top for one in frames)


def tag_text(preview: Preview, lane: int) -> tuple[str, str]:
    """Return a lane's name, and where it goes on from."""
    row = preview.rows[lane]
    return row.name, f"from {row.after or 'the image'}"


def _line_width(line: Sequence[Item], size: float, room: _Room) -> float:
    widths = [room.width(item, size) for item in line]
    return sum(widths) + ARROW * sum(item.lane >= 0 for item in line) + _beside(line) * (BETWEEN - ARROW)


def _beside(line: Sequence[Item]) -> int:
    return sum(item.first and item.lane > 0 for item in line[1:])


def _fill(line: Sequence[Item], room: _Room) -> float:
    """Return the size of pictures that fills a line; -1 where even the smallest do not fit."""
    wide = WIDTH - 2 * MARGIN
    if _line_width(line, 0, room) > wide:
        return -1 if len(line) > 1 else 0
    low, high = 0.0, 1.0
    if _line_width(line, 1, room) <= wide:
        return 1.0
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if _line_width(line, middle, room) <= wide else (low, middle)
    return low


def _lines(items: Sequence[Item], room: _Room) -> list[tuple[list[Item], float]]:
    """Break items into lines, and give each its size: the least height in all, and little of it empty."""
    best: list[tuple[float, int, list[Item], float]] = [(0.0, 0, [], 0.0)]
    for stop in range(1, len(items) + 1):
        options = []
        for start in range(max(0, stop - LONGEST_LINE), stop):
            if not _may_share(items[start:stop], items[stop] if stop < len(items) else None):
                continue
            for line in islice(_ways(items[start:stop]), MOST_WAYS):
                size = _fill(line, room)
                if size >= 0:
                    other = sum(a.block is not b.block for a, b in zip(line, items[start:stop], strict=True))
                    cost = _cost(line, size, room) + OTHER * other
                    options.append((best[start][0] + cost, start, line, size))
        best.append(min(options, key=lambda option: option[0]))
    lines, stop = [], len(items)
    while stop:
        _, start, line, size = best[stop]
        lines.append((line, size))
        stop = start
    return lines[::-1]


def _ways(line: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield a line with its blocks laid out in every way."""
    for blocks in product(*((item.block, *item.block.others) for item in line)):
        yield [replace(item, block=block) for item, block in zip(line, blocks, strict=True)]


def _cost(line: Sequence[Item], size: float, room: _Room) -> float:
    """Return the height of a line, and as much again as is empty of it."""
    frames = [room.frame(item.block, size) for item in line]
    height = max(one.header_height + one.height for one in frames)
    covered = sum(one.width * (one.header_height + one.height) for one in frames)
    return height + LINE_GAP + EMPTY * (height - covered / WIDTH) - 0.15 * size


def _may_share(line: Sequence[Item], following: Item | None) -> bool:
    """Tell whether items may stand in a line: a lane that begins beside another must end there."""
    for i, item in enumerate(line):
        if i and item.first and item.lane > 0 and following is not None and following.lane == line[-1].lane:
            return False
    return True
