"""What ``featpipe banks show --png`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featpipe.errors import Problem, SpecError
from featpipe.kernels.bank import Bank
from featpipe.kernels.catalog import build_bank, find_bank
from featpipe.kernels.fitted import read_learned_bank
from featpipe.spec.fits import FitBank, LearnedBank
from featpipe.spec.layers import Convolve, ConvolveLayer
from featpipe.spec.load import parse_pipeline
from featpipe.spec.overrides import apply_override


def draw_example(name: str, overrides: Sequence[str], png: Path) -> Bank:
    """Draw a bank with its example's parameters, some of them overridden.

    Parameters
    ----------
    name : str
        The bank.
    overrides : sequence of str
        ``key=value`` each, the keys those of the layer: ``sigmas=[1, 2]``.
    png : path
        The picture to write.

    Returns
    -------
    Bank
        What was drawn.

    Raises
    ------
    FeatpipeError
        If there is no such bank, a parameter is wrong, or the picture cannot be written.
    """
    from featpipe.report.picture import check_drawing, draw_bank

    layer: dict[str, Any] = find_bank(name).layer
    for override in overrides:
        apply_override(layer, override)
    check_drawing(png)
    try:
        pipeline = parse_pipeline({"images": {"path": "images"}, "features": {"b": {"layers": [{"convolve": layer}]}}})
    except SpecError as error:
        before = "features.b.layers[0].convolve"
        told = [
            replace(problem, where=f"bank {name}{problem.where.removeprefix(before)}") for problem in error.problems
        ]
        raise SpecError(told) from None
    (convolve,) = pipeline.features["b"].layers
    assert isinstance(convolve, ConvolveLayer)
    bank = _build(convolve.convolve, name)
    draw_bank(bank, png)
    return bank


def _build(convolve: Convolve, name: str) -> Bank:
    """Make the kernels; those of a fit are in the file that was written of them."""
    match convolve.source:
        case FitBank():
            change = f"Learn it with featpipe fit, then: banks show learned --set bank.file=BANK.npz --png {name}.png"
            raise SpecError(Problem(f"bank {name}", "is learned from images, and there is none here.", change))
        case LearnedBank(file=file):
            return read_learned_bank(file, f"bank {name}").bank()
        case source:
            return build_bank(source, 1, convolve.names, f"bank {name}")
