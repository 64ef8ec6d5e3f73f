"""From the parameters of the canonical texture banks to their labelled kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, assert_never

import numpy as np

from featpipe.errors import SpecError
from featpipe.kernels.bank import Kernel, Labels
from featpipe.kernels.gabor import spread_orientations
from featpipe.kernels.gaussian import derivative_kernel, gaussian_radius
from featpipe.kernels.morlet import morlet_kernels, morlet_radius
from featpipe.kernels.steerable import steerable_kernels
from featpipe.kernels.textons import lm_kernels, rfs_kernels, schmid_kernels
from featpipe.kernels.transforms import dct_kernels, haar_kernels, laws_kernels
from featpipe.spec.textures import (
    DctBank,
    GaussianDerivativesBank,
    HaarBank,
    LawsBank,
    LmBank,
    MorletBank,
    NamedTexture,
    RfsBank,
    SchmidBank,
    SteerableBank,
)

Take = Callable[..., None]
"""Called with a parameter's name, its value and the shape of the kernels it asks for, before they are made."""
Refuse = Callable[[str, str, str], SpecError]
"""Called with a parameter's name, what is wrong and what to change."""

DERIVATIVES = {0: {"value": (0, 0)}, 1: {"y": (1, 0), "x": (0, 1)}, 2: {"yy": (2, 0), "xy": (1, 1), "xx": (0, 2)}}
"""Order to components to the orders along y and x."""

TEXTURE_EXAMPLES: dict[str, dict[str, Any]] = {
    "gaussian-derivatives": {"bank": "gaussian-derivatives", "sigmas": [1, 2, 4], "orders": [1, 2]},
    "lm": {"bank": "lm", "variant": "large"},
    "schmid": {"bank": "schmid"},
    "rfs": {"bank": "rfs", "sigmas": [1, 2, 4]},
    "morlet": {"bank": "morlet", "scales": 2, "orientations": 8},
    "steerable": {"bank": "steerable", "order": 3},
    "laws": {"bank": "laws", "vectors": ["L5", "E5", "S5", "W5", "R5"]},
    "haar": {"bank": "haar"},
    "dct": {"bank": "dct", "size": 8},
}
"""A layer for each bank, as data."""
TEXTURE_SOURCES: dict[str, Callable[..., Any]] = {
    "gaussian-derivatives": derivative_kernel,
    "lm": lm_kernels,
    "schmid": schmid_kernels,
    "rfs": rfs_kernels,
    "morlet": morlet_kernels,
    "steerable": steerable_kernels,
    "laws": laws_kernels,
    "haar": haar_kernels,
    "dct": dct_kernels,
}
"""Where the docstring cites the source."""


def texture_kernels(spec: NamedTexture, take: Take, refuse: Refuse) -> Iterable[Kernel]:
    """Make the kernels of a texture bank.

    Parameters
    ----------
    spec : a model of `featpipe.spec.textures`
    take, refuse : callable
        Account for the memory of kernels, and make the error for a parameter.

    Returns
    -------
    iterable of Kernel
    """
    match spec:
        case LmBank(variant=variant, size=size):
            take("size", size, 48, size, size)
            return lm_kernels(variant, size)
        case SchmidBank(size=size):
            take("size", size, 13, size, size)
            return schmid_kernels(size)
        case RfsBank(sigmas=sigmas, size=size):
            take("size", size, 12 * len(sigmas) + 2, size, size)
            return rfs_kernels(sigmas, size)
        case MorletBank():
            return _morlets(spec, take)
        case LawsBank(vectors=vectors):
            return laws_kernels(vectors)
        case HaarBank():
            return haar_kernels()
        case DctBank(size=size):
            take("size", size, size**2 - 1, size, size)
            return dct_kernels(size)
        case SteerableBank(order=order, levels=levels, size=size):
            for level in range(levels):
                take("size", size, order + 1, size * 2**level, size * 2**level)
            return steerable_kernels(order, levels, size)
        case GaussianDerivativesBank():
            return _derivatives(spec, take, refuse)
        case _:
            assert_never(spec)


def _morlets(spec: MorletBank, take: Take) -> Iterator[Kernel]:
    octaves = spec.octaves or range(spec.scales)
    for octave in octaves:
        edge = 2 * morlet_radius(octave, spec.orientations, spec.truncate) + 1
        take("scales", octave + 1, 2 * spec.orientations, edge, edge)
    for octave in octaves:
        for orientation in spread_orientations(spec.orientations):
            labels: Labels = {"bank": "morlet", "octave": octave, "orientation": orientation}
            pair = morlet_kernels(octave, orientation, spec.orientations, spec.truncate)
            yield Kernel(pair[0], {**labels, "component": "even"})
            yield Kernel(pair[1], {**labels, "component": "odd"})


def _derivatives(spec: GaussianDerivativesBank, take: Take, refuse: Refuse) -> Iterator[Kernel]:
    components = {name: orders for order in spec.orders for name, orders in DERIVATIVES[order].items()}
    for sigma in spec.sigmas:
        edge = 2 * gaussian_radius(sigma, spec.truncate) + 1
        take("sigmas", sigma, len(components), edge, edge)
        for name, orders in components.items():
            weights = derivative_kernel(sigma, orders, spec.truncate)
            if np.abs(weights).max() < float(np.finfo(np.float32).tiny):
                what = f"{sigma:g} is so small that with truncate {spec.truncate:g} the kernel is 0 everywhere."
                raise refuse("sigmas", what, f"Use at least {max(0.3, 0.5 / spec.truncate):g}.")
            yield Kernel(weights, {"bank": spec.name, "sigma": sigma, "component": name})
