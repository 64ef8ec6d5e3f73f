"""A locally connected layer: kernels of its own at every position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Tag, model_validator

from featpipe.spec.base import (
    Bias,
    Count,
    Flaw,
    Pair,
    PathText,
    Spec,
    Whole,
    describe,
    miscounted_bias,
    repeated_names,
    wrong,
)
from featpipe.spec.padding import VALID, PaddingField


class DrawnKernels(Spec):
    """Kernels drawn from a seed, He-initialised, others at every position: normal with variance 2 / (size² · c)."""

    fit: Literal["random"]
    """Drawn at random: the only way so far."""
    kernels: Count
    """How many kernels at each position."""
    size: Count = 3
    """Edge of the kernels, in samples."""
    seed: Whole = 0
    """Seed of the generator."""


def _kernels_tag(value: Any) -> str:
    return "(drawn)" if isinstance(value, (Mapping, DrawnKernels)) else "(file)"


def _read_kernels(value: object) -> object:
    if not isinstance(value, (str, Mapping, DrawnKernels)):
        expected = "a .npy file, FILE.npz:NAME or FILE.safetensors:NAME, or {fit: random, kernels: 16, size: 3}"
        raise wrong(Flaw(f"must be {expected}, got {describe(value)}."))
    return value


class Local(Spec):
    """A convolution whose kernels differ from position to position, as Keras' LocallyConnected2D.

    It has as many parameters as the convolution at every position: all images must be of one size.
    """

    kernels: Annotated[
        Annotated[DrawnKernels, Tag("(drawn)")] | Annotated[PathText, Tag("(file)")],
        Discriminator(_kernels_tag),
        BeforeValidator(_read_kernels),
    ]
    """A file with (oy, ox, k, y, x, c): output row and column, kernel, its rows, columns and channels; or
    ``{fit: random, kernels: 16, size: 3, seed: 0}``."""
    names: list[str] | None = None
    """Names of kernels from a file, one each."""
    stride: Pair = [1, 1]
    """Step of the window: one number or ``[y, x]``, in samples."""
    padding: PaddingField = VALID
    """As for convolve."""
    bias: Bias = 0.0
    """Added to every response: one number, one per kernel, or a file with (k,) or (oy, ox, k)."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Local:
        flaws = []
        drawn = self.kernels if isinstance(self.kernels, DrawnKernels) else None
        if self.names is not None and drawn is not None:
            flaws.append(Flaw("random kernels have numbers for names.", "Remove names.", ("names",)))
        elif self.names is not None:
            flaws += repeated_names(self.names)
        flaws += miscounted_bias(self.bias, drawn.kernels if drawn is not None else None)
        if flaws:
            raise wrong(*flaws)
        return self


class LocalLayer(Spec):
    """``- local: {kernels: weights.npy}``."""

    local: Local
