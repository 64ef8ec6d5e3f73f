"""A confusion matrix as a picture."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from featpipe.errors import FeatpipeError, Problem
from featpipe.printable import printable
from featpipe.report.picture import check_drawing, save_figure

if TYPE_CHECKING:
    from featpipe.probes.result import ProbeResult

MOST_NUMBERS = 24
"""Classes up to which every cell shows its number."""
MOST_NAMES = 130
"""Classes up to which each is named."""
LONGEST_NAME = 28
DPI = 150
TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def draw_confusion(result: ProbeResult, file: str | os.PathLike[str]) -> None:
    """Draw a confusion matrix, each row as shares of a class's test images, and write it.

    Raises
    ------
    FeatpipeError
        If matplotlib is missing, or does not know the file's ending.
    """
    check_drawing(file)
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    n = len(result.classes)
    cell = min(0.45, 9.0 / n) if n > MOST_NUMBERS else max(0.45, 2.4 / n)  # inches
    names = [_short(name) for name in result.classes]
    margin = 0.9 + 0.075 * max(map(len, names))
    figure = Figure(figsize=(cell * n + margin + 1.4, cell * n + margin + 0.7), dpi=DPI, layout="constrained")
    axes: Any = figure.add_subplot()
    counts = result.confusion
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    norm = PowerNorm(0.5, 0.0, 1.0)  # so that a confusion of a few percent can be seen
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    _name_axes(axes, names, cell)
    if n <= MOST_NUMBERS:
        _write_numbers(axes, counts, shares, cell)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, ticks=TICKS, format=PercentFormatter(1.0, 0))
    bar.set_label("share of the class's test images")
    low, high = result.interval
    right = f"{result.accuracy:.1%} of {result.counts['test']:,} test images right"
    figure.suptitle(f"{result.classifier}: {right} ({low:.1%} to {high:.1%})", fontsize=10, wrap=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # letters of class names that the font has not
            save_figure(figure, file, bbox_inches="tight", pad_inches=0.1)
    except ValueError as error:
        raise FeatpipeError(Problem(str(file), f"{str(error).rstrip('.')}.", "End its name in .png.")) from None


def _name_axes(axes: Any, names: list[str], cell: float) -> None:
    """Name the classes along both axes; where they are too many, number some of them."""
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if len(names) > MOST_NAMES:
        axes.set_xlabel("taken for (number of the class)")
        axes.set_ylabel("number of the class")
        return
    size = max(3.5, min(9.0, cell * 72 * 0.75))
    places = np.arange(len(names))
    fits = 0.6 * size * (max(map(len, names)) + 1) <= cell * 72
    axes.set_xticks(places, names, rotation=0 if fits else 90, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    if len(names) > MOST_NUMBERS:
        axes.tick_params(length=1.5, width=0.4, pad=1.5)


def _write_numbers(axes: Any, counts: Any, shares: Any, cell: float) -> None:
    """Write the counts into their cells."""
    longest = len(f"{counts.max()}")
    size = min(10.0, cell * 72 / (0.62 * longest + 0.8))
    for row, col in np.ndindex(counts.shape):
        if counts[row, col]:
            color = "white" if shares[row, col] > 0.3 else "black"
            axes.text(col, row, f"{counts[row, col]}", ha="center", va="center", fontsize=size, color=color)


def _short(name: str) -> str:
    """Return a class's name, cut if it is long; a dollar sign would begin a formula."""
    name = printable(name)
    text = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return text.replace("$", r"\$")
