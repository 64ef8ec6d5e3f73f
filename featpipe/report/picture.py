"""A bank of kernels as a picture."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import FeatpipeError, Problem, SpecError
from featpipe.kernels.bank import Bank, Kernel
from featpipe.printable import printable
from featpipe.reading.files import irregular_text
from featpipe.replacing import replacing
from featpipe.report.arrangement import arrange, label_text, varying

MOST_KERNELS = 256
"""More would be too small to see, and slow to draw."""
PANEL = 0.82
"""Edge of a kernel's panel, in inches."""
LINE = 0.125
"""Height of a line of its caption, in inches."""
DPI = 150
INK = "#22272e"


def check_drawing(file: str | os.PathLike[str], option: str = "--png") -> None:
    """Raise `FeatpipeError` if a picture cannot be written there, before hours of work; ``option`` asked for it."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        what = "drawing needs the package matplotlib, which is not installed."
        raise FeatpipeError(Problem(option, what, "pip install 'featpipe[pictures]'")) from None
    path = Path(file)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise SpecError(Problem(str(path), "is not the name of a picture.", "End it in .png (or .pdf, .svg)."))
    if path.exists() and not path.is_file():
        raise SpecError(Problem(str(path), f"{irregular_text(path.stat().st_mode)}.", "Choose another name."))
    if not path.absolute().parent.is_dir():
        raise SpecError(Problem(str(path), "its directory does not exist.", "Make it, or choose another place."))


def draw_bank(bank: Bank, file: str | os.PathLike[str]) -> None:
    """Draw every kernel of a bank with its labels, and write the picture.

    Colours tell a weight as a share of the kernel's largest: red above 0, blue below, white 0. Kernels of several
    sizes are drawn equally large, and say their sizes.

    Parameters
    ----------
    bank : Bank
        Of which the first 256 kernels are drawn.
    file : path
        Its ending tells the format, .png as a rule. Matplotlib must be there.

    Raises
    ------
    FeatpipeError
        If the file cannot be written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # letters of kernels' names that the font has not
            save_figure(bank_figure(bank), file)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise FeatpipeError(Problem(str(file), f"cannot be written ({said}).", "Choose another file.")) from None


def save_figure(figure: Any, file: str | os.PathLike[str], **options: Any) -> None:
    """Save a matplotlib Figure, whole or not at all; the file's ending tells the format."""
    ending = Path(file).suffix[1:]
    with replacing(file if ending else f"{file}.png") as draft:
        figure.savefig(draft, format=ending or "png", **options)


def bank_figure(bank: Bank) -> Any:
    """Return what `draw_bank` writes, a matplotlib Figure."""
    from matplotlib.figure import Figure

    kernels = bank.kernels[:MOST_KERNELS]
    places = arrange([kernel.labels for kernel in kernels]).places
    captions = _captions(kernels)
    rows, cols = (1 + max(place[axis] for place in places) for axis in (0, 1))
    lines = max(caption.count("\n") + 1 for caption in captions)
    wide = max(PANEL, 0.062 * max(len(line) for caption in captions for line in caption.split("\n")))
    high = PANEL + LINE * lines + 0.12
    width, height = max(cols * (wide + 0.1) + 0.2, 4.2), rows * high + 1.15
    figure = Figure(figsize=(width, height), dpi=DPI)
    left = (width - cols * (wide + 0.1)) / 2 + 0.05
    for kernel, caption, (row, col) in zip(kernels, captions, places, strict=True):
        x = left + col * (wide + 0.1) + (wide - PANEL) / 2
        y = height - 0.62 - row * high - PANEL
        axes = figure.add_axes((x / width, y / height, PANEL / width, PANEL / height))
        image = _draw_kernel(axes, kernel)
        axes.text(
            0.5, -0.05, caption, transform=axes.transAxes, ha="center", va="top",
            fontsize=6.5, color=INK, linespacing=1.15, parse_math=False,
        )  # fmt: skip
    figure.text(
        0.5, 1 - 0.18 / height, printable(_title(bank)), ha="center", va="top", fontsize=11, color=INK, parse_math=False
    )
    bar = figure.add_axes((0.5 - 1.2 / width, 0.33 / height, 2.4 / width, 0.08 / height))
    scale = figure.colorbar(image, cax=bar, orientation="horizontal", ticks=[-1, 0, 1])
    scale.ax.tick_params(labelsize=6.5, length=2, pad=2, colors=INK)
    scale.set_label("weight relative to the kernel's largest", fontsize=6.5, color=INK, labelpad=1)
    scale.outline.set_visible(False)
    return figure


def kernel_colours(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the colours of kernels of three channels, weights from -1 to 1; gray is 0."""
    return np.asarray(0.5 + 0.5 * np.clip(weights, -1, 1), np.float64)


def _draw_kernel(axes: Any, kernel: Kernel) -> Any:
    """Draw the weights: three channels as colours, where gray is 0; others side by side."""
    from matplotlib.cm import ScalarMappable

    weights = kernel.weights / (np.abs(kernel.weights).max() or 1)
    if weights.ndim == 3 and weights.shape[2] == 3:
        axes.imshow(kernel_colours(weights), interpolation="nearest", aspect="equal")
        image = ScalarMappable(cmap="gray")
        image.set_clim(-1, 1)
    else:
        if weights.ndim == 3:
            weights = np.concatenate(np.moveaxis(weights, 2, 0), axis=1)
        image = axes.imshow(weights, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linewidth=0.4, color="#9aa0a6")
    return image


def _captions(kernels: Sequence[Kernel]) -> list[str]:
    labels = [kernel.labels for kernel in kernels]
    known = varying(labels)
    several = len({kernel.weights.shape[:2] for kernel in kernels}) > 1
    captions = []
    for kernel in kernels:
        lines = [label_text(label, kernel.labels[label]) for label in known if label in kernel.labels]
        if several:
            lines.append("{}×{}".format(*kernel.weights.shape[:2]))
        captions.append("\n".join(printable(line) for line in lines if line))
    return captions


def _title(bank: Bank) -> str:
    labels = [kernel.labels for kernel in bank.kernels]
    known = varying(labels)
    name = str(labels[0].get("bank", "kernels"))
    same = "".join(f", {label} {value}" for label, value in labels[0].items() if label not in ("bank", *known))
    count = len(bank.kernels)
    drawn = f"the first {MOST_KERNELS} of {count:,}" if count > MOST_KERNELS else f"{count}"
    return f"{name}{same}: {drawn} kernel{'s' if count > 1 else ''} of {bank.size[0]}×{bank.size[1]}"
