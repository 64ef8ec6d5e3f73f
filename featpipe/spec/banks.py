"""The filter banks a pipeline can name, each with its parameters.

Sizes and sigmas are in samples of the layer's input, frequencies in cycles per sample, orientations in degrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, ValidationInfo

from featpipe.spec.base import (
    LIST,
    MOST_VALUES,
    ONE,
    ONE_OR_LIST,
    UNKNOWN_KEY,
    Count,
    Flaw,
    Number,
    PathText,
    PositiveNumber,
    Sigmas,
    Spec,
    Whole,
    as_list,
    describe,
    from_file,
    unknown_keys,
    wrong,
)
from featpipe.spec.fits import FitBank, LearnedBank, read_learned
from featpipe.spec.inline import Kernels, WrittenKernels, read_kernels
from featpipe.spec.shape import OR_ITEM
from featpipe.spec.textures import TEXTURES, NamedTexture, TextureSpec
from featpipe.spec.words import suggest

ClassicName = Literal["identity", "sobel", "scharr", "prewitt", "laplacian", "outline", "sharpen", "emboss"]


class ClassicBank(Spec):
    """A classic 3×3 kernel, or pair of kernels, known by name."""

    name: ClassicName


class BoxBank(Spec):
    """The mean of a square."""

    name: Literal["box"]
    size: Count = 3
    """Edge of the square, in samples."""


class BinomialBank(Spec):
    """A row of Pascal's triangle, squared: the smallest good smoothing kernel."""

    name: Literal["binomial"]
    size: Count = 5
    """Edge of the kernel, in samples; 5 is Burt and Adelson's [1 4 6 4 1]/16."""


class GaussianBank(Spec):
    """Gaussian smoothing at one or more scales."""

    name: Literal["gaussian"]
    sigmas: Sigmas
    """Standard deviations, in samples."""
    truncate: PositiveNumber = 4.0
    """Radius of the kernel, in sigmas."""


class GaussianGradientBank(Spec):
    """First derivatives of a Gaussian along y and x, a pair that ``modulus`` folds to the gradient magnitude."""

    name: Literal["gaussian-gradient"]
    sigmas: Sigmas
    """Standard deviations, in samples."""
    truncate: PositiveNumber = 4.0
    """Radius of the kernel, in sigmas."""


class LogBank(Spec):
    """Laplacian of Gaussian: blobs and edges by their zero crossings."""

    name: Literal["log"]
    sigmas: Sigmas
    """Standard deviations, in samples."""
    truncate: PositiveNumber = 4.0
    """Radius of the kernel, in sigmas."""


class DogBank(Spec):
    """Difference of Gaussians, G(sigma) - G(ratio * sigma)."""

    name: Literal["dog"]
    sigmas: Sigmas
    """Standard deviations of the narrower Gaussian, in samples."""
    ratio: Annotated[Number, Field(gt=1)] = 1.6
    """The wider Gaussian's sigma over the narrower's; 1.6 comes nearest to the Laplacian of Gaussian."""
    truncate: PositiveNumber = 4.0
    """Radius of the kernel, in sigmas of the wider Gaussian."""


Frequency = Annotated[Number, Field(gt=0, le=0.5)]
Orientations = Annotated[
    Annotated[Count, ONE] | Annotated[list[Number], Field(min_length=1, max_length=MOST_VALUES), LIST],
    ONE_OR_LIST,
]


class GaborBank(Spec):
    """Gabor filters, each an even and an odd kernel that ``modulus`` folds to the local amplitude."""

    name: Literal["gabor"]
    frequencies: Annotated[
        list[Frequency], BeforeValidator(as_list), Field(min_length=1, max_length=MOST_VALUES), OR_ITEM
    ]
    """Spatial frequencies of the wave, in cycles per sample, at most 0.5."""
    orientations: Orientations = 8
    """How many orientations, evenly over 180 degrees from 0; or their angles in degrees."""
    bandwidth: PositiveNumber = 1.0
    """Bandwidth of each filter, in octaves."""
    n_stds: PositiveNumber = 3.0
    """Radius of the kernel, in standard deviations of its Gaussian."""


class FileBank(Spec):
    """Kernels from a ``.npy``, ``.npz`` or ``.safetensors`` file, ``(k, y, x)`` or ``(k, y, x, c)``."""

    name: Literal["file"]
    file: PathText
    """Path (absolute once the pipeline has been read), with ``:key`` after an ``.npz`` or ``.safetensors``."""
    order: Literal["auto", "kyxc", "kcyx"] = "auto"
    """Of four axes; auto takes safetensors for PyTorch's kcyx, and NumPy's files where only axis 1 fits the input."""


class InlineBank(Spec):
    """Kernels written out in the pipeline, ``(k, y, x)`` or ``(k, y, x, c)`` numbers."""

    name: Literal["inline"]
    values: Annotated[Kernels, PlainValidator(read_kernels, json_schema_input_type=WrittenKernels)]
    """Kernels, their rows, and in each row numbers or, where a kernel spans the channels, lists of c numbers."""


