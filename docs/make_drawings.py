"""Draw docs/images/geometry-*.svg, the figures of docs/windows.md: what they show is computed by `featpipe.geometry`.

python docs/make_drawings.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from featpipe.geometry.axis import PaddingMode, Span, Sweep, sources
from featpipe.geometry.grid import TILE, cells
from featpipe.geometry.window import Window

HERE = Path(__file__).resolve().parent
MODES: tuple[PaddingMode, ...] = ("zero", "edge", "reflect", "symmetric", "wrap")
STYLE = """\
  .paper { fill: #ffffff; } .ink { fill: #1f2328; } .soft { fill: #59636e; } .line { stroke: #59636e; }
  .cell { fill: #eef1f4; stroke: #8c959f; } .pad { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
  .a { fill: #9ecbff; stroke: #1f6feb; } .b { fill: #ffd8a8; stroke: #c2570c; } .c { fill: #b7e4c0; stroke: #1a7f37; }
  .bad { fill: #ffc9c9; stroke: #cf222e; } .la { stroke: #1f6feb; } .lb { stroke: #c2570c; } .lc { stroke: #1a7f37; }
  .hollow { fill: none; }
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; } .small { font-size: 11px; }
  .mid { text-anchor: middle; } .end { text-anchor: end; } .bold { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #16191d; } .ink { fill: #e6edf3; } .soft { fill: #a3adb8; } .line { stroke: #a3adb8; }
    .cell { fill: #262c33; stroke: #6b7682; } .pad { stroke: #6b7682; }
    .a { fill: #123a6b; stroke: #6cb0ff; } .b { fill: #5c3310; stroke: #f0a35e; } .c { fill: #12401f; stroke: #5fd07d; }
    .bad { fill: #641a1d; stroke: #ff7b72; } .la { stroke: #6cb0ff; } .lb { stroke: #f0a35e; } .lc { stroke: #5fd07d; }
  }
"""


class Drawing:
    """An SVG in the making.

    Parameters
    ----------
    width, height : float
        In pixels.
    title : str
        For those who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.parts = [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
                f'viewBox="0 0 {width:g} {height:g}" role="img">'
            ),
            f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>",
            f'<rect class="paper" width="{width:g}" height="{height:g}" rx="8"/>',
        ]

    def rect(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="1.5"/>')

    def line(self, x0: float, y0: float, x1: float, y1: float, kind: str = "line", width: float = 1.3) -> None:
        self.parts.append(
            f'<line class="{kind}" x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke-width="{width:g}"/>'
        )

    def dot(self, x: float, y: float, kind: str, radius: float = 3.5) -> None:
        self.parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "ink") -> None:
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>')

    def bracket(self, x0: float, x1: float, y: float, kind: str) -> None:
        """Draw a bracket that opens upwards."""
        self.parts.append(
            f'<path class="hollow {kind}" stroke-width="1.8" d="M{x0:g} {y - 6:g}V{y:g}H{x1:g}V{y - 6:g}"/>'
        )

    def written(self) -> str:
        return "\n".join([*self.parts, "</svg>\n"])


class Row:
    """Samples of an axis, drawn as a row of cells.

    Parameters
    ----------
    drawing : Drawing
    x, y : float
        Where sample 0 begins.
    edge : float
        Of a sample, in pixels.
    """

    def __init__(self, drawing: Drawing, x: float, y: float, edge: float = 24) -> None:
        self.drawing, self.x, self.y, self.edge = drawing, x, y, edge

    def at(self, sample: float) -> float:
        """Return where a sample begins."""
        return self.x + sample * self.edge

    def cells(self, span: Iterable[int], kind: str, words: Iterable[object] | None = None) -> None:
        span = list(span)
        for sample, word in zip(span, words if words is not None else [""] * len(span), strict=True):
            self.drawing.rect(self.at(sample) + 0.75, self.y, self.edge - 1.5, self.edge - 1.5, kind)
            if word != "":
                soft = "soft" if kind == "pad" else "ink"
                self.drawing.text(self.at(sample + 0.5), self.y + self.edge / 2 + 3.5, str(word), f"{soft} mid small")

    def numbered(self, span: Iterable[int], kind: str) -> None:
        span = list(span)
        self.cells(span, kind, span)


def sweep_figure() -> Drawing:
    """Draw a window of 5 with padding of 2, at stride 1 and at stride 2."""
    drawing = Drawing(740, 300, "A window of five samples slides over sixteen, padded by two at either end")
    for part, (stride, top) in enumerate(((1, 30), (2, 165))):
        sweep = Sweep(size=5, stride=stride, before=2, after=2)
        row = Row(drawing, 230, top)
        count = sweep.length(16)
        drawing.text(14, top + 16, f"stride {stride}: {count} outputs", "ink bold")
        row.cells(range(-2, 0), "pad")
        row.cells(range(16, 18), "pad")
        row.numbered(range(16), "cell")
        for i, colour in zip((0, 1, 2), "abc", strict=True):
            seen = sweep.wanted(Span(i, i + 1))
            y = top + 40 + 22 * i
            drawing.bracket(row.at(seen.start) + 2, row.at(seen.stop) - 2, y, f"l{colour}")
            drawing.dot(row.at(sweep.window.centre(i) + 0.5), y, colour)
            drawing.text(
                row.at(seen.stop) + 8, y + 3, f"output {i}: samples {seen.start} … {seen.stop - 1}", "soft small"
            )
        if part == 0:
            drawing.text(14, top + 42, "size 5", "soft")
            drawing.text(14, top + 60, "padding 2 before, 2 after", "soft")
            drawing.text(14, top + 78, "dashed: padding", "soft")
    return drawing


def composed_figure() -> Drawing:
    """Draw three layers, and what one output of the last sees of each."""
    layers = (
        ("convolve 5", Sweep(size=5, before=2, after=2)),
        ("pool 2, stride 2", Sweep(size=2, stride=2)),
        ("convolve 3", Sweep(size=3, before=1, after=1)),
    )
    drawing = Drawing(740, 330, "What one output of the third layer sees of every layer below it")
    lengths, windows = [16], [Window()]
    for _, sweep in layers:
        lengths.append(sweep.length(lengths[-1]))
        windows.append(windows[-1].then(sweep.window))
    rows = [Row(drawing, 250, 275 - 80 * i, 24) for i in range(4)]
    names = ["image, 16 pixels", *(f"{name}: {n}" for (name, _), n in zip(layers, lengths[1:], strict=True))]
    seen = Span(2, 3)
    for i in range(3, -1, -1):
        step, shift = windows[i].stride, windows[i].centre(0)
        row = rows[i]
        for sample in range(min(seen.start, 0), max(seen.stop, lengths[i])):
            inside = 0 <= sample < lengths[i]
            kind = ("a" if seen.start <= sample < seen.stop else "cell") if inside else "pad"
            x = row.at(sample * step + shift)
            drawing.rect(x + 0.75, row.y, row.edge - 1.5, row.edge - 1.5, kind)
            drawing.text(x + row.edge / 2, row.y + 15.5, str(sample), f"{'ink' if inside else 'soft'} mid small")
        drawing.text(14, row.y + 15, names[i], "ink bold" if i in (0, 3) else "ink")
        if i:
            below = layers[i - 1][1].wanted(seen)
            under = rows[i - 1]
            low, high = (windows[i - 1].stride * s + windows[i - 1].centre(0) for s in (below.start, below.stop - 1))
            first, last = (step * s + shift for s in (seen.start, seen.stop - 1))
            drawing.line(row.at(first), row.y + 24, under.at(low), under.y - 1, "la")
            drawing.line(row.at(last + 1), row.y + 24, under.at(high + 1), under.y - 1, "la")
            seen = below
    field = windows[3]
    words = (
        f"window of output 2: {field.size} pixels from {field.offset + 2 * field.stride}, centre {field.centre(2):g}"
    )
    drawing.text(250, 320, words, "soft")
    return drawing


def padding_figure() -> Drawing:
    """Draw what each mode puts beyond the ends of eight samples."""
    drawing = Drawing(740, 236, "The five paddings: which samples each of them repeats beyond the ends")
    for i, mode in enumerate(MODES):
        row = Row(drawing, 252, 20 + 38 * i, 26)
        drawing.text(14, row.y + 18, mode, "ink bold")
        for span in (Span(-4, 0), Span(8, 12)):
            copies = sources(span, 8, mode).tolist()
            row.cells(range(*span), "b" if mode != "zero" else "pad", ["0" if s < 0 else "abcdefgh"[s] for s in copies])
        row.cells(range(8), "cell", "abcdefgh")
    row = Row(drawing, 252, 212, 26)
    drawing.line(row.at(0), 14, row.at(0), 206)
    drawing.line(row.at(8), 14, row.at(8), 206)
    drawing.text(row.at(4), 224, "the image's samples", "soft mid small")
    drawing.text(row.at(-2), 224, "before", "soft mid small")
    drawing.text(row.at(10), 224, "after", "soft mid small")
    return drawing


def clipping_figure() -> Drawing:
    """Draw a block at a mirrored edge: what it wants, what clipping would read, what is read."""
    sweep = Sweep(size=9, before=8, mode="reflect")
    out = Span(0, 2)
    wanted, read = sweep.wanted(out), sweep.read(out, 16)
    clipped = Span(max(wanted.start, 0), wanted.stop)
    drawing = Drawing(
        740, 262, "Two outputs at an edge that is mirrored need nine real samples; clipping would read two"
    )
    copies = sources(wanted, 16, "reflect").tolist()
    rows = [Row(drawing, 368, y, 22) for y in (30, 94, 158)]
    drawing.text(14, 46, "two outputs want", "ink bold")
    drawing.text(14, 64, f"samples {wanted.start} … {wanted.stop - 1}", "soft small")
    rows[0].numbered(range(wanted.start, 0), "b")
    rows[0].numbered(range(clipped.stop), "a")
    rows[0].cells(range(clipped.stop, 16), "cell")
    drawing.text(14, 110, "clipped to the image", "ink bold")
    drawing.text(14, 128, "the mirror has nothing to show", "soft small")
    missing = [s if s in range(*clipped) else "?" for s in copies[: -wanted.start]]
    for sample, word in zip(range(wanted.start, 0), missing, strict=True):
        rows[1].cells([sample], "bad" if word == "?" else "b", [word])
    rows[1].numbered(range(clipped.stop), "a")
    rows[1].cells(range(clipped.stop, 16), "cell")
    drawing.text(14, 174, f"read {read.start} … {read.stop - 1}", "ink bold")
    drawing.text(14, 192, "all that the mirror shows", "soft small")
    rows[2].cells(range(wanted.start, 0), "b", copies[: -wanted.start])
    rows[2].numbered(range(*read), "a")
    rows[2].cells(range(read.stop, 16), "cell")
    edge = rows[0].at(0)
    drawing.line(edge, 18, edge, 196)
    drawing.text(edge, 218, "the image's edge", "soft mid small")
    drawing.text(
        14,
        246,
        "orange: padding, and the sample it copies · blue: real samples that are held · red: not held",
        "soft small",
    )
    return drawing


def block_figure() -> Drawing:
    """Draw blocks of an image with the halo that each reads, one inside and one at a corner."""
    drawing = Drawing(740, 330, "Two blocks of an image with their halos; at the corner the halo is cut off and padded")
    left, top, size, block, halo = 240, 34, 270, 90, 20
    drawing.rect(left, top, size, size, "cell")
    for i in range(1, 3):
        drawing.line(left + i * block, top, left + i * block, top + size)
        drawing.line(left, top + i * block, left + size, top + i * block)
    for x, y in ((left + block, top + block), (left, top)):
        drawing.rect(x - halo, y - halo, block + 2 * halo, block + 2 * halo, "pad")
        x0, y0 = max(x - halo, left), max(y - halo, top)
        drawing.rect(x0, y0, x + block + halo - x0, y + block + halo - y0, "b")
        drawing.rect(x, y, block, block, "a")
    drawing.text(left + block * 1.5, top + block * 1.5 - 2, "owned", "ink mid bold")
    drawing.text(left + block * 1.5, top + block * 1.5 + 15, "stride · outputs", "ink mid small")
    drawing.text(left + block * 0.5, top + block * 0.5 + 4, "owned", "ink mid bold")
    drawing.text(left + size + 20, top + 150, "orange: the halo, which", "soft")
    drawing.text(left + size + 20, top + 168, "its neighbours read, too", "soft")
    drawing.text(14, top + 30, "dashed: padding, made up by", "soft")
    drawing.text(14, top + 48, "each layer at the image's edge", "soft")
    drawing.text(left + size / 2, top + size + 20, "the image, in nine blocks", "soft mid small")
    return drawing


def pyramid_figure() -> Drawing:
    """Draw where the samples of three scales lie, and the window of one output of a 5-tap kernel on each."""
    drawing = Drawing(740, 296, "Samples of the image, halved once, and halved twice, over the pixels of the image")
    halve, kernel = Sweep(size=5, stride=2, before=2, after=2, mode="reflect"), Sweep(size=5, before=2, after=2)
    window, n, edge = Window(), 24, 22
    row = Row(drawing, 190, 30, edge)
    for level, colour in enumerate("abc"):
        y = 30 + 84 * level
        drawing.text(14, y + 15, f"scale {2**level}", "ink bold")
        drawing.text(14, y + 33, f"{n} samples", "soft small")
        for i in range(n):
            x = row.at(window.centre(i))
            drawing.rect(x + 0.75, y, edge - 1.5, edge - 1.5, "cell")
            drawing.text(x + edge / 2, y + 15, str(i), "ink mid small")
        field = window.then(kernel.window)
        centre = next(i for i in range(n) if field.centre(i) == 12)
        start = field.offset + centre * field.stride
        drawing.rect(row.at(12) + 0.75, y, edge - 1.5, edge - 1.5, colour)
        drawing.text(row.at(12.5), y + 15, str(centre), "ink mid small")
        drawing.bracket(max(row.at(start), 166) + 1, min(row.at(start + field.size), 726) - 1, y + 38, f"l{colour}")
        words = f"5 taps on scale {2**level} see {field.size} pixels"
        drawing.text(row.at(12.5), y + 54, words, "soft mid small")
        window, n = window.then(halve.window), halve.length(n)
    drawing.text(
        14,
        286,
        "a sample of a coarser scale stands where its window's centre is: at every second, every fourth pixel",
        "soft small",
    )
    return drawing


def cells_figure() -> Drawing:
    """Draw a map split into a grid, over its canonical tiles."""
    height, width, rows, cols, zoom = 75, 107, 2, 3, 2.6
    drawing = Drawing(
        740, 264, "A map of 75 by 107 samples split into two by three cells, over its tiles of 32 samples"
    )
    left, top = 240, 24
    colours: tuple[Literal["a", "b", "c"], ...] = ("a", "b", "c")
    for r, down in enumerate(cells(height, rows)):
        for c, along in enumerate(cells(width, cols)):
            x, y = left + along.start * zoom, top + down.start * zoom
            drawing.rect(x + 1, y + 1, along.length * zoom - 2, down.length * zoom - 2, colours[(r + c) % 3])
            words = f"{down.length} × {along.length}"
            drawing.text(x + along.length * zoom / 2, y + down.length * zoom / 2 + 4, words, "ink mid bold")
    for edge in range(0, width, TILE):
        drawing.line(left + edge * zoom, top - 6, left + edge * zoom, top + height * zoom + 6, "line", 1)
        drawing.text(left + edge * zoom, top - 9, str(edge), "soft mid small")
    for edge in range(0, height, TILE):
        drawing.line(left - 6, top + edge * zoom, left + width * zoom + 6, top + edge * zoom, "line", 1)
        drawing.text(left - 10, top + edge * zoom + 4, str(edge), "soft end small")
    drawing.text(14, top + 30, f"{height} × {width} samples,", "soft")
    drawing.text(14, top + 48, "grid: [2, 3]", "soft")
    drawing.text(14, top + 84, f"lines: tiles of {TILE} × {TILE},", "soft")
    drawing.text(14, top + 102, "the same for all blocks", "soft")
    drawing.text(left, 250, "coloured: cells, longer ones first, as numpy.array_split has it", "soft small")
    return drawing


FIGURES = {
    "sweep": sweep_figure,
    "composed": composed_figure,
    "block": block_figure,
    "clipping": clipping_figure,
    "padding": padding_figure,
    "pyramid": pyramid_figure,
    "cells": cells_figure,
}


def drawings() -> dict[str, str]:
    """Return every figure's file name and content."""
    return {f"geometry-{name}.svg": draw().written() for name, draw in FIGURES.items()}


def main() -> None:
    """Write all of them."""
    for name, content in drawings().items():
        (HERE / "images" / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
