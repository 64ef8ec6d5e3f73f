"""How much room a block needs, in inches: its pictures, and the words around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from featpipe.kernels.bank import Labels
from featpipe.preview.panels import Block
from featpipe.preview.scales import number_text
from featpipe.report.arrangement import label_text, value_text, varying

Measure = Callable[[str, float, bool], float]
"""Gives the width of a text, in inches, from its size in points and whether it is bold."""
TITLE, FACT, LABEL, NUMBER = 7.5, 6.2, 5.6, 5.4
"""Sizes of text, in points."""
LEADING = 1.3 / 72
"""Inches from a line of text to the next, by its size."""
GAP = 0.03
"""Between pictures, in inches."""
PAD = 0.05
BAR = 0.07
"""Width of a colour bar."""
NARROWEST, WIDEST_HEADER = 1.05, 2.3
"""Width of a block's header: at least, and before it is broken into lines."""
WIDTH = 7.2
"""Of the picture: two columns of a journal."""
MARGIN = 0.1
ARROW = 0.22
"""Between a block and the next."""
LONGEST_ROW = 1.2
"""Width of a row's name."""
BAR_ROW = 0.135
"""Height of a row of a bar chart."""


@dataclass(frozen=True)
class Span:
    """A column header over some neighbouring columns."""

    first: int
    stop: int
    text: str


@dataclass(frozen=True)
class Frame:
    """The room of a block at one size of its pictures."""

    block: Block
    cell: tuple[float, float]
    """Height and width of a picture."""
    pitch: tuple[float, float]
    """From one to the next."""
    left: float
    """Width of the rows' names."""
    right: float
    """Width of the colour bars and their numbers."""
    top: float
    """Height of the columns' names."""
    axes: tuple[str, str]
    """What the rows and the columns are."""
    levels: tuple[tuple[Span, ...], ...]
    """The columns' names, line by line."""
    rows: tuple[tuple[str, ...], ...]
    """The rows' names, in lines."""
    captions: tuple[tuple[str, ...], ...]
    """Below each picture, in lines."""
    header: tuple[tuple[str, float, bool], ...] = ()
    """Lines of text with size and weight."""
    header_width: float = 0.0

    @property
    def grid(self) -> tuple[float, float]:
        """Height and width of all pictures with their captions."""
        rows, columns = self.block.arrangement.shape
        return rows * self.pitch[0], columns * self.pitch[1] - GAP

    @property
    def body(self) -> float:
        """Width of everything below the header."""
        return self.left + self.grid[1] + self.right

    @property
    def width(self) -> float:
        return max(self.body, self.header_width)

    @property
    def header_height(self) -> float:
        return sum(size * LEADING for _, size, _ in self.header) + PAD

    @property
    def height(self) -> float:
        """Of the pictures and the columns' names."""
        return self.top + self.grid[0]

    @property
    def whole_height(self) -> float:
        return self.header_height + self.height

    @property
    def covered(self) -> float:
        """Square inches of the header, the pictures, and what is written around these."""
        return self.header_width * self.header_height + self.body * self.height


def frame(block: Block, size: float, measure: Measure) -> Frame:
    """Return the room of a block, within the width of the page.

    Parameters
    ----------
    block : Block
    size : float
        From 0, the smallest that can be read, to 1, the largest that makes sense.
    measure : callable
    """
    cell, captions = _cell(block, size, measure), tuple(_captions(block))
    levels = tuple(_levels(block))
    lines = max(map(len, captions), default=0)
    pitch_y = BAR_ROW if block.kind == "bars" else cell[0] + GAP + lines * NUMBER * LEADING + (0.05 if lines else 0)
    rows, axis, left = _row_names(block, pitch_y * block.arrangement.shape[0], measure)
    right = _room_beside(block, measure)
    if block.kind == "profile":
        left = right
    widest = [measure(line, NUMBER, False) + 0.03 for caption in captions for line in caption]
    widest += [(measure(s.text, LABEL, False) + 0.03) / (s.stop - s.first) for spans in levels for s in spans]
    room = (WIDTH - 2 * MARGIN - ARROW - left - right) / block.arrangement.shape[1]
    pitch_x = min(room, max([cell[1] + GAP, *widest]))
    if cell[1] > pitch_x - GAP:  # the page is not wide enough
        shrunk = cell[0] * (pitch_x - GAP) / cell[1] if block.kind in ("image", "maps", "kernels") else cell[0]
        pitch_y, cell = pitch_y - cell[0] + shrunk, (shrunk, pitch_x - GAP)
    levels = tuple(tuple(_fitted(span, pitch_x, measure) for span in spans) for spans in levels)
    captions = tuple(tuple(_cut(line, NUMBER, pitch_x - 0.02, measure) for line in one) for one in captions)
    over = " · ".join(key.replace("_", " ") for key in block.arrangement.columns)
    top = (len(levels) + 1) * LABEL * LEADING + 0.02 if levels else 0.0
    made = Frame(block, cell, (pitch_y, pitch_x), left, right, top, (axis, over), levels, rows, captions)
    header = tuple(_header(block, max(NARROWEST, made.body), measure))
    width = max(measure(text, points, bold) for text, points, bold in header)
    return replace(made, header=header, header_width=width)