class RandomBank(Spec):
    """Kernels drawn from a seed, He-initialised: normal with variance 2 / (size² · c)."""

    name: Literal["random"]
    kernels: Count
    """How many kernels."""
    size: Count = 3
    """Edge of the kernels, in samples."""
    seed: Whole = 0
    """Seed of the generator."""


NamedBank = (
    ClassicBank | BoxBank | BinomialBank | GaussianBank | GaussianGradientBank | LogBank | DogBank | GaborBank
    | NamedTexture
)  # fmt: skip
"""Banks that ``convolve: {bank: NAME, ...}`` names, their parameters beside the name."""

CLASSIC_NAMES: tuple[str, ...] = get_args(ClassicName)
BANKS: dict[str, type[NamedBank]] = {
    **dict.fromkeys(CLASSIC_NAMES, ClassicBank),
    "box": BoxBank,
    "binomial": BinomialBank,
    "gaussian": GaussianBank,
    "gaussian-gradient": GaussianGradientBank,
    "log": LogBank,
    "dog": DogBank,
    "gabor": GaborBank,
    **TEXTURES,
}
"""Every bank a pipeline can name, and its parameters."""


def _bank_tag(bank: Any) -> str | None:
    name = bank.get("name") if isinstance(bank, Mapping) else getattr(bank, "name", None)
    if name in TEXTURES:
        return "(texture)"
    return "(classic)" if name in CLASSIC_NAMES else f"({name})"


BankSpec = Annotated[
    Annotated[ClassicBank, Tag("(classic)")]
    | Annotated[BoxBank, Tag("(box)")]
    | Annotated[BinomialBank, Tag("(binomial)")]
    | Annotated[GaussianBank, Tag("(gaussian)")]
    | Annotated[GaussianGradientBank, Tag("(gaussian-gradient)")]
    | Annotated[LogBank, Tag("(log)")]
    | Annotated[DogBank, Tag("(dog)")]
    | Annotated[GaborBank, Tag("(gabor)")]
    | Annotated[TextureSpec, Tag("(texture)")]
    | Annotated[FileBank, Tag("(file)")]
    | Annotated[InlineBank, Tag("(inline)")]
    | Annotated[RandomBank, Tag("(random)")]
    | Annotated[FitBank, Tag("(fit)")]
    | Annotated[LearnedBank, Tag("(learned)")],
    Discriminator(_bank_tag),
]


def read_bank(value: object, info: ValidationInfo) -> object:
    """Read ``bank: NAME`` or ``kernels:`` and what stands beside them to the data of one bank's model."""
    if not isinstance(value, Mapping) or ("name" in value and not from_file(info)):
        return value
    if ("bank" in value) == ("kernels" in value):
        banks = f"(banks: {', '.join(BANKS)})"
        if "bank" in value:
            raise wrong(Flaw("has both bank and kernels.", "Remove one of them."))
        raise wrong(Flaw("needs a bank or kernels.", f"Add bank: NAME {banks}, or kernels: [...]."))
    beside = {key: item for key, item in value.items() if key not in ("bank", "kernels")}
    if hidden := [key for key in beside if key in ("name", "values", "file")]:
        raise unknown_keys(hidden)
    if "bank" in value:
        return _read_named(value["bank"], beside)
    kernels = value["kernels"]
    if isinstance(kernels, str):
        return {**beside, "name": "file", "file": kernels}
    return {**beside, "name": "inline", "values": kernels}


def _read_named(bank: object, beside: dict[str, object]) -> object:
    if isinstance(bank, Mapping):
        if "fit" not in bank and "file" not in bank:
            change = "Write bank: NAME with its parameters beside it, or bank: {fit: kmeans, kernels: 100, size: 6}."
            raise wrong(Flaw("must be a bank's name, {fit: …} or {file: …}, got a mapping without.", change, ("bank",)))
        if beside:
            raise unknown_keys(list(beside))
        if "name" in bank:
            raise wrong(Flaw(UNKNOWN_KEY, at=("bank", "name"), on_key=True))
        if (learned := read_learned(bank)) is not None:
            return learned
        return {**{key: item for key, item in bank.items() if key != "fit"}, "name": "random"}
    if not isinstance(bank, str):
        raise wrong(Flaw(f"must be a bank's name, got {describe(bank)}.", f"(banks: {', '.join(BANKS)})", ("bank",)))
    if bank not in BANKS:
        change = f"{suggest(bank, BANKS)} (banks: {', '.join(BANKS)})".strip()
        raise wrong(Flaw(f"there is no bank {bank[:60]!r}.", change, ("bank",)))
    return {**beside, "name": bank}


BankField = Annotated[BankSpec, BeforeValidator(read_bank)]
