"""Pooling: which statistic, over windows or over cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from featpipe.spec.base import Count, Flaw, Pair, Spec, describe, from_file, is_number, unknown_keys, wrong
from featpipe.spec.padding import VALID, PaddingField
from featpipe.spec.shape import Written

Statistic = Literal["max", "mean", "min", "sum", "l2", "std"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
POOLINGS = (*STATISTICS, "histogram")
"""What a pooling can gather of its windows or cells."""
NOTES: dict[str, str] = {
    "max": "The largest value",
    "mean": "The mean",
    "min": "The smallest value",
    "sum": "The sum",
    "l2": "The root of the sum of squares",
    "std": "The standard deviation",
    "histogram": "How often each of the values 0, 1, ... bins - 1 occurs (others are counted nowhere)",
}
"""What each gathers, of a window, a cell or the whole map."""
EXACT = 2**24
"""Counts up to this are exact in float32."""


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
    raise wrong(Flaw(f"needs exactly one of {', '.join(POOLINGS)}, got {found or 'none'}.", change))


class Pool(Spec):
    """Summarise windows (``max: 2``), cells (``mean: {grid: [2, 2]}``) or the whole map (``mean: global``)."""

    by: Annotated[Statistic | Literal["histogram"], BeforeValidator(_one_statistic)]
    """In the file the statistic is the key: max, mean, min, sum, l2 (root of the sum of squares), std; or histogram,
    which counts the values 0, 1, ... bins - 1. Other values, and those between whole numbers, are counted nowhere."""
    over: Annotated[
        Annotated[Pair, Tag("(window)")] | Annotated[Cells, Tag("(cells)")],
        Discriminator(_over_tag),
        BeforeValidator(_read_over),
        Written({"type": "string", "const": "global"}),
    ]
    """Of windows of this edge in samples, one number or ``[y, x]``; of cells, ``{grid: [rows, columns]}``; or of the
    whole map, ``global``."""
    stride: Pair | None = None
    """Step of the window, in samples; the window's size unless given."""
    padding: PaddingField = VALID
    """As for convolve. Zeros never win a max or a min and are in no histogram; they count in the others (as in
    PyTorch)."""
    bins: Annotated[Count | None, Field(le=2**16)] = None
    """Of a histogram: how many values are counted, one feature each."""

    @model_validator(mode="before")
    @classmethod
    def _read_statistic(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping) or ("by" in data and not from_file(info)):
            return data
        if hidden := [key for key in data if key in ("by", "over")]:
            raise unknown_keys(hidden)
        found = tuple(key for key in data if key in POOLINGS)
        rest = {key: value for key, value in data.items() if key not in POOLINGS}
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
        flaws += self._histogram_flaws()
        if flaws:
            raise wrong(*flaws)
        return self

    def _histogram_flaws(self) -> list[Flaw]:
        if self.by != "histogram":
            what = "has no meaning without a histogram."
            return [] if self.bins is None else [Flaw(what, "Remove it.", ("bins",), True)]
        flaws = []
        if self.bins is None:
            flaws.append(Flaw("a histogram needs bins.", "Add bins: 256, one more than the largest value."))
        if isinstance(self.over, list) and self.over[0] * self.over[1] > EXACT:
            what = (
                f"a window of {self.over[0]}×{self.over[1]} holds more than {EXACT} samples, the most that is counted."
            )
            flaws.append(Flaw(what, "Use a grid, or smaller windows.", ("histogram",)))
        return flaws
