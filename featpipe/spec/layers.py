"""The layers of a branch: one model an op, each written ``- op: parameters`` in the pipeline file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
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
    Flag,
    Flaw,
    NumberOrList,
    Pair,
    PositiveNumber,
    PositiveNumberOrList,
    Spec,
    describe,
    from_file,
    is_number,
    unknown_keys,
    wrong,
)
from featpipe.spec.padding import VALID, PaddingField
from featpipe.spec.words import suggest

Statistic = Literal["max", "mean", "min", "sum", "l2", "std"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


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
    bias: NumberOrList = 0.0
    """Added to every response: one number, or one per kernel."""
    channels: Literal["each", "sum"] | None = None
    """Filter every input feature by itself, or sum over them; 2-D kernels default to each, 3-D to sum."""
    contrast: Contrast | None = None
    """Normalise each patch's contrast before the kernels see it."""

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
        if self.names is not None:
            if not isinstance(self.source, (InlineBank, FileBank)):
                change = "Remove names; only kernels written out or from a file take names."
                flaws.append(Flaw(f"bank {self.source.name} names its kernels itself.", change, ("names",)))
            elif count is not None and len(self.names) != count:
                flaws.append(Flaw(f"gives {len(self.names)} for {count} kernels.", "Give one each.", ("names",)))
            elif len(set(self.names)) != len(self.names):
                flaws.append(Flaw("has the same name twice.", "Give each kernel its own.", ("names",)))
            else:
                count = len(self.names)
        if isinstance(self.bias, list) and count is not None and len(self.bias) != count:
            change = "Give one number, or one per kernel."
            flaws.append(Flaw(f"has {len(self.bias)} values for {count} kernels.", change, ("bias",)))
        if flaws:
            raise wrong(*flaws)
        return self


class Cells(Spec):
    """Pooling to a fixed number of cells, whatever the image's size; split like ``numpy.array_split``."""

    grid: Pair
    """``[rows, columns]``."""


def _read_over(value: object) -> object:
    if value == "global":
        return {"grid": [1, 1]}
    if not (is_number(value) or isinstance(value, (list, tuple, Mapping, Cells))):
        raise wrong(Flaw(f"must be a size, [y, x], {{grid: [rows, columns]}} or global, got {describe(value)}."))
    return value


def _over_tag(value: Any) -> str:
    return "(cells)" if isinstance(value, (Mapping, Cells)) else "(window)"


def _one_statistic(value: object) -> object:
    if isinstance(value, str):
        return value
    found = " and ".join(value) if isinstance(value, tuple) else describe(value)
    change = "Write for example pool: {max: 2}; two statistics need two branches."
    raise wrong(Flaw(f"needs exactly one of {', '.join(STATISTICS)}, got {found or 'none'}.", change))


class Pool(Spec):
    """Summarise windows (``max: 2``), cells (``mean: {grid: [2, 2]}``) or the whole map (``mean: global``)."""

    by: Annotated[Statistic, BeforeValidator(_one_statistic)]
    """In the file the statistic is the key: max, mean, min, sum, l2 (root of the sum of squares), std."""
    over: Annotated[
        Annotated[Pair, Tag("(window)")] | Annotated[Cells, Tag("(cells)")],
        Discriminator(_over_tag),
        BeforeValidator(_read_over),
    ]
    """Edge of the window in samples, one number or ``[y, x]``; or the cells."""
    stride: Pair | None = None
    """Step of the window, in samples; the window's size unless given."""
    padding: PaddingField = VALID
    """As for convolve. Zeros never win a max or a min; they count in the others (as in PyTorch)."""

    @model_validator(mode="before")
    @classmethod
    def _read_statistic(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping) or ("by" in data and not from_file(info)):
            return data
        if hidden := [key for key in data if key in ("by", "over")]:
            raise unknown_keys(hidden)
        found = tuple(key for key in data if key in STATISTICS)
        rest = {key: value for key, value in data.items() if key not in STATISTICS}
        if len(found) != 1:
            return {"by": found, "over": [1, 1], **rest}
        return {"by": found[0], "over": data[found[0]], **rest}

    @model_validator(mode="after")
    def _fits(self) -> Pool:
        if isinstance(self.over, Cells):
            change = "Remove it: the cells cover the whole map."
            given = [key for key in ("stride", "padding") if key in self.model_fields_set]
            flaws = [Flaw("has no meaning with a grid or global pool.", change, (key,), True) for key in given]
        else:
            flaws = []
            for axis, size in enumerate(self.over):
                if max(self.padding.on_axis(axis, size)) >= size:
                    what = f"is not narrower than the window, {size} along {'yx'[axis]}: some windows hold no sample."
                    flaws = [Flaw(what, "Use widths below the window's size.", ("padding",))]
        if flaws:
            raise wrong(*flaws)
        return self