def _fitted(span: Span, pitch: float, measure: Measure) -> Span:
    return replace(span, text=_cut(span.text, LABEL, (span.stop - span.first) * pitch - 0.02, measure))


def _cell(block: Block, size: float, measure: Measure) -> tuple[float, float]:
    """Return height and width of a picture."""
    if block.kind == "bars":
        return BAR_ROW - 0.035, 0.8 + 1.0 * size
    if block.kind == "profile":
        return 0.75 + 0.35 * size, 2.0 + 4.2 * size
    if block.kind == "table":
        widest = max(measure(number_text(float(one.values[0, 0])), NUMBER, False) for one in block.panels)
        return 0.17 + 0.07 * size, widest + 0.04 + 0.18 * size
    height, width = block.panels[0].values.shape[:2]
    count = len(block.panels)
    steps: tuple[tuple[int, float, float], ...]
    if block.kind == "kernels":
        steps = ((4, 0.42, 0.62), (9, 0.34, 0.52), (16, 0.3, 0.46), (10**9, 0.26, 0.42))
    else:
        steps = ((1, 1.15, 2.2), (2, 0.95, 2.0), (4, 0.8, 1.7), (9, 0.6, 1.2), (16, 0.46, 0.95), (10**9, 0.36, 0.75))
    if block.kind != "kernels" and count > 36:
        steps = ((10**9, 0.26, 0.65),)
    if max(height, width) <= 4 and block.kind == "maps":
        steps = ((1, 0.6, 0.9), (4, 0.45, 0.7), (16, 0.32, 0.5), (10**9, 0.24, 0.42))
    least, most = next((a, b) for limit, a, b in steps if count <= limit)
    edge = least + (most - least) * size
    slant = sqrt(min(4.0, max(0.25, width / height)))
    return edge / slant, edge * slant


def _levels(block: Block) -> Iterator[tuple[Span, ...]]:
    """Yield the lines of the columns' names: neighbours that share a value share its name."""
    keys = block.arrangement.columns
    at: list[dict[str, Any]] = [{} for _ in range(block.arrangement.shape[1])]
    for panel, (_, column) in zip(block.panels, block.arrangement.places, strict=True):
        at[column] = at[column] or dict(panel.labels)
    for depth, key in enumerate(keys):
        spans: list[Span] = []
        for column, labels in enumerate(at):
            same = column > 0 and all(labels.get(k) == at[column - 1].get(k) for k in keys[: depth + 1])
            if same:
                spans[-1] = replace(spans[-1], stop=column + 1)
            else:
                spans.append(Span(column, column + 1, value_text(key, labels[key]) if key in labels else "none"))
        yield tuple(spans)


