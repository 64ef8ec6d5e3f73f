"""Which keys may stand at a place of the pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featpipe.errors import Location
from featpipe.spec.activations import SoftThreshold, Split
from featpipe.spec.banks import BANKS, FileBank, RandomBank
from featpipe.spec.base import Spec
from featpipe.spec.cluster import Adapt, Cluster, LocalWorkers, Tls
from featpipe.spec.combining import Bif, Code
from featpipe.spec.fits import FitBank, Whiten
from featpipe.spec.importing import Import
from featpipe.spec.layers import (
    OPS,
    Cells,
    Contrast,
    Convolve,
    LocalContrast,
    Normalize,
    Reduce,
)
from featpipe.spec.local import DrawnKernels, Local
from featpipe.spec.padding import ExplicitPadding
from featpipe.spec.pipeline import Branch, Images, Pipeline, RandomSplit, Store
from featpipe.spec.pooling import POOLINGS


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
        case ("cluster",):
            return ["class" if key == "kind" else key for key in _fields(Cluster)]
        case ("cluster", "local"):
            return _fields(LocalWorkers)
        case ("cluster", "adapt"):
            return _fields(Adapt)
        case ("cluster", "tls"):
            return _fields(Tls)
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
            if isinstance(value, Mapping) and isinstance(value.get("kernels"), str):
                parameters = _fields(FileBank, "name", "file")
            return ["bank", "kernels", *parameters, *options]
        case ("convolve", "bank"):
            fit = value.get("fit") if isinstance(value, Mapping) else None
            fields = _fields(RandomBank if fit == "random" else FitBank, "name", "fit")
            return ["file"] if isinstance(value, Mapping) and "file" in value else ["fit", *fields]
        case ("convolve", "bank", "whiten"):
            return _fields(Whiten)
        case ("convolve", "contrast"):
            return _fields(Contrast)
        case ("import",):
            return _fields(Import)
        case ("import", "pool" | "activation" as part, *rest):
            return _layer_keys(({"activation": "activate"}.get(part, part), *rest), value)
        case ("local",):
            return _fields(Local)
        case ("local", "kernels"):
            return _fields(DrawnKernels)
        case (*_, "padding"):
            return _fields(ExplicitPadding)
        case ("activate",):
            return ["split", "soft-threshold"]
        case ("activate", "split"):
            return _fields(Split)
        case ("activate", "soft-threshold"):
            return _fields(SoftThreshold)
        case ("pool",):
            return [*POOLINGS, "bins", "stride", "padding"]
        case ("pool", _):
            return _fields(Cells)
        case ("reduce",):
            return _fields(Reduce)
        case ("bif",):
            return _fields(Bif)
        case ("code",):
            return _fields(Code)
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
