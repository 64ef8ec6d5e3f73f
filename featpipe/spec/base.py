"""What every model of the pipeline file shares: its base class, its numbers, and how it says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeGuard, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo
from pydantic_core import PydanticCustomError

from featpipe.errors import Location
from featpipe.spec.shape import LARGEST_COUNT, LARGEST_EDGE, OR_ITEM, Limited

T = TypeVar("T")
FROM_FILE = {"from_file": True}
"""Validation context of a pipeline file: only the file's own way of writing is taken, not the models' field names."""


class Spec(BaseModel):
    """A frozen part of the pipeline file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Flaw(NamedTuple):
    """What a validator finds wrong, in featpipe's own words."""

    what: str
    change: str = ""
    at: Location = ()
    """Where, from the value that was being validated."""
    on_key: bool = False
    """Whether the key at ``at`` is what is wrong, rather than its value."""


UNKNOWN_KEY = "unknown key."


def wrong(*flaws: Flaw) -> PydanticCustomError:
    """Return the error to raise from a validator, with every flaw it found."""
    text = " ".join(f"{flaw.what} {flaw.change}".strip() for flaw in flaws)
    return PydanticCustomError("featpipe", "{text}", {"text": text, "flaws": flaws})


def unknown_keys(keys: Sequence[str]) -> PydanticCustomError:
    """Return the error to raise for keys that pydantic does not see for itself."""
    return wrong(*(Flaw(UNKNOWN_KEY, at=(key,), on_key=True) for key in keys))


def from_file(info: ValidationInfo) -> bool:
    """Return whether a pipeline file is being read, rather than a model made in Python."""
    return bool(info.context)


def shorten(text: str, length: int = 60) -> str:
    """Cut a text that is too long for an error message, and keep it on one line."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def describe(value: object) -> str:
    """Say what a value is, for ``got …``."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {shorten(repr(value))}"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return f"a list of {len(value)}" if value else "an empty list"
        case int() if abs(value) >= 10**30:
            return "a number beyond all bounds"
        case int() | float():
            return repr(value)
        case _:
            return shorten(f"a {type(value).__name__}")


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: object) -> object:
    if not is_number(value):
        raise wrong(Flaw(f"must be a number, got {describe(value)}."))
    if abs(value) > 10**300 if isinstance(value, int) else not math.isfinite(value):
        raise wrong(Flaw(f"must be a finite number, got {describe(value)}."))
    return value


def _whole(value: object) -> object:
    if not is_number(value) or (isinstance(value, float) and not value.is_integer()):
        raise wrong(Flaw(f"must be a whole number, got {describe(value)}."))
    return value


def _pair(value: object) -> object:
    """Let one number stand for both axes."""
    if is_number(value):
        return [value, value]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise wrong(Flaw(f"must be one number or [y, x], got {describe(value)}."))
    return value


def as_list(value: object) -> object:
    """Let one number stand for a list of one."""
    if is_number(value):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise wrong(Flaw(f"must be a number or a list of numbers, got {describe(value)}."))
    return value


def _path_text(value: str) -> str:
    if not value or "\0" in value:
        raise wrong(Flaw(f"must be a path, got {describe(value)}."))
    return value


def _one_or_list(value: Any) -> str:
    return "(list)" if isinstance(value, (list, tuple)) else "(one)"


Number = Annotated[float, BeforeValidator(_number)]
PositiveNumber = Annotated[Number, Field(gt=0)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=LARGEST_COUNT)]
Whole = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=LARGEST_COUNT)]
Edge = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=LARGEST_EDGE)]
"""Samples along one axis."""
Flag = Annotated[bool, Field(strict=True)]
Pair = Annotated[list[Edge], BeforeValidator(_pair), Field(min_length=2, max_length=2), OR_ITEM]
"""``[y, x]``, or one number for both."""
MOST_VALUES = 10_000
"""Of one parameter of a bank."""
Sigmas = Annotated[list[PositiveNumber], BeforeValidator(as_list), Field(min_length=1, max_length=MOST_VALUES), OR_ITEM]
PathText = Annotated[str, AfterValidator(_path_text), Limited({"minLength": 1})]
ONE_OR_LIST = Discriminator(_one_or_list)
"""Chooses between the arms ``ONE`` and ``LIST`` of a union; tags in parentheses never show in an error."""
ONE = Tag("(one)")
LIST = Tag("(list)")
NumberOrList = Annotated[
    Annotated[Number, ONE] | Annotated[list[Number], Field(min_length=1), LIST],
    ONE_OR_LIST,
]
PositiveNumberOrList = Annotated[
    Annotated[PositiveNumber, ONE] | Annotated[list[PositiveNumber], Field(min_length=1), LIST],
    ONE_OR_LIST,
]


def _one_list_or_path(value: Any) -> str:
    return "(path)" if isinstance(value, str) else _one_or_list(value)


Bias = Annotated[
    Annotated[Number, ONE] | Annotated[list[Number], Field(min_length=1), LIST] | Annotated[PathText, Tag("(path)")],
    Discriminator(_one_list_or_path),
]
"""One number, a list, or a file of weights."""


def first_twice(values: Sequence[T]) -> T | None:
    """Return the first value that was there before; None where each is there once."""
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def repeated_names(names: Sequence[str]) -> list[Flaw]:
    """Return what is wrong with the names of kernels: two that are the same."""
    if len(set(names)) == len(names):
        return []
    return [Flaw("has the same name twice.", "Give each kernel its own.", ("names",))]


def miscounted_bias(bias: float | list[float] | str, kernels: int | None) -> list[Flaw]:
    """Return what is wrong with the bias of so many kernels, where their number is known: there are others."""
    if not isinstance(bias, list) or kernels is None or len(bias) == kernels:
        return []
    what = f"has {len(bias)} values for {kernels} kernels."
    return [Flaw(what, "Give one number, or one per kernel.", ("bias",))]
