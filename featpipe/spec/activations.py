"""The activations: functions of one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, model_validator

from featpipe.spec.base import Flaw, Number, Spec, describe, from_file, unknown_keys, wrong
from featpipe.spec.words import suggest


class Split(Spec):
    """max(0, z - t) and max(0, -z - t), as two features."""

    threshold: Annotated[Number, Field(ge=0)] = 0.0
    """t, in units of the values."""


class SoftThreshold(Spec):
    """Shrink towards zero: sign(z) · max(0, abs(z) - t)."""

    threshold: Annotated[Number, Field(ge=0)]
    """t, in units of the values."""


ActivationName = Literal["relu", "abs", "square", "sqrt", "tanh", "sigmoid", "triangle", "hard", "nearest"]
FORMULAS: dict[str, str] = {
    "relu": "max(0, z).",
    "abs": "The absolute value.",
    "square": "z².",
    "sqrt": "√max(0, z).",
    "tanh": "The hyperbolic tangent.",
    "sigmoid": "1 / (1 + exp(-z)).",
    "triangle": "max(0, m - z), m the mean over all features at the position.",
    "hard": "1 for the largest feature at the position, the first of equal ones, and 0 for the others.",
    "nearest": "1 for the smallest feature at the position, the first of equal ones, and 0 for the others.",
    "split": "max(0, z) and max(0, -z), as two features.",
}
"""What each makes of the value z."""
ACTIVATIONS: tuple[str, ...] = (*get_args(ActivationName), "split", "soft-threshold")


class Activation(Spec):
    """A function of one value: its name, or ``{split: {threshold: t}}``, ``{soft-threshold: {threshold: t}}``."""

    name: ActivationName | None = None
    split: Split | None = None
    """max(0, z - t) and max(0, -z - t), as two features: ``{threshold: t}``."""
    soft_threshold: Annotated[SoftThreshold | None, Field(alias="soft-threshold")] = None
    """Shrink towards zero, sign(z) · max(0, abs(z) - t): ``{threshold: t}``."""

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, data: Any, info: ValidationInfo) -> Any:
        choice = f"(activations: {', '.join(ACTIVATIONS)})"
        if isinstance(data, str):
            if data == "soft-threshold":
                raise wrong(Flaw("soft-threshold needs a threshold.", "Write {soft-threshold: {threshold: 0.1}}."))
            if data not in ACTIVATIONS:
                change = f"{suggest(data, ACTIVATIONS)} {choice}".strip()
                raise wrong(Flaw(f"there is no activation {data[:60]!r}.", change))
            return {"split": {}} if data == "split" else {"name": data}
        if not isinstance(data, Mapping):
            raise wrong(Flaw(f"must be an activation's name, got {describe(data)}.", choice))
        if from_file(info):
            if words := [key for key in data if key in get_args(ActivationName)]:
                raise wrong(Flaw(f"{words[0]} has no parameters.", f"Write activate: {words[0]}.", (words[0],), True))
            if "name" in data:
                raise unknown_keys(["name"])
        return data

    @model_validator(mode="after")
    def _one_only(self) -> Activation:
        if sum(part is not None for part in (self.name, self.split, self.soft_threshold)) != 1:
            raise wrong(Flaw("needs one activation.", f"(activations: {', '.join(ACTIVATIONS)})"))
        return self