def _row_names(block: Block, height: float, measure: Measure) -> tuple[tuple[tuple[str, ...], ...], str, float]:
    """Return the rows' names, what they are if it is written along them, and the room for both."""
    keys = block.arrangement.rows
    if block.kind == "bars":
        names = tuple((_cut(name, LABEL, LONGEST_ROW, measure),) for name in _names(block))
        return names, "", max(measure(name, LABEL, False) for (name,) in names) + PAD
    if not keys:
        return (), "", 0.0
    labels: dict[int, Labels] = {}
    for panel, (row, _) in zip(block.panels, block.arrangement.places, strict=True):
        labels.setdefault(row, panel.labels)
    axis = keys[0].replace("_", " ")
    along = len(keys) == 1 and len(labels) > 1 and measure(axis, LABEL, False) <= height
    write = value_text if along else label_text
    found = []
    for row in range(len(labels)):
        parts = [write(key, labels[row][key]) for key in keys if key in labels[row]]
        if along and not any(parts):  # no, or nothing at all
            parts = [str(labels[row].get(keys[0], "none"))]
        found.append(tuple(_cut(part, LABEL, LONGEST_ROW, measure) for part in parts if part))
    wide = max(measure(line, LABEL, False) for lines in found for line in lines or ("",)) + PAD
    return tuple(found), axis if along else "", wide + (LABEL * LEADING if along else 0.0)


def _names(block: Block) -> list[str]:
    """Return every panel's name: the labels in which they differ."""
    keys = varying([panel.labels for panel in block.panels])
    return [
        " ".join(filter(None, (label_text(key, panel.labels[key]) for key in keys if key in panel.labels)))
        for panel in block.panels
    ]


def _captions(block: Block) -> Iterator[tuple[str, ...]]:
    """Yield the lines below each picture: its labels where no table tells them, and its own scale."""
    if block.kind in ("bars", "profile", "table"):
        return
    labelled = not block.arrangement.columns and len(block.panels) > 1
    own = block.mode == "own" and block.kind == "maps"
    if not labelled and not own:
        return
    keys = varying([panel.labels for panel in block.panels])
    for panel, scale in zip(block.panels, block.scales, strict=True):
        lines = []
        if labelled:
            parts = [label_text(key, panel.labels[key]) for key in keys if key in panel.labels]
            alike = len(keys) == 1 and keys[0].endswith("kernel") and len(parts[0]) < 12
            lines += [parts[0].rpartition(" ")[2]] if alike else [part for part in parts if part]
        yield (*lines, scale.text) if own else tuple(lines)


def _ends(block: Block) -> list[float]:
    if block.kind == "bars":
        return [float(panel.values[0, 0]) for panel in block.panels]
    return [float(block.panels[0].values.min()), float(block.panels[0].values.max())]


def _room_beside(block: Block, measure: Measure) -> float:
    """Return the width of what stands right of the pictures."""
    if block.kind in ("bars", "profile"):
        return max(measure(number_text(s), NUMBER, False) for s in _ends(block)) + PAD
    if not has_bars(block):
        return 0.0
    texts = [number_text(v) for scale in block.scales for v in (scale.low, scale.high)]
    widest = max(measure(text, NUMBER, False) for text in dict.fromkeys(texts))
    return 0.06 + BAR + 0.03 + widest + (NUMBER * LEADING if block.unit and block.mode == "all" else 0)


def has_bars(block: Block) -> bool:
    """Tell whether colour bars stand beside a block's pictures."""
    coloured = block.kind == "image" and block.panels[0].values.ndim == 3
    return bool(block.scales) and not coloured and block.kind not in ("bars", "profile") and block.mode != "own"


def _header(block: Block, width: float, measure: Measure) -> Iterator[tuple[str, float, bool]]:
    """Yield the lines above a block's pictures, broken where they are too long."""
    longest = max(width, min(WIDEST_HEADER, measure(block.title, TITLE, True)))
    for line in broken(block.title, TITLE, longest, measure, bold=True):
        yield line, TITLE, True
    own = ("each to its largest weight",) if block.kind == "kernels" and block.mode == "own" else ()
    for fact in (*block.facts, *own):
        for line in broken(fact, FACT, max(width, min(longest, 1.6)), measure):
            yield line, FACT, False


def broken(text: str, size: float, width: float, measure: Measure, *, bold: bool = False) -> Sequence[str]:
    """Return a text in lines that fit a width, words that do not cut."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measure(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(_cut(word, size, width, measure, bold=bold))
    return lines


def _cut(word: str, size: float, width: float, measure: Measure, *, bold: bool = False) -> str:
    """Return a word that fits: its middle left out where it is too long."""
    if measure(word, size, bold) <= width:
        return word
    keep = len(word)
    while keep > 4 and measure(f"{word[: keep // 2]}…{word[-(keep // 2) :]}", size, bold) > width:
        keep -= 1
    return f"{word[: keep // 2]}…{word[-(keep // 2) :]}"
