"""Layers that combine features at each position by a formula: products, eigenvalues, basic image features, codes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featpipe.spec.base import Count, Flaw, Number, Spec, wrong

CODE_BITS = 24
"""Whole numbers up to 2 to this power are exact in float32."""


class Bif(Spec):
    """Griffin's seven scores of basic image features, from Gaussian derivatives to order 2; the largest names the kind.

    With L the derivatives times sigma to their order, λ = Lyy + Lxx and γ = √((Lyy - Lxx)² + 4 Lxy²), the scores are
    ε L (flat), 2 √(Ly² + Lx²) (slope), λ (dark-blob), -λ (light-blob), (γ + λ)/√2 (dark-line), (γ - λ)/√2
    (light-line) and γ (saddle).
    """

    epsilon: Annotated[Number, Field(ge=0)]
    """How much of the image is flat: ε; 0 leaves flat to where all derivatives are 0. Second derivatives cut off at 4
    sigmas are 0.1 % of the value where nothing changes: for an ε below 0.003 give the bank ``truncate: 6``."""


class Code(Spec):
    """Combine the features that share every label but one to one whole number."""

    over: str
    """The label to combine over; feature i is the one that comes i-th in the bank."""
    by: Literal["sign", "argmax", "digits"]
    """sign: the sum of 2^i over the positive ones, i from 0: PCANet's hash as Chan et al. (2015) write it (their
    program gives the first filter the highest bit instead, which only permutes a histogram's bins); argmax: the i of
    the largest, the first of equal ones; digits: the sum of base^i x_i."""
    base: Annotated[Count | None, Field(ge=2)] = None
    """Of digits."""

    @model_validator(mode="after")
    def _base_of_digits(self) -> Code:
        if self.by == "digits" and self.base is None:
            raise wrong(Flaw("digits needs a base.", "Add base: 7, one more than the largest digit."))
        if self.by != "digits" and self.base is not None:
            raise wrong(Flaw(f"has no meaning with by: {self.by}.", "Remove it.", ("base",), True))
        return self


class ProductsLayer(Spec):
    """Products of derivatives along y and x: component yy, xy and xx, the structure tensor before it is smoothed."""

    products: Spec = Spec()


class EigenvaluesLayer(Spec):
    """Eigenvalues of [[yy, xy], [xy, xx]], of second derivatives or products: the largest, then the smallest."""

    eigenvalues: Spec = Spec()


class BifLayer(Spec):
    """``- bif: {epsilon: 0.03}``."""

    bif: Bif


class CodeLayer(Spec):
    """``- code: {over: kernel, by: sign}``."""

    code: Code


CombiningLayer = ProductsLayer | EigenvaluesLayer | BifLayer | CodeLayer
