"""The layers of a branch: one model an op, each written ``- op: parameters`` in the pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from featpipe.spec.activations import ACTIVATIONS
from featpipe.spec.activations import Activation as Activation  # noqa: PLC0414  (re-exported: it is a layer's part)
from featpipe.spec.banks import BankField, FileBank, InlineBank
from featpipe.spec.base import (
    Bias,
    Flag,
    Flaw,
    NumberOrList,
    Pair,
    PositiveNumber,
    PositiveNumberOrList,
    Spec,
    describe,
    from_file,
    miscounted_bias,
    repeated_names,
    wrong,
)
from featpipe.spec.combining import BifLayer, CodeLayer, EigenvaluesLayer, ProductsLayer
from featpipe.spec.fits import FitBank, LearnedBank
from featpipe.spec.importing import ImportLayer as ImportLayer  # noqa: PLC0414
from featpipe.spec.local import LocalLayer as LocalLayer  # noqa: PLC0414
from featpipe.spec.names import Name as Name  # noqa: PLC0414
from featpipe.spec.names import SavedName
from featpipe.spec.padding import VALID, PaddingField
from featpipe.spec.pooling import STATISTICS as STATISTICS  # noqa: PLC0414
from featpipe.spec.pooling import Cells as Cells  # noqa: PLC0414
from featpipe.spec.pooling import Pool as Pool  # noqa: PLC0414
from featpipe.spec.pooling import Statistic as Statistic  # noqa: PLC0414
from featpipe.spec.words import suggest


class Contrast(Spec):
    """Contrast normalisation of each patch: (x - mean) / √(variance + epsilon)."""

    epsilon: PositiveNumber
    """Added to the patch's variance, in squared units of the values."""


class Convolve(Spec):
    """Slide a bank of kernels over the maps: a cross-correlation, as in CNNs."""

    source: BankField
    """In the file: ``bank: NAME`` with its parameters beside it, ``bank: {fit: random, ...}``, or ``kernels:``."""
    names: list[str] | None = None
    """Names of inline or file kernels, one each."""
    stride: Pair = [1, 1]
    """Step of the window: one number or ``[y, x]``, in samples."""
    dilation: Pair = [1, 1]
    """Distance between the kernel's taps, in samples."""
    padding: PaddingField = VALID
    """valid, same (zeros), zero, edge, reflect, symmetric or wrap; or a width; or mode and widths."""
    flip: Flag = False
    """True turns kernels by 180°: the mathematical convolution (``scipy.signal.convolve2d``)."""
    bias: Bias = 0.0
    """Added to every response: one number, or one per kernel, in a list or in a file as ``kernels`` may be."""
    channels: Literal["each", "sum"] | None = None
    """Filter every input feature by itself, or sum over them; 2-D kernels default to each, 3-D to sum."""
    contrast: Contrast | None = None
    """Normalise each patch's contrast before the kernels see it."""
    response: Literal["projection", "distance"] = "projection"
    """Of a learned bank: a patch's projection on each kernel, or its distance from it, both whitened as the fit was."""

    @model_validator(mode="before")
    @classmethod
    def _gather_bank(cls, data: Any, info: ValidationInfo) -> Any:
        """Move ``bank``/``kernels`` and the bank's parameters, which stand beside the options, into ``source``."""
        if not isinstance(data, Mapping) or ("source" in data and not from_file(info)):
            return data
        options = {key: value for key, value in data.items() if key in cls.model_fields and key != "source"}
        return {**options, "source": {key: value for key, value in data.items() if key not in options}}

    @model_validator(mode="after")
    def _counts_agree(self) -> Convolve:
        flaws = []
        count = len(self.source.values) if isinstance(self.source, InlineBank) else None
        learned = isinstance(self.source, (FitBank, LearnedBank))
        if self.response == "distance" and not learned:
            change = "Use a learned bank, bank: {fit: kmeans, …} or {file: …}, or remove response."
            flaws.append(Flaw("distance needs centroids.", change, ("response",)))
        if self.channels == "each" and self.response == "distance":
            change = "Remove one of them: distances are those of patches of all features."
            flaws.append(Flaw("each does not go with distances.", change, ("channels",)))
        if learned and self.flip:
            flaws.append(Flaw("has no meaning for a learned bank.", "Remove it.", ("flip",), True))
        if self.response == "distance" and (isinstance(self.bias, (list, str)) or self.bias != 0):
            flaws.append(Flaw("has no meaning with distances.", "Remove it.", ("bias",), True))
        if self.names is not None:
            if not isinstance(self.source, (InlineBank, FileBank)):
                change = "Remove names; only kernels written out or from a file take names."
                flaws.append(Flaw(f"bank {self.source.name} names its kernels itself.", change, ("names",)))
            elif count is not None and len(self.names) != count:
                flaws.append(Flaw(f"gives {len(self.names)} for {count} kernels.", "Give one each.", ("names",)))
            else:
                flaws += repeated_names(self.names)
                count = len(self.names)
        flaws += miscounted_bias(self.bias, count)
        if flaws:
            raise wrong(*flaws)
        return self


