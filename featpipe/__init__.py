"""Batch feature extraction on image datasets.

>>> import featpipe
>>> stack = featpipe.open("features.zarr")                      # doctest: +SKIP
>>> X, y = stack.xy(split="train")                              # doctest: +SKIP
>>> featpipe.probe("features.zarr").accuracy                    # doctest: +SKIP
>>> maps = featpipe.extract(array, "pipeline.yaml")             # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featpipe.arrays import extract
    from featpipe.errors import (
        FeatpipeError,
        ImageError,
        PlanError,
        Problem,
        RunError,
        SourceError,
        SpecError,
        StoreError,
    )
    from featpipe.exports.export import export
    from featpipe.probes.probe import probe
    from featpipe.probes.result import ProbeResult
    from featpipe.stack import FeatureMap, Stack
    from featpipe.stack import open_stack as open

__version__ = "0.1.0"

__all__ = [
    "FeatpipeError",
    "FeatureMap",
    "ImageError",
    "PlanError",
    "ProbeResult",
    "Problem",
    "RunError",
    "SourceError",
    "SpecError",
    "Stack",
    "StoreError",
    "__version__",
    "export",
    "extract",
    "open",
    "probe",
]

_HOMES = {
    "extract": ("featpipe.arrays", "extract"),
    "open": ("featpipe.stack", "open_stack"),
    "FeatureMap": ("featpipe.stack", "FeatureMap"),
    "Stack": ("featpipe.stack", "Stack"),
    "export": ("featpipe.exports.export", "export"),
    "probe": ("featpipe.probes.probe", "probe"),
    "ProbeResult": ("featpipe.probes.result", "ProbeResult"),
}
"""Where a name is defined; the errors are all in one module."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import featpipe`` itself must cost nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES.get(name, ("featpipe.errors", name))
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
