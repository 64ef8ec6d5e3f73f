"""A preview as a picture: PNG or SVG in one piece, PDF with a page for each branch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy.typing as npt

from featpipe.errors import FeatpipeError, Problem
from featpipe.preview.frames import (
    BAR,
    FACT,
    GAP,
    LABEL,
    LEADING,
    MARGIN,
    NUMBER,
    PAD,
    TITLE,
    WIDTH,
    Frame,
    has_bars,
)  # fmt: skip
from featpipe.preview.layout import Placed, Point, lay_out
from featpipe.preview.marks import draw_bars, draw_profile, draw_scale
from featpipe.preview.panels import Preview
from featpipe.preview.scales import Scale, number_text
from featpipe.printable import printable
from featpipe.replacing import replacing
from featpipe.report.picture import INK, kernel_colours, save_figure

DPI = 220
MOST_PIXELS = 20_000
"""Height of a picture; one of very many layers gets fewer for an inch."""
QUIET, RULE, OUTLINE = "#5f6771", "#d5d9de", "#9aa0a6"
SIGNED, POSITIVE, PIXELS = "RdBu_r", "magma", "gray"
STYLE = {"font.family": ["DejaVu Sans"], "svg.fonttype": "none", "pdf.fonttype": 42, "text.hinting": "none"}


def write_preview(previews: Iterable[Preview], file: str | os.PathLike[str]) -> int:
    """Write pictures; several are the pages of a PDF.

    Parameters
    ----------
    previews : iterable of Preview
        One, but for a PDF; they are asked for one after another.
    file : path
        Its ending tells the format: .png, .svg or .pdf. Matplotlib must be there.

    Returns
    -------
    int
        Pages.

    Raises
    ------
    FeatpipeError
        If the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages

    pages = 0
    try:
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # letters of names that the font has not
            if not str(file).lower().endswith(".pdf"):
                for preview in previews:
                    figure = preview_figure(preview)
                    save_figure(figure, file, dpi=min(DPI, MOST_PIXELS / figure.get_figheight()))
                    pages += 1
                return pages
            with replacing(file) as draft, PdfPages(draft) as pdf:
                for preview in previews:
                    pdf.savefig(preview_figure(preview), dpi=DPI)
                    pages += 1
    except OSError as error:
        said = error.strerror or str(error)
        raise FeatpipeError(Problem(str(file), f"cannot be written: {said}.", "Choose another file.")) from None
    return pages


def preview_figure(preview: Preview, dpi: float = DPI) -> Any:
    """Return the picture of a preview, a matplotlib Figure."""
    from matplotlib.figure import Figure

    page = lay_out(preview, measure_text)
    figure = Figure(figsize=(WIDTH, page.height), dpi=dpi, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    sheet = Sheet(axes)
    sheet.text(MARGIN, MARGIN, preview.title, TITLE + 2, bold=True)
    for rule in page.rules:
        sheet.line([(MARGIN, rule), (WIDTH - MARGIN, rule)], RULE, 0.6)
    for placed in page.blocks:
        _draw_block(sheet, placed)
    for i, line in enumerate(page.notes[::-1]):
        sheet.text(MARGIN, page.height - MARGIN - (i + 1) * FACT * LEADING, line, FACT, color=QUIET)
    axes.set(xlim=(0, WIDTH), ylim=(page.height, 0))
    axes.set_axis_off()
    return figure


@cache
def measure_text(text: str, size: float, bold: bool) -> float:
    """Return a text's width in inches; ``size`` is in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        width, _, _ = text_to_path.get_text_width_height_descent(printable(text), font, ismath=False)
    return float(width) / 72 * 1.02  # renderers that align letters with pixels take a little more


class Sheet:
    """Axes over a whole figure, in inches from its upper left."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes

    def text(self, x: float, y: float, text: str, size: float, *, bold: bool = False, **options: Any) -> None:
        """Write a line of text, its upper left at (x, y) unless ``options`` say otherwise."""
        chosen = {"color": INK, "ha": "left", "va": "top", **options}
        weight = "bold" if bold else "normal"
        self.axes.text(x, y, printable(text), fontsize=size, fontweight=weight, parse_math=False, **chosen)

    def image(self, box: tuple[float, float, float, float], values: npt.NDArray[Any], **options: Any) -> None:
        """Draw an array into (x, y, width, height)."""
        x, y, width, height = box
        self.axes.imshow(values, extent=(x, x + width, y + height, y), aspect="auto", **options)

    def line(self, points: Any, color: str, width: float) -> None:
        """Draw a line through points."""
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, color=color, linewidth=width, solid_capstyle="butt")

    def boxes(self, boxes: Any, color: str, width: float) -> None:
        """Outline rectangles."""
        from matplotlib.collections import PolyCollection

        corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes]
        self.axes.add_collection(PolyCollection(corners, facecolors="none", edgecolors=color, linewidths=width))

    def fill(self, points: Any, color: Any) -> None:
        """Fill a polygon."""
        from matplotlib.patches import Polygon

        self.axes.add_patch(Polygon(points, closed=True, facecolor=color, edgecolor="none"))


def _draw_block(sheet: Sheet, placed: Placed) -> None:
    made, block = placed.frame, placed.frame.block
    name, after = placed.tag
    if name:
        sheet.text(placed.x, placed.tag_y, name, TITLE, bold=True, color="#1f5fa8")
        sheet.text(placed.x + measure_text(f"{name} ", TITLE, True), placed.tag_y + 0.018, after, FACT, color=QUIET)
    y = placed.y
    for text, size, bold in made.header:
        sheet.text(placed.x, y, text, size, bold=bold, color=INK if bold else QUIET)
        y += size * LEADING
    if placed.arrow:
        _draw_arrow(sheet, placed.arrow)
    x, y = placed.x + made.left, placed.body + made.top
    if block.kind == "bars":
        draw_bars(sheet, made, x, y)
    elif block.kind == "profile":
        draw_profile(sheet, made, x, y)
    else:
        _draw_names(sheet, made, x, placed.body)
        _draw_panels(sheet, made, x, y)


