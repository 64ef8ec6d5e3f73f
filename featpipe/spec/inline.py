"""Kernels written out in the pipeline file."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from featpipe.errors import Location
from featpipe.spec.base import Flaw, describe, is_number, wrong

Kernels = list[list[list[float | list[float]]]]
"""``(k, y, x)`` or ``(k, y, x, c)`` numbers."""
_ONE = Field(min_length=1)
_Numbers = Annotated[list[float], _ONE]
_Rows = Annotated[list[_Numbers], _ONE]
_Squares = Annotated[list[_Rows], _ONE]
WrittenKernels = _Squares | Annotated[list[_Squares], _ONE]
"""The same, for the JSON Schema: no list is empty."""

MOST_FLAWS = 20
"""Flaws reported of one list of kernels; a wrongly written file of numbers has one in every row."""


def kernel_shape(kernel: list[list[float | list[float]]]) -> tuple[int, ...]:
    """Return ``(y, x)`` or ``(y, x, c)`` of a kernel that ``read_kernels`` has passed.

    Examples
    --------
    >>> kernel_shape([[1.0, 2.0, 3.0]])
    (1, 3)
    """
    first = kernel[0][0]
    return (len(kernel), len(kernel[0]), *((len(first),) if isinstance(first, list) else ()))


def read_kernels(value: object) -> Kernels:
    """Check kernels number by number and return them as floats.

    Parameters
    ----------
    value : (k, y, x) or (k, y, x, c) nested lists
        All kernels of one shape.

    Raises
    ------
    PydanticCustomError
        With a flaw for every list that is ragged and every entry that is no number.
    """
    depth = _depth(value)
    if depth == 0:
        raise wrong(Flaw(f"must be a list of kernels or the path of a .npy or .npz file, got {describe(value)}."))
    if depth < 3 and not _has_empty_start(value):
        it_is = "one kernel" if depth == 2 else "one row"
        raise wrong(Flaw(f"must be a list of kernels, and this is {it_is}.", "Write [[[…], […]]] for a single one."))
    dims = min(max(depth, 3), 4)
    flaws: list[Flaw] = []
    kernels, _ = _read(value, ("kernel", "row", "entry", "channel")[:dims], (), flaws)
    if flaws:
        raise wrong(*flaws[:MOST_FLAWS])
    return kernels  # type: ignore[no-any-return]


def _depth(value: object) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _has_empty_start(value: object) -> bool:
    while isinstance(value, list):
        if not value:
            return True
        value = value[0]
    return False


def _read(value: object, items: tuple[str, ...], at: Location, flaws: list[Flaw]) -> tuple[Any, tuple[int, ...] | None]:
    """Return nested lists as floats and their shape, None where ``flaws`` says why; ``items`` names what they hold."""
    if not items:
        if not is_number(value) or not math.isfinite(_as_float(value)):
            flaws.append(Flaw(f"must be a finite number, got {describe(value)}.", at=at))
            return 0.0, None
        return _as_float(value), ()
    if not isinstance(value, list) or not value:
        flaws.append(Flaw(f"must be a list with one {items[0]} or more, got {describe(value)}.", at=at))
        return [], None
    read = [_read(item, items[1:], (*at, i), flaws) for i, item in enumerate(value)]
    first = next((shape for _, shape in read if shape is not None), None)
    for i, (_, shape) in enumerate(read):
        if shape is not None and first is not None and shape != first:
            what = f"is {_size(shape)}, but the first {items[0]} is {_size(first)}."
            flaws.append(Flaw(what, f"Give every {items[0]} the same size.", (*at, i)))
    complete = first is not None and all(shape == first for _, shape in read)
    return [item for item, _ in read], (len(read), *first) if complete and first is not None else None


def _as_float(value: Any) -> float:
    return float(value) if abs(value) < 10**300 else math.inf


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} long"