class Reduce(Spec):
    """Combine the features that share every label but one, e.g. the best of 8 orientations."""

    over: str
    """The label to reduce over."""
    by: Statistic = "max"
    """The statistic; l2 is the root of the sum of squares."""


class LocalContrast(Spec):
    """Subtract the local mean and divide by √(local variance + epsilon), feature by feature."""

    size: Pair
    """Edge of the neighbourhood, in samples (odd)."""
    epsilon: PositiveNumber = 1e-4
    """Added to the variance, in squared units of the values."""
    padding: PaddingField = VALID
    """As for convolve."""

    @field_validator("size")
    @classmethod
    def _odd(cls, size: list[int]) -> list[int]:
        if any(edge % 2 == 0 for edge in size):
            raise wrong(Flaw(f"must be odd, so that the neighbourhood has a centre, got {size}."))
        return size


class Normalize(Spec):
    """Standardise by given ``mean`` and ``std``, per feature or one for all; or local contrast, ``{local: …}``."""

    mean: NumberOrList = 0.0
    """Subtracted: one number, or one per feature, in units of the values."""
    std: PositiveNumberOrList = 1.0
    """Divided by: one number, or one per feature, in units of the values."""
    local: LocalContrast | None = None
    """Contrast of each sample against its neighbourhood, instead of ``mean`` and ``std``."""

    @model_validator(mode="after")
    def _one_only(self) -> Normalize:
        given = {"mean", "std"} & self.model_fields_set
        if given and self.local is not None:
            raise wrong(Flaw("has both local and statistics.", "Keep either local, or mean and std."))
        if not given and self.local is None:
            change = "Add mean and std, or local: {size: 9}."
            raise wrong(Flaw("needs statistics or local.", change))
        if isinstance(self.mean, list) and isinstance(self.std, list) and len(self.mean) != len(self.std):
            what = f"has {len(self.std)} values, but mean has {len(self.mean)}."
            raise wrong(Flaw(what, "Give one per feature in both.", ("std",)))
        return self


class ConvolveLayer(Spec):
    """``- convolve: {bank: sobel}``."""

    convolve: Convolve


class ActivateLayer(Spec):
    """``- activate: relu``."""

    activate: Activation


class ModulusLayer(Spec):
    """Fold even/odd or y/x pairs to their magnitude; features without a partner give their absolute value."""

    modulus: Spec = Spec()


class ReduceLayer(Spec):
    """``- reduce: {over: orientation, by: max}``."""

    reduce: Reduce


class PoolLayer(Spec):
    """``- pool: {max: 2}``."""

    pool: Pool


class NormalizeLayer(Spec):
    """``- normalize: {local: {size: 9}}``."""

    normalize: Normalize


class SaveLayer(Spec):
    """Keep the map at this point of the chain too, under this name."""

    save: SavedName