class Reduce(Spec):
    """Combine the features that share every label but one, e.g. the best of 8 orientations."""

    over: str
    """The label to reduce over."""
    by: Statistic = "max"


class LocalContrast(Spec):
    """Subtract the local mean and divide by √(local variance + epsilon), feature by feature."""

    size: Pair
    """Edge of the neighbourhood, in samples (odd)."""
    epsilon: PositiveNumber = 1e-4
    padding: PaddingField = VALID

    @field_validator("size")
    @classmethod
    def _odd(cls, size: list[int]) -> list[int]:
        if any(edge % 2 == 0 for edge in size):
            raise wrong(Flaw(f"must be odd, so that the neighbourhood has a centre, got {size}."))
        return size


class Normalize(Spec):
    """Standardise by given ``mean`` and ``std``, per feature or one for all; or local contrast, ``{local: …}``."""

    mean: NumberOrList = 0.0
    std: PositiveNumberOrList = 1.0
    local: LocalContrast | None = None

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


NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def check_name(name: str) -> str:
    """Refuse a name that could not be a group of the store."""
    if not NAME_PATTERN.fullmatch(name):
        raise wrong(Flaw(f"a name is a letter, then letters, digits, - and _, got {name[:60]!r}."))
    return name


def _not_a_scale(name: str) -> str:
    if re.fullmatch(r"scale\d*", name, re.IGNORECASE):
        raise wrong(Flaw(f"{name!r} is the name of a scale's group in the store.", "Choose another name."))
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""Of a branch or a saved map: a letter, then letters, digits, - and _."""
SavedName = Annotated[Name, AfterValidator(_not_a_scale)]


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


OPS = ("convolve", "activate", "modulus", "reduce", "pool", "normalize", "save")


def layer_op(layer: object) -> str | None:
    """Return the op of a layer, be it a model or still plain data."""
    keys = layer.keys() if isinstance(layer, Mapping) else getattr(type(layer), "model_fields", {}).keys()
    return next((key for key in keys if key in OPS), None)


def _layer_tag(layer: object) -> str:
    return f"({layer_op(layer)})"


LAYER_EXAMPLES = {
    "convolve": "{bank: sobel}",
    "activate": "relu",
    "reduce": "{over: orientation, by: max}",
    "pool": "{max: 2}",
    "normalize": "{local: {size: 9}}",
    "save": "edges",
}


def _read_layer(value: object) -> object:
    """Let ``- modulus`` stand for ``- modulus: {}``, and say what is wrong with a list item that is no layer."""
    if value == "modulus":
        return {"modulus": {}}
    if isinstance(value, Spec):
        return value
    if isinstance(value, str):
        if value in OPS:
            change = f"Write {value}: {LAYER_EXAMPLES[value]}."
            raise wrong(Flaw(f"{value} needs its parameters.", change))
        if value in ACTIVATIONS:
            raise wrong(Flaw(f"{value!r} is not a layer.", f"Write activate: {value}."))
        raise wrong(_no_layer(value))
    if not isinstance(value, Mapping) or not value:
        raise wrong(Flaw(f"must be a layer such as pool: {{max: 2}}, got {describe(value or None)}."))
    _check_layer_keys(value)
    if "modulus" in value and value["modulus"] is None:
        return {"modulus": {}}
    return value


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
    | Annotated[SaveLayer, Tag("(save)")],
    Discriminator(_layer_tag),
    BeforeValidator(_read_layer),
]
