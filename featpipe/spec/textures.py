"""The canonical banks of texture analysis and of transforms, each with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from featpipe.spec.base import Count, Flaw, Number, PositiveNumber, Sigmas, Spec, Whole, as_list, first_twice, wrong
from featpipe.spec.shape import OR_ITEM

NARROWEST = 0.3
"""Sigma of an edge or bar, in samples, below which hardly any of its taps differs from 0."""


class TextureBank(Spec):
    """A bank of this module."""

    name: Any


def _odd(size: int) -> int:
    if size < 3 or size % 2 == 0:
        raise wrong(Flaw(f"must be odd and at least 3, so that the kernels have a centre, got {size}."))
    return size


class LmBank(TextureBank):
    """Leung and Malik's 48: edges and bars at 6 orientations and 3 scales, Gaussians and their Laplacians."""

    name: Literal["lm"]
    variant: Literal["large", "small"] = "large"
    """Scales: edges and bars from sigma √2 on (large) or from 1 on (small), in samples."""
    size: Count = 49
    """Edge of the kernels, in samples (odd)."""

    _centre = field_validator("size")(_odd)


class SchmidBank(TextureBank):
    """Schmid's 13 isotropic ripples, which answer alike however a texture is turned."""

    name: Literal["schmid"]
    size: Count = 49
    """Edge of the kernels, in samples (odd)."""

    _centre = field_validator("size")(_odd)


class RfsBank(TextureBank):
    """Varma and Zisserman's root filter set: 38 kernels, which reduce over orientation by max makes MR8."""

    name: Literal["rfs"]
    sigmas: Sigmas = [1.0, 2.0, 4.0]
    """Standard deviations across edges and bars, in samples; [4] alone gives MR4."""
    size: Count = 49
    """Edge of the kernels, in samples (odd)."""

    _centre = field_validator("size")(_odd)

    @model_validator(mode="after")
    def _fits(self) -> RfsBank:
        for sigma in self.sigmas:
            if not NARROWEST <= sigma <= self.size:
                what = f"must be from {NARROWEST:g} to size ({self.size}) samples, got {sigma:g}."
                raise wrong(Flaw(what, "", ("sigmas",)))
        return self


def _each_once(values: list[Any]) -> list[Any]:
    if (twice := first_twice(values)) is not None:
        raise wrong(Flaw(f"gives {twice} twice.", "Give each value once."))
    return values


class MorletBank(TextureBank):
    """The wavelets of the scattering transform, each an even and an odd kernel of sum 0 that ``modulus`` folds."""

    name: Literal["morlet"]
    scales: Annotated[Count, Field(le=16)]
    """How many octaves, from the finest: sigma 0.8 · 2^octave samples, frequency 3/8 / 2^octave cycles per sample."""
    orientations: Count = 8
    """How many orientations, evenly over 180 degrees from 0; the more, the narrower each."""
    octaves: Annotated[list[Whole], BeforeValidator(as_list), OR_ITEM] = []
    """Which octaves of these, from 0; [] for all."""
    truncate: Annotated[Number, Field(ge=1)] = 5.0
    """Radius of the kernels, in standard deviations of the longer axis of their Gaussian."""

    _once = field_validator("octaves")(_each_once)

    @model_validator(mode="after")
    def _known(self) -> MorletBank:
        for octave in self.octaves:
            if octave >= self.scales:
                what = f"must be below scales ({self.scales}), got {octave}."
                raise wrong(Flaw(what, "", ("octaves",)))
        return self


LawsVector = Literal["L3", "E3", "S3", "L5", "E5", "S5", "W5", "R5"]


class LawsBank(TextureBank):
    """Laws' texture masks: every vector along y times every vector along x."""

    name: Literal["laws"]
    vectors: Annotated[list[LawsVector], Field(min_length=1)] = ["L5", "E5", "S5", "W5", "R5"]
    """Level, edge, spot, wave and ripple, of 3 or of 5 samples."""

    @field_validator("vectors")
    @classmethod
    def _one_length(cls, vectors: list[LawsVector]) -> list[LawsVector]:
        if len({vector[1] for vector in vectors}) > 1:
            raise wrong(Flaw("mixes vectors of 3 and of 5 samples.", "Use one length, or two layers."))
        return _each_once(vectors)


class HaarBank(TextureBank):
    """The four 2×2 Haar kernels; with stride 2 one level of the orthonormal wavelet transform."""

    name: Literal["haar"]


class DctBank(TextureBank):
    """The orthonormal cosines of the discrete cosine transform of a square, without the constant one."""

    name: Literal["dct"]
    size: Annotated[Count, Field(ge=2)] = 8
    """Edge of the square, in samples; 8 gives 63 kernels."""


class SteerableBank(TextureBank):
    """The oriented bands of the steerable pyramid, at every sample: band-pass in radius, cos^order in angle."""

    name: Literal["steerable"]
    order: Annotated[Whole, Field(le=15)] = 3
    """Order of the derivative; order + 1 orientations span every other."""
    levels: Annotated[Count, Field(le=16)] = 1
    """How many octaves, from the finest, which peaks at 1/4 cycle per sample."""
    size: Count = 32
    """Edge of the finest kernels, in samples (even); those of each further level are twice as large."""

    @field_validator("size")
    @classmethod
    def _even(cls, size: int) -> int:
        if size < 8 or size % 2:
            raise wrong(Flaw(f"must be even and at least 8, got {size}."))
        return size


Order = Annotated[Whole, Field(le=2)]
Orders = Annotated[list[Order], BeforeValidator(as_list), Field(min_length=1), OR_ITEM]


class GaussianDerivativesBank(TextureBank):
    """Derivatives of a Gaussian along y and x up to the second, as ``bif`` and ``eigenvalues`` need them."""

    name: Literal["gaussian-derivatives"]
    sigmas: Sigmas
    """Standard deviations, in samples."""
    orders: Orders = [1, 2]
    """Orders of derivative, 0 (the smoothed value) to 2."""
    truncate: PositiveNumber = 4.0
    """Radius of the kernels, in sigmas."""

    _once = field_validator("orders")(_each_once)


NamedTexture = (
    LmBank | SchmidBank | RfsBank | MorletBank | LawsBank | HaarBank | DctBank | SteerableBank | GaussianDerivativesBank
)
TEXTURES: dict[str, type[NamedTexture]] = {
    "gaussian-derivatives": GaussianDerivativesBank,
    "lm": LmBank,
    "schmid": SchmidBank,
    "rfs": RfsBank,
    "morlet": MorletBank,
    "steerable": SteerableBank,
    "laws": LawsBank,
    "haar": HaarBank,
    "dct": DctBank,
}
"""Every bank of this module by its name."""


def _tag(bank: Any) -> str:
    return f"({bank.get('name') if isinstance(bank, Mapping) else bank.name})"


TextureSpec = Annotated[
    Annotated[LmBank, Tag("(lm)")]
    | Annotated[SchmidBank, Tag("(schmid)")]
    | Annotated[RfsBank, Tag("(rfs)")]
    | Annotated[MorletBank, Tag("(morlet)")]
    | Annotated[LawsBank, Tag("(laws)")]
    | Annotated[HaarBank, Tag("(haar)")]
    | Annotated[DctBank, Tag("(dct)")]
    | Annotated[SteerableBank, Tag("(steerable)")]
    | Annotated[GaussianDerivativesBank, Tag("(gaussian-derivatives)")],
    Discriminator(_tag),
]
