"""The padding of a layer, as the pipeline file says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import BeforeValidator, Field, ValidationInfo

from featpipe.geometry.axis import PaddingMode
from featpipe.spec.base import Flag, Flaw, Spec, Whole, describe, from_file, is_number, wrong
from featpipe.spec.words import suggest

Width = Annotated[Whole, Field(le=2**16)]
Widths = Annotated[list[Width], Field(min_length=2, max_length=2)]


def _spread(value: object) -> object:
    """Spread ``2``, ``[2, 3]`` (y, x) or ``[[1, 2], [3, 4]]`` to before and after on each axis."""
    if is_number(value):
        value = [value, value]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        expected = "one number, [y, x], or [[top, bottom], [left, right]]"
        raise wrong(Flaw(f"must be {expected}, got {describe(value)}."))
    flaws = [
        Flaw(f"must be a number or a pair [before, after], got {describe(side)}.", at=(i,))
        for i, side in enumerate(value)
        if not is_number(side) and not (isinstance(side, (list, tuple)) and len(side) == 2)
    ]
    if flaws:
        raise wrong(*flaws)
    return [[side, side] if is_number(side) else side for side in value]


class ExplicitPadding(Spec):
    """Padding of given widths, e.g. ``{mode: reflect, widths: [2, 3]}``."""

    mode: PaddingMode = "zero"
    """What the synthetic samples copy: zero, edge, reflect, symmetric or wrap."""
    widths: Annotated[list[Widths], BeforeValidator(_spread), Field(min_length=2, max_length=2)]
    """Samples added: one number, ``[y, x]``, or ``[[top, bottom], [left, right]]``."""


class Padding(Spec):
    """Synthetic samples outside the image: a word, a number (zeros of that width), or mode and widths."""

    same: Flag = False
    """Whether the output is as long as the input (over the stride); then ``explicit`` is None."""
    mode: PaddingMode = "zero"
    explicit: ExplicitPadding | None = None

    def on_axis(self, axis: int, extent: int) -> tuple[int, int]:
        """Return the samples before and after on ``axis`` (0 is y) for a window of ``extent`` samples.

        A window of even extent gets its extra sample before, as in ``scipy.ndimage.correlate``.
        """
        if self.explicit is not None:
            before, after = self.explicit.widths[axis]
            return before, after
        return (extent // 2, extent - 1 - extent // 2) if self.same else (0, 0)


PADDING_WORDS: tuple[str, ...] = ("valid", "same", *get_args(PaddingMode))
PADDING_NOTES: dict[str, str] = {
    "valid": "No padding: windows lie wholly inside, and the output is shorter by the window less one.",
    "same": "Zeros, so many that the output is as long as the input (over the stride).",
    "zero": "The same as same: zeros.",
    "edge": "As same, with the sample at the edge: a a | a b c | c c.",
    "reflect": "As same, mirrored at the centre of the sample at the edge: c b | a b c | b a.",
    "symmetric": "As same, mirrored at the outer side of the sample at the edge: b a | a b c | c b.",
    "wrap": "As same, from the opposite side: b c | a b c | a b.",
}


def _read_padding(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Padding):
        return value
    if isinstance(value, str) and value in PADDING_WORDS:
        mode = "zero" if value in ("valid", "same") else value
        return {"same": value != "valid", "mode": mode}
    if is_number(value) or isinstance(value, (list, tuple)):
        value = {"widths": value}
    if not isinstance(value, Mapping):
        expected = f"one of {', '.join(PADDING_WORDS)}, a width, or {{mode: …, widths: …}}"
        raise wrong(Flaw(f"must be {expected}, got {describe(value)}.", suggest(value, PADDING_WORDS)))
    if from_file(info) or not {"explicit", "same"} & value.keys():
        explicit = ExplicitPadding.model_validate(value)
        return {"mode": explicit.mode, "explicit": explicit}
    return value


PaddingField = Annotated[Padding, BeforeValidator(_read_padding)]
VALID = Padding()
