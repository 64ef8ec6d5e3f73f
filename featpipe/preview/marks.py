"""What is drawn beside pictures: colour bars, bar charts, profiles."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from featpipe.preview.frames import BAR_ROW, LABEL, LEADING, NUMBER, PAD, Frame
from featpipe.preview.scales import Scale, number_text
from featpipe.report.units import count_text

if TYPE_CHECKING:
    from featpipe.preview.picture import Sheet

QUIET, BLUE, RED, FAINT = "#5f6771", "#3a6ea5", "#b2433f", "#d5d9de"
POINT = 0.05
"""Height of a colour bar's pointed end, in inches."""


def draw_scale(
    sheet: Sheet, box: tuple[float, float, float, float], scale: Scale, colours: str, unit: str, room: float
) -> None:
    """Draw a colour bar with its numbers, pointed where values lie beyond it."""
    from matplotlib import colormaps

    x, y, width, height = box
    above, below = POINT * scale.cut_high, POINT * scale.cut_low
    ramp = np.linspace(1, 0, 256)[:, None]
    sheet.image((x, y + above, width, height - above - below), ramp, cmap=colours, vmin=0, vmax=1)
    chosen = colormaps[colours]
    if scale.cut_high:
        sheet.fill([(x, y + above), (x + width, y + above), (x + width / 2, y)], chosen(1.0))
    if scale.cut_low:
        bottom = y + height
        sheet.fill([(x, bottom - below), (x + width, bottom - below), (x + width / 2, bottom)], chosen(0.0))
    right = x + width + 0.03
    line = NUMBER * LEADING
    ends = [(scale.high, y + above, "top"), (scale.low, y + height - below, "bottom")]
    if height > 3.2 * line and scale.signed:
        ends.append((0.0, y + above + (height - above - below) / 2, "center"))
    if height < 2.1 * line:  # no room for two numbers
        sheet.text(right, y + height / 2, scale.text if scale.signed else number_text(scale.high), NUMBER, va="center")
        return
    for value, at, align in ends:
        sheet.text(right, at, number_text(value), NUMBER, va=align)
    if unit and height > 0.5:
        sheet.text(
            x + room - 0.06 - line / 2, y + height / 2, unit, NUMBER, rotation=90, ha="center", va="center", color=QUIET
        )


def draw_bars(sheet: Sheet, made: Frame, x: float, y: float) -> None:
    """Draw single values as bars with their names."""
    values = [float(panel.values[0, 0]) for panel in made.block.panels]
    ends = [value for value in values if isfinite(value)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    step = made.cell[1] / ((high - low) or 1)
    zero = x - low * step
    for i, value in enumerate(values):
        top, middle = y + i * BAR_ROW + 0.02, y + i * BAR_ROW + BAR_ROW / 2
        end = zero + (value * step if isfinite(value) else 0.0)
        corners = [(zero, top), (end, top), (end, top + made.cell[0]), (zero, top + made.cell[0])]
        sheet.fill(corners, BLUE if value >= 0 else RED)
        sheet.text(max(zero, end) + 0.03, middle, number_text(value), NUMBER, va="center_baseline")
        if made.rows and made.rows[i]:
            sheet.text(x - PAD, middle, made.rows[i][0], LABEL, ha="right", va="center_baseline")
    sheet.line([(zero, y), (zero, y + len(values) * BAR_ROW)], QUIET, 0.5)


def draw_profile(sheet: Sheet, made: Frame, x: float, y: float) -> None:
    """Draw the values of very many features as one outline."""
    values = made.block.panels[0].values[0].astype(np.float64)
    values[~np.isfinite(values)] = 0
    height, width = made.cell
    line = NUMBER * LEADING
    height -= 2 * line
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    step = height / ((high - low) or 1)
    zero = y + high * step
    edges = np.linspace(x, x + width, len(values) + 1)
    xs, ys = np.repeat(edges, 2)[1:-1], zero - np.repeat(values, 2) * step
    _fill_profile(sheet, xs, ys, zero)
    sheet.line([(x, zero), (x + width, zero)], QUIET, 0.5)
    sheet.line([(x, y), (x, y + height)], QUIET, 0.5)
    ends = [(high, y)] if low == 0 else [(high, y), (low, y + height)]
    for value, at in [*ends, (0.0, zero)] if high > 0 or low == 0 else ends:
        sheet.text(x - PAD, at, number_text(value), NUMBER, ha="right", va="center")
    under = y + height + 0.03
    sheet.text(x, under, "0", NUMBER)
    sheet.text(x + width, under, f"{len(values) - 1:,}", NUMBER, ha="right")
    sheet.text(x + width / 2, under, f"feature (of {count_text(len(values))})", NUMBER, ha="center", color=QUIET)


def _fill_profile(sheet: Sheet, xs: Any, ys: Any, zero: float) -> None:
    points = [(xs[0], zero), *zip(xs, ys, strict=True), (xs[-1], zero)]
    sheet.fill(points, BLUE)
    sheet.line(points, BLUE, 0.25)
