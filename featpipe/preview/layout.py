"""Where every block lies: in lines from left to right, some below one another in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from featpipe.preview.frames import ARROW, FACT, LEADING, MARGIN, WIDTH, Frame, Measure, broken
from featpipe.preview.packing import LINE_GAP, STACK_GAP, Column, Item, Room, gaps, pack
from featpipe.preview.panels import Preview
from featpipe.report.units import count_text

TITLE_HEIGHT = 0.3
TALLEST = 40.0
"""Of one picture, in inches."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Placed:
    """A block on the page; x and y in inches from the upper left."""

    frame: Frame
    x: float
    y: float
    """Of its header."""
    arrow: tuple[Point, ...]
    """The way of the arrow that leads to it; nothing at the image."""
    lane: int
    tag: tuple[str, str] = ("", "")
    """Its lane's name, where that begins here, and where it goes on from."""
    tag_y: float = 0.0
    """Of that name, or of the header."""

    @property
    def body(self) -> float:
        """Upper edge of the columns' names."""
        return self.y + self.frame.header_height

    @property
    def middle(self) -> float:
        """Height of the middle of the first pictures, which arrows point at."""
        return self.body + self.frame.top + min(self.frame.cell[0], self.frame.grid[0]) / 2


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

    @property
    def blank(self) -> float:
        """Share of the paper that belongs to no block: to neither its header nor its pictures."""
        return 1 - sum(placed.frame.covered for placed in self.blocks) / (self.height * WIDTH)


def lay_out(preview: Preview, measure: Measure) -> Page:
    """Place every block, on little paper of which little stays blank; leave out lanes of a picture that is too tall."""
    room = Room(preview, measure)
    lanes = len(preview.rows)
    while True:
        page = _lay_out(preview, lanes, room)
        if page.height <= TALLEST or lanes == 1:
            return page
        below = [one.lane for one in page.blocks if one.y + one.frame.whole_height > TALLEST]
        lanes = max(1, min([lanes - 1, *below]))


def _lay_out(preview: Preview, lanes: int, room: Room) -> Page:
    items = [Item(preview.image, -1, first=True)]
    for lane, row in enumerate(preview.rows[:lanes]):
        items += [Item(block, lane, i == 0) for i, block in enumerate(row.blocks)]
    placed: list[Placed] = []
    rules: list[float] = []
    y = MARGIN + TITLE_HEIGHT
    for line in pack(items, room):
        if placed and room.tag(line[0].items[0]):
            rules.append(y - 0.4 * LINE_GAP)
        placed += _line(line, y, room)
        y += max(column.height for column in line) + LINE_GAP
    left_out = len(preview.rows) - lanes
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


def _line(line: Sequence[Column], y: float, room: Room) -> Iterator[Placed]:
    """Place one line."""
    x = MARGIN
    last: Placed | None = None  # of the column before, where that is more than one block
    for column, gap in zip(line, gaps([column.items for column in line], room), strict=True):
        x += gap
        top = y
        for i, (item, made) in enumerate(zip(column.items, column.frames, strict=True)):
            one = Placed(made, x, top + room.tag(item), (), item.lane, room.name(item), top)
            if i and (item.lane == 0 or not item.first):
                one = replace(one, arrow=_down(one))
            elif item.lane >= 0:
                one = replace(one, arrow=_across(one, None if item.first else last))
            yield one
            top = one.y + made.whole_height + STACK_GAP
        last = one if len(column.items) > 1 else None
        x += column.width


def _down(one: Placed) -> tuple[Point, ...]:
    """Return the way from a block to the next below it."""
    x = one.x + 0.1
    return (x, one.tag_y - STACK_GAP + 0.05), (x, one.tag_y - 0.03)


def _across(one: Placed, last: Placed | None) -> tuple[Point, ...]:
    """Return the way to a block from the left: up from the foot of the column before, where that is given."""
    left, y = one.x - ARROW + 0.06, one.middle
    tip = (one.x - 0.05, y)
    if last is None:
        return (left, y), tip
    return (last.x + last.frame.width + 0.04, last.middle), (left, last.middle), (left, y), tip