def _draw_arrow(sheet: Sheet, way: Sequence[Point]) -> None:
    """Draw a line with a head at its end, which goes right or down."""
    (x0, _), (x, y) = way[-2:]
    along, aside = ((0.0, 0.055), (0.028, 0.0)) if x == x0 else ((0.055, 0.0), (0.0, 0.028))
    back = (x - along[0], y - along[1])
    sheet.line([*way[:-1], back], QUIET, 0.8)
    sheet.fill([(x, y), (back[0] + aside[0], back[1] + aside[1]), (back[0] - aside[0], back[1] - aside[1])], QUIET)


def _draw_names(sheet: Sheet, made: Frame, x: float, top: float) -> None:
    """Write the names of columns and rows, and what they are."""
    pitch_y, pitch_x = made.pitch
    down, across = made.axes
    sheet.text(x, top, across, LABEL, color=QUIET, style="italic")
    if down:
        middle = top + made.top + (made.grid[0] - GAP) / 2
        edge = x - made.left + LABEL * LEADING / 2
        sheet.text(edge, middle, down, LABEL, ha="center", va="center", rotation=90, color=QUIET, style="italic")
    for i, spans in enumerate(made.levels, 1):
        for span in spans:
            at = x + (span.first + span.stop) / 2 * pitch_x - GAP / 2
            sheet.text(at, top + i * LABEL * LEADING, span.text, LABEL, ha="center")
    for row, lines in enumerate(made.rows):
        middle = top + made.top + row * pitch_y + made.cell[0] / 2
        for i, line in enumerate(lines):
            offset = (i - (len(lines) - 1) / 2) * LABEL * LEADING
            sheet.text(x - PAD, middle + offset, line, LABEL, ha="right", va="center")


def _draw_panels(sheet: Sheet, made: Frame, x: float, y: float) -> None:
    block = made.block
    pitch_y, pitch_x = made.pitch
    boxes = []
    for i, (panel, (row, column)) in enumerate(zip(block.panels, block.arrangement.places, strict=True)):
        inset = (pitch_x - GAP - made.cell[1]) / 2
        at = (x + column * pitch_x + inset, y + row * pitch_y, made.cell[1], made.cell[0])
        boxes.append(at)
        scale = block.scales[i] if block.scales else None
        _draw_values(sheet, made, at, panel.values, scale)
        for line, text in enumerate(made.captions[i] if made.captions else ()):
            below = at[1] + at[3] + 0.02 + line * NUMBER * LEADING
            sheet.text(at[0] + at[2] / 2, below, text, NUMBER, ha="center", color=QUIET)
    sheet.boxes(boxes, OUTLINE, 0.3)
    if has_bars(block):
        _draw_scales(sheet, made, x + made.grid[1] + 0.06, y)


def _draw_values(
    sheet: Sheet, made: Frame, box: tuple[float, float, float, float], values: Any, scale: Scale | None
) -> None:
    kind = made.block.kind
    if values.ndim == 3 and scale is not None:
        sheet.image(box, kernel_colours(values / scale.high), interpolation="nearest")
    elif values.ndim == 3:
        sheet.image(box, values)
    else:
        assert scale is not None
        small = max(values.shape) <= 64
        colours = {"cmap": colour_map(kind, scale), "vmin": scale.low, "vmax": scale.high}
        # float32 overflows in between where values are huge
        sheet.image(box, values.astype("float64"), interpolation="nearest" if small else "antialiased", **colours)
        if kind == "table":
            _draw_number(sheet, box, float(values[0, 0]), scale, kind)


def _draw_number(sheet: Sheet, box: tuple[float, float, float, float], value: float, scale: Scale, kind: str) -> None:
    """Write a number on its colour, dark on light and light on dark."""
    from matplotlib import colormaps

    share = (value - scale.low) / ((scale.high - scale.low) or 1)
    red, green, blue, _ = colormaps[colour_map(kind, scale)](min(1.0, max(0.0, share)))
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
    x, y, width, height = box
    color = INK if light else "white"
    sheet.text(
        x + width / 2, y + height / 2, number_text(value), NUMBER, ha="center", va="center_baseline", color=color
    )


def colour_map(kind: str, scale: Scale) -> str:
    """Return the name of the colours that suit a scale."""
    return PIXELS if kind == "image" else SIGNED if scale.signed else POSITIVE


def _draw_scales(sheet: Sheet, made: Frame, x: float, y: float) -> None:
    """Draw one colour bar, or one for each row."""
    block = made.block
    colours = block.panels[0].values.ndim == 3
    if block.mode == "all":
        height = min(made.grid[0] - (made.pitch[0] - made.cell[0]), 1.3)
        name = PIXELS if colours else colour_map(block.kind, block.scales[0])
        draw_scale(sheet, (x, y, BAR, height), block.scales[0], name, block.unit, made.right)
        return
    seen = set()
    for (row, _), scale in zip(block.arrangement.places, block.scales, strict=True):
        if row not in seen:
            name = PIXELS if colours else colour_map(block.kind, scale)
            draw_scale(sheet, (x, y + row * made.pitch[0], BAR, made.cell[0]), scale, name, "", made.right)
        seen.add(row)