COMBINING = ("products", "eigenvalues", "bif", "code")
BARE = ("modulus", "products", "eigenvalues")
"""Layers without parameters."""
OPS = ("convolve", "import", "local", "activate", "modulus", "reduce", "pool", "normalize", *COMBINING, "save")


def layer_op(layer: object) -> str | None:
    """Return the op of a layer, be it a model or still plain data."""
    fields = getattr(type(layer), "model_fields", {})
    keys = layer if isinstance(layer, Mapping) else [field.alias or key for key, field in fields.items()]
    return next((key for key in keys if key in OPS), None)


def _layer_tag(layer: object) -> str:
    return f"({layer_op(layer)})"


LAYER_EXAMPLES = {
    "convolve": "{bank: sobel}",
    "import": "{file: vgg16.safetensors, prefix: features, until: 16}",
    "local": "{kernels: weights.npy}",
    "activate": "relu",
    "reduce": "{over: orientation, by: max}",
    "pool": "{max: 2}",
    "normalize": "{local: {size: 9}}",
    "bif": "{epsilon: 0.03}",
    "code": "{over: kernel, by: sign}",
    "save": "edges",
}


def _read_layer(value: object) -> object:
    """Let ``- modulus`` stand for ``- modulus: {}``, and say what is wrong with a list item that is no layer."""
    if isinstance(value, Spec):
        return value
    if isinstance(value, str):
        if value in BARE:
            return {value: {}}
        if value in OPS:
            change = f"Write {value}: {LAYER_EXAMPLES[value]}."
            raise wrong(Flaw(f"{value} needs its parameters.", change))
        if value in ACTIVATIONS:
            raise wrong(Flaw(f"{value!r} is not a layer.", f"Write activate: {value}."))
        raise wrong(_no_layer(value))
    if not isinstance(value, Mapping) or not value:
        raise wrong(Flaw(f"must be a layer such as pool: {{max: 2}}, got {describe(value or None)}."))
    _check_layer_keys(value)
    return {op: {} if op in BARE and parameters is None else parameters for op, parameters in value.items()}


def _no_layer(word: object, at: tuple[str, ...] = ()) -> Flaw:
    change = f"{suggest(word, OPS)} (layers: {', '.join(OPS)})".strip()
    return Flaw(f"{str(word)[:60]!r} is not a layer.", change, at, on_key=True)


def _check_layer_keys(layer: Mapping[str, object]) -> None:
    ops = [key for key in layer if key in OPS]
    others = [key for key in layer if key not in OPS]
    if len(ops) > 1:
        what = f"holds {len(ops)} layers, {' and '.join(ops)}."
        raise wrong(Flaw(what, "Begin each layer with a dash of its own."))
    if not ops:
        raise wrong(*(_no_layer(key, (key,)) for key in others))
    if others:
        change = f"If it belongs to {ops[0]}, indent it further."
        raise wrong(*(Flaw(f"unknown key beside {ops[0]}.", change, (key,), True) for key in others))


Layer = Annotated[
    Annotated[ConvolveLayer, Tag("(convolve)")]
    | Annotated[ActivateLayer, Tag("(activate)")]
    | Annotated[ModulusLayer, Tag("(modulus)")]
    | Annotated[ReduceLayer, Tag("(reduce)")]
    | Annotated[PoolLayer, Tag("(pool)")]
    | Annotated[NormalizeLayer, Tag("(normalize)")]
    | Annotated[ImportLayer, Tag("(import)")]
    | Annotated[LocalLayer, Tag("(local)")]
    | Annotated[ProductsLayer, Tag("(products)")]
    | Annotated[EigenvaluesLayer, Tag("(eigenvalues)")]
    | Annotated[BifLayer, Tag("(bif)")]
    | Annotated[CodeLayer, Tag("(code)")]
    | Annotated[SaveLayer, Tag("(save)")],
    Discriminator(_layer_tag),
    BeforeValidator(_read_layer),
]
