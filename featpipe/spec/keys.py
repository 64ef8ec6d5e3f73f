"""Which keys may stand at a place of the pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featpipe.errors import Location
from featpipe.spec.activations import SoftThreshold, Split
from featpipe.spec.banks import BANKS, RandomBank
from featpipe.spec.base import Spec
from featpipe.spec.layers import (
    OPS,
    STATISTICS,
    Cells,
    Contrast,
    Convolve,
    LocalContrast,
    Normalize,
    Reduce,
)
from featpipe.spec.padding import ExplicitPadding
from featpipe.spec.pipeline import Branch, Images, Pipeline, RandomSplit, Store


def known_keys(location: Location, data: object) -> list[str]:
    """Return the keys known in the mapping at ``location`` of ``data``; a convolve's depend on its bank.

    Examples
    --------
    >>> known_keys(("features", "texture"), {})
    ['scales', 'layers']
    """
    match location:
        case ():
            return _fields(Pipeline)
        case ("images",):
            return _fields(Images)
        case ("images", "split"):
            return _fields(RandomSplit)
        case ("store",):
            return _fields(Store)
        case ("features", str()):
            return _fields(Branch)
        case ("features", str(), "layers", int()):
            return list(OPS)
        case ("features", str(), "layers", int(), *rest):
            return _layer_keys(tuple(rest), _value_at(location, data))
        case _:
            return []


def banks_taking(key: str | int) -> list[str]:
    """Return the named banks that have a parameter ``key``.

    Examples
    --------
    >>> banks_taking("ratio")
    ['dog']
    """
    return [name for name, bank in BANKS.items() if key in _fields(bank, "name")]


def _layer_keys(location: Location, value: Any) -> list[str]:
    match location:
        case ("convolve",):
            bank = value.get("bank") if isinstance(value, Mapping) else None
            options = [key for key in _fields(Convolve) if key != "source"]
            parameters = _fields(BANKS[bank], "name") if isinstance(bank, str) and bank in BANKS else []
            return ["bank", "kernels", *parameters, *options]
        case ("convolve", "bank"):
            return ["fit", *_fields(RandomBank, "name")]
        case ("convolve", "contrast"):
            return _fields(Contrast)
        case (*_, "padding"):
            return _fields(ExplicitPadding)
        case ("activate",):
            return ["split", "soft-threshold"]
        case ("activate", "split"):
            return _fields(Split)
        case ("activate", "soft-threshold"):
            return _fields(SoftThreshold)
        case ("pool",):
            return [*STATISTICS, "stride", "padding"]
        case ("pool", _):
            return _fields(Cells)
        case ("reduce",):
            return _fields(Reduce)
        case ("normalize",):
            return _fields(Normalize)
        case ("normalize", "local"):
            return _fields(LocalContrast)
        case _:
            return []


def _fields(model: type[Spec], *but: str) -> list[str]:
    return [key for key in model.model_fields if key not in but]


def _value_at(location: Location, data: Any) -> Any:
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
