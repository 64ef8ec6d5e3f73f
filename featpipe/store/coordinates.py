"""The labels of features as arrays along the feature axis, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.kernels.bank import Labels
from featpipe.plan.labels import known_labels

MISSING = -1
"""Code of a text label that a feature does not carry; a number it does not carry is NaN."""


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One label of every feature of a map."""

    name: str
    values: npt.NDArray[Any]
    """(feature,) int64 or float64 numbers, or int16 or int32 codes into ``attributes["names"]``."""
    attributes: dict[str, Any] = field(default_factory=dict)


def encode_labels(features: Sequence[Labels]) -> list[Coordinate]:
    """Return one coordinate per label.

    Parameters
    ----------
    features : sequence of dict
        The labels of every feature.

    Examples
    --------
    >>> bank, sigma = encode_labels([{"bank": "log", "sigma": 2.0}, {"bank": "sobel"}])
    >>> bank.values.tolist(), bank.attributes["names"], sigma.values.tolist()
    ([0, 1], ['log', 'sobel'], [2.0, nan])
    """
    return [_encode(label, [labels.get(label) for labels in features]) for label in known_labels(features)]


def _encode(name: str, values: list[str | int | float | None]) -> Coordinate:
    present = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in present):
        names = list(dict.fromkeys(map(str, present)))
        place = {text: code for code, text in enumerate(names)}
        dtype = np.int16 if len(names) <= np.iinfo(np.int16).max else np.int32
        codes = [MISSING if value is None else place[str(value)] for value in values]
        return Coordinate(name, np.array(codes, dtype), name_attributes(names, dtype))
    whole = all(isinstance(value, Integral) for value in present)
    if whole and len(present) == len(values):
        return Coordinate(name, np.array(values, np.int64))
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    return Coordinate(name, numbers, {"integer": True} if whole else {})


def name_attributes(names: Sequence[str], dtype: npt.DTypeLike, key: str = "names") -> dict[str, Any]:
    """Return the attributes that tell what codes mean: a list, and CF's flags where names allow them."""
    attributes: dict[str, Any] = {key: list(names)}
    if names and all(name and not any(letter.isspace() for letter in name) for name in names):
        attributes["flag_values"] = np.arange(len(names), dtype=dtype).tolist()
        attributes["flag_meanings"] = " ".join(names)
    return attributes


def decode_labels(coordinates: Iterable[Coordinate], count: int) -> tuple[Labels, ...]:
    """Return the labels of every feature, as `encode_labels` was given them.

    Examples
    --------
    >>> decode_labels(encode_labels([{"bank": "log", "order": 2}, {"bank": "sobel"}]), 2)
    ({'bank': 'log', 'order': 2}, {'bank': 'sobel'})
    """
    features: list[Labels] = [{} for _ in range(count)]
    for coordinate in coordinates:
        names = coordinate.attributes.get("names")
        whole = coordinate.attributes.get("integer", False)
        for labels, value in zip(features, coordinate.values.tolist(), strict=True):
            if names is not None:
                if value != MISSING:
                    labels[coordinate.name] = names[value]
            elif not isnan(value):
                labels[coordinate.name] = int(value) if whole else value
    return tuple(features)
