"""Banks that are learned from the images, and files that hold a learned bank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from featpipe.spec.base import Count, Flag, Flaw, PathText, PositiveNumber, Spec, Whole, describe, wrong
from featpipe.spec.shape import Written
from featpipe.spec.words import suggest

FitName = Literal["kmeans", "pca", "zca-patches", "random-patches"]
FITS: tuple[str, ...] = get_args(FitName)
NOTES: dict[str, tuple[str, str]] = {
    "kmeans": (
        "Centroids of patches of the images; with response: distance and activate: triangle, a codebook.",
        "Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature learning.",
    ),
    "pca": (
        "Principal components of mean-removed patches of the images.",
        "Chan et al. 2015, PCANet: A simple deep learning baseline for image classification?, section II-A.",
    ),
    "zca-patches": (
        "Patches of the images, whitened and of unit length.",
        "Coates and Ng 2011, The importance of encoding versus training with sparse coding and vector quantization.",
    ),
    "random-patches": (
        "Patches of the images, less their mean and of unit length.",
        "Rolf et al. 2021, A generalizable and accessible approach to machine learning with global satellite imagery.",
    ),
}
"""Of each fit, what it is and whose definition this is."""
WHITENED = ("kmeans", "zca-patches")
"""Fits that whiten patches unless told otherwise."""


class Whiten(Spec):
    """ZCA whitening: W = E (D + epsilon)^(-1/2) Eᵀ, of the patches' covariance E D Eᵀ."""

    epsilon: PositiveNumber = 0.1
    """Added to the covariance's eigenvalues, in squared units of the (contrast-normalised) patches."""


def _read_whiten(value: object) -> object:
    if value is True:
        return {}
    if value is False or value is None:
        return None
    if not isinstance(value, (Mapping, Whiten)):
        raise wrong(Flaw(f"must be true, false or {{epsilon: 0.1}}, got {describe(value)}."))
    return value


class FitBank(Spec):
    """Kernels learned from patches of the images: centroids, principal components, or patches themselves."""

    name: Literal["fit"]
    fit: FitName
    kernels: Count
    """How many kernels."""
    size: Count = 6
    """Edge of the patches, in samples."""
    patches: Annotated[Count, Field(ge=2)] = 200_000
    """How many patches to draw: the kernels are fitted to them, or chosen among them."""
    seed: Whole = 0
    """Of the generator that draws patches and starts the fit."""
    split: str | None = None
    """The split whose images may be looked at; train where the images have splits, else all of them."""
    whiten: Annotated[Whiten | None, BeforeValidator(_read_whiten), Written({"type": "boolean"})] = None
    """ZCA whitening of the patches, folded into the kernels; on for kmeans and zca-patches unless false."""
    unit: Flag = False
    """Make the kernels' vectors unit length, as zca-patches and random-patches do unless false."""
    iterations: Count = 25
    """Of kmeans, at most."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_fit(cls, data: Any) -> Any:
        """Fill in what is usual for the fit."""
        if not isinstance(data, Mapping):
            return data
        usual: dict[str, object] = {}
        if data.get("fit") in WHITENED:
            usual["whiten"] = {}
        if data.get("fit") in ("zca-patches", "random-patches"):
            usual["unit"] = True
        return {**usual, **data}

    @model_validator(mode="after")
    def _makes_sense(self) -> FitBank:
        flaws = []
        if self.kernels > self.patches:
            what = f"is {self.kernels:,}, more than the {self.patches:,} patches that they are fitted to."
            flaws.append(Flaw(what, "Use fewer kernels or more patches.", ("kernels",)))
        if "iterations" in self.model_fields_set and self.fit != "kmeans":
            flaws.append(Flaw(f"has no meaning for {self.fit}.", "Remove it.", ("iterations",), True))
        if self.fit == "pca" and self.whiten is not None:
            flaws.append(Flaw("has no meaning for pca.", "Remove it.", ("whiten",), True))
        if self.fit == "zca-patches" and self.whiten is None:
            flaws.append(Flaw("zca-patches are whitened.", "Use fit: random-patches for plain ones.", ("whiten",)))
        if flaws:
            raise wrong(*flaws)
        return self


class LearnedBank(Spec):
    """A learned bank from a file that ``featpipe fit`` has written."""

    name: Literal["learned"]
    file: PathText
    """Path of the file (absolute once the pipeline has been read)."""


def read_learned(bank: Mapping[str, object]) -> dict[str, object] | None:
    """Read ``bank: {fit: …}`` or ``bank: {file: …}``; None where it is neither."""
    if "file" in bank and "fit" not in bank:
        return {**bank, "name": "learned"}
    fit = bank.get("fit")
    if fit == "random" or "fit" not in bank:
        return None
    if fit not in FITS:
        change = f"{suggest(fit, (*FITS, 'random'))} (fits: {', '.join((*FITS, 'random'))})".strip()
        raise wrong(Flaw(f"there is no fit {describe(fit)}.", change, ("bank", "fit")))
    return {**bank, "name": "fit"}
