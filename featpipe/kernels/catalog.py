"""From a bank's parameters to its labelled kernels, and the list of the banks there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BeforeValidator, TypeAdapter

from featpipe.errors import Location, Problem, SpecError
from featpipe.kernels.bank import Bank, Kernel, Labels
from featpipe.kernels.classic import CLASSICS, binomial_kernel, box_kernel, classic_kernels
from featpipe.kernels.files import LARGEST_BANK, read_kernels
from featpipe.kernels.gabor import gabor_kernels, gabor_radius, spread_orientations
from featpipe.kernels.gaussian import dog_kernel, gaussian_kernel, gaussian_radius, gradient_kernels, log_kernel
from featpipe.kernels.textures import TEXTURE_EXAMPLES, TEXTURE_SOURCES, texture_kernels
from featpipe.spec.banks import (
    BANKS,
    BankField,
    BankSpec,
    BinomialBank,
    BoxBank,
    ClassicBank,
    DogBank,
    FileBank,
    GaborBank,
    GaussianBank,
    GaussianGradientBank,
    InlineBank,
    LogBank,
    RandomBank,
)
from featpipe.spec.base import Spec, as_list, first_twice
from featpipe.spec.docs import field_docs, text_of
from featpipe.spec.fits import FITS, FitBank, LearnedBank
from featpipe.spec.fits import NOTES as FIT_NOTES
from featpipe.spec.shape import type_text
from featpipe.spec.textures import TextureBank
from featpipe.spec.words import suggest

Float64 = npt.NDArray[np.float64]


def build_bank(
    spec: BankSpec,
    channels: int,
    names: Sequence[str] | None = None,
    where: str = "convolve",
    location: Location = (),
) -> Bank:
    """Make the kernels of a bank.

    Parameters
    ----------
    spec : BankSpec
    channels : int
        Of the layer's input; random kernels span them.
    names : sequence of str, optional
        One for each kernel of an inline or file bank.
    where : str
        The layer's place, for errors.
    location : tuple
        The same in parts, so that an error can tell line and column.

    Returns
    -------
    Bank
        In the order of the parameters, the first varying slowest; no two kernels have the same labels.

    Raises
    ------
    SpecError
        If a value is given twice, a kernel would be too large or all zeros, or a file cannot be used.

    Examples
    --------
    >>> bank = build_bank(GaborBank(name="gabor", frequencies=[0.2], orientations=2), channels=1)
    >>> bank.size, bank.kernels[2].labels
    ((19, 19), {'bank': 'gabor', 'frequency': 0.2, 'orientation': 90.0, 'component': 'even'})
    """
    maker = _Maker(channels, names, where, location)
    maker.refuse_twice(spec)
    return Bank(tuple(maker.make(spec)))


class _Maker:
    """Makes kernels, and refuses before it takes more memory than a bank may."""

    def __init__(self, channels: int, names: Sequence[str] | None, where: str, location: Location) -> None:
        self.channels = channels
        self.names = names
        self.where = where
        self.location = location
        self.taken = 0

    def error(self, key: str, what: str, change: str) -> SpecError:
        location = (*self.location, key) if self.location else ()
        return SpecError(Problem(f"{self.where}.{key}", what, change, location))

    def refuse_twice(self, spec: BankSpec) -> None:
        for key in ("sigmas", "frequencies", "orientations"):
            values = getattr(spec, key, None)
            if isinstance(values, list) and (twice := first_twice(values)) is not None:
                raise self.error(key, f"gives {twice:g} twice.", "Give each value once.")

    def take(self, key: str, value: float, *shape: int) -> None:
        """Account for the kernels that one value of the parameter ``key`` asks for."""
        self.taken += math.prod(shape) * 8
        if self.taken > LARGEST_BANK:
            taps = "×".join(map(str, shape))
            what = (
                f"with {value:g} ({taps} taps) the bank takes {self.taken / 2**20:.0f} MiB, "
                f"and may take {LARGEST_BANK / 2**20:.0f}."
            )
            raise self.error(key, what, "Use smaller kernels on a coarser scale (scales: [8]), or fewer.")

    def make(self, spec: BankSpec) -> Iterator[Kernel]:
        if self.names is not None and not isinstance(spec, (InlineBank, FileBank)):
            raise self.error("names", f"bank {spec.name} names its kernels itself.", "Remove names.")
        match spec:
            case ClassicBank(name=name):
                for component, weights in classic_kernels(name).items():
                    yield Kernel(weights, {"bank": name, "component": component} if component else {"bank": name})
            case BoxBank(size=size):
                self.take("size", size, size, size)
                yield Kernel(box_kernel(size), {"bank": "box", "size": size})
            case BinomialBank(size=size):
                self.take("size", size, size, size)
                yield Kernel(binomial_kernel(size), {"bank": "binomial", "size": size})
            case GaussianBank() | GaussianGradientBank() | LogBank() | DogBank():
                for sigma in spec.sigmas:
                    yield from self._gaussians(spec, sigma)
            case GaborBank():
                yield from self._gabors(spec)
            case TextureBank():
                yield from texture_kernels(spec, self.take, self.error)
            case RandomBank():
                yield from self._random(spec)
            case InlineBank(values=values):
                yield from self._given(np.array(values, np.float64))
            case FileBank(file=file, order=order):
                location = (*self.location, "kernels") if self.location else ()
                where = f"{self.where}.kernels"
                yield from self._given(read_kernels(file, where, location, order=order, inputs=self.channels))
            case FitBank() | LearnedBank():
                raise TypeError("a learned bank is no list of kernels until it has been learned")
            case _:
                assert_never(spec)

    def _gaussians(self, spec: GaussianBank | GaussianGradientBank | LogBank | DogBank, sigma: float) -> list[Kernel]:
        ratio = spec.ratio if isinstance(spec, DogBank) else 1.0
        edge = 2 * gaussian_radius(ratio * sigma, spec.truncate) + 1
        self.take("sigmas", sigma, *((2,) if isinstance(spec, GaussianGradientBank) else ()), edge, edge)
        match spec:
            case GaussianBank():
                return [Kernel(gaussian_kernel(sigma, spec.truncate), {"bank": spec.name, "sigma": sigma})]
            case GaussianGradientBank():
                pair = zip(("y", "x"), gradient_kernels(sigma, spec.truncate), strict=True)
                kernels = [Kernel(w, {"bank": spec.name, "sigma": sigma, "component": part}) for part, w in pair]
            case LogBank():
                kernels = [Kernel(log_kernel(sigma, spec.truncate), {"bank": spec.name, "sigma": sigma})]
            case DogBank():
                weights = dog_kernel(sigma, ratio, spec.truncate)
                kernels = [Kernel(weights, {"bank": spec.name, "sigma": sigma, "ratio": ratio})]
        if np.abs(kernels[0].weights).max() < float(np.finfo(np.float32).tiny):
            what = f"{sigma:g} is so small that with truncate {spec.truncate:g} the kernel is 0 everywhere."
            raise self.error("sigmas", what, f"Use at least {max(0.3, 0.5 / spec.truncate):g}.")
        return kernels

    def _gabors(self, spec: GaborBank) -> Iterator[Kernel]:
        def filters() -> Iterator[tuple[float, float]]:
            turns = spec.orientations
            for frequency in spec.frequencies:
                for orientation in spread_orientations(turns) if isinstance(turns, int) else turns:
                    yield frequency, orientation

        for frequency, orientation in filters():
            edge = 2 * gabor_radius(frequency, orientation, spec.bandwidth, spec.n_stds) + 1
            self.take("frequencies", frequency, 2, edge, edge)
        for frequency, orientation in filters():
            pair = gabor_kernels(frequency, orientation, spec.bandwidth, spec.n_stds)
            labels: Labels = {"bank": spec.name, "frequency": frequency, "orientation": orientation}
            yield Kernel(pair[0], {**labels, "component": "even"})
            yield Kernel(pair[1], {**labels, "component": "odd"})

    def _random(self, spec: RandomBank) -> Iterator[Kernel]:
        shape = (spec.kernels, spec.size, spec.size, self.channels)
        self.take("bank", spec.kernels, *shape)
        for index, weights in enumerate(random_kernels(*shape, seed=spec.seed)):
            yield Kernel(weights, {"bank": spec.name, "kernel": index})

    def _given(self, kernels: Float64) -> Iterator[Kernel]:
        names = [str(i) for i in range(len(kernels))] if self.names is None else self.names
        if len(names) != len(kernels):
            raise self.error("names", f"gives {len(names)} for {len(kernels)} kernels.", "Give one each.")
        if len(set(names)) < len(names):
            raise self.error("names", "has the same name twice.", "Give each kernel its own.")
        largest = float(np.abs(kernels).max())
        if largest > float(np.finfo(np.float32).max):
            raise self.error(
                "kernels", f"has {largest:g}, beyond float32, in which maps are computed.", "Scale it down."
            )
        for name, weights in zip(names, kernels, strict=True):
            yield Kernel(weights, {"bank": "kernels", "kernel": name})


def random_kernels(count: int, height: int, width: int, channels: int, *, seed: int) -> Float64:
    """Draw kernels from a normal distribution of mean 0 and variance 2 / (height · width · channels).

    Returns
    -------
    (count, height, width, channels) float64
        From ``numpy.random.default_rng(seed).standard_normal``; the first kernels don't depend on the count.

    References
    ----------
    He et al. 2015, Delving deep into rectifiers, eq. 10; random features as in Rahimi and Recht 2007.
    """
    drawn = np.random.default_rng(seed).standard_normal((count, height, width, channels))
    return drawn * math.sqrt(2 / (height * width * channels))


@dataclass(frozen=True)
class BankParameter:
    """A parameter of a bank; ``default`` is empty where one must be given."""

    name: str
    type: str
    default: str
    description: str


@dataclass(frozen=True)
class BankEntry:
    """What there is to know about a bank before using it."""

    name: str
    summary: str
    parameters: tuple[BankParameter, ...]
    example: str
    """A layer, as it stands in the pipeline file."""
    source: str
    """The paper or function whose definition this is."""
    spec: BankSpec
    """The bank of the example."""
    layer: dict[str, Any]
    """What the example's convolve holds, as data of the caller's own."""


_SIGMAS = {"sigmas": [1, 2, 4]}
_EXAMPLES: dict[str, dict[str, Any]] = {
    **{name: {"bank": name} for name in BANKS},
    "box": {"bank": "box", "size": 3},
    "binomial": {"bank": "binomial", "size": 5},
    **{name: {"bank": name, **_SIGMAS} for name in ("gaussian", "gaussian-gradient", "log")},
    "dog": {"bank": "dog", **_SIGMAS, "ratio": 1.6},
    "gabor": {"bank": "gabor", "frequencies": [0.1, 0.2, 0.4], "orientations": 8},
    **TEXTURE_EXAMPLES,
    **{name: {"bank": {"fit": name, "kernels": 400, "size": 6}} for name in FITS},
    "learned": {"bank": {"file": "patches.npz"}},
    "random": {"bank": {"fit": "random", "kernels": 16, "size": 5, "seed": 0}},
    "inline": {"kernels": [[[-1, 0, 1]], [[-1, 2, -1]]], "names": ["edge", "line"]},
    "file": {"kernels": "filters.npz:edges"},
}
_SOURCES: dict[str, Callable[..., Any]] = {
    "box": box_kernel,
    "binomial": binomial_kernel,
    "gaussian": gaussian_kernel,
    "gaussian-gradient": gradient_kernels,
    "log": log_kernel,
    "dog": dog_kernel,
    "gabor": gabor_kernels,
    **TEXTURE_SOURCES,
    "random": random_kernels,
}
"""Where the docstring cites the source."""


def list_banks() -> list[BankEntry]:
    """Return every bank: the named ones, then random, inline and file kernels.

    Examples
    --------
    >>> gabor = find_bank("gabor")
    >>> gabor.example
    '- convolve: {bank: gabor, frequencies: [0.1, 0.2, 0.4], orientations: 8}'
    >>> [(p.name, p.type, p.default) for p in gabor.parameters][2]
    ('bandwidth', 'number > 0', '1')
    """
    return [_entry(name) for name in _EXAMPLES]


def find_bank(name: str) -> BankEntry:
    """Return what there is to know about one bank.

    Raises
    ------
    SpecError
        If there is no such bank.
    """
    if name not in _EXAMPLES:
        change = f"{suggest(name, _EXAMPLES)} (banks: {', '.join(_EXAMPLES)})".strip()
        raise SpecError(Problem("banks", f"there is no bank {name[:60]!r}.", change))
    return _entry(name)


def _entry(name: str) -> BankEntry:
    layer = _EXAMPLES[name]
    spec: BankSpec = TypeAdapter(BankField).validate_python({k: v for k, v in layer.items() if k != "names"})
    text = yaml.safe_dump(layer, default_flow_style=True, sort_keys=False, width=math.inf).strip()
    if name in FIT_NOTES:
        summary, source = FIT_NOTES[name]
    elif name in CLASSICS:
        summary, source = CLASSICS[name].summary, CLASSICS[name].source
    else:
        summary = _paragraph(type(spec))
        source = _cited(_SOURCES[name]) if name in _SOURCES else ""
    example = f"- convolve: {text}"
    return BankEntry(name, summary, _parameters(type(spec)), example, source, spec, deepcopy(layer))


def _parameters(model: type[Spec]) -> tuple[BankParameter, ...]:
    schemas, docs = model.model_json_schema()["properties"], field_docs(model)
    parameters = []
    for key, field in model.model_fields.items():
        if key in ("name", "fit"):
            continue
        text = type_text(schemas[key])
        if any(isinstance(mark, BeforeValidator) and mark.func is as_list for mark in field.metadata):
            text = f"{type_text(schemas[key]['anyOf'][0])}, or a list of them"
        default = "" if field.is_required() else _default_text(field.default)
        shown = "kernels" if key == "values" or (model is FileBank and key == "file") else key
        parameters.append(BankParameter(shown, text, default, _plain(docs.get(key, ""))))
    return tuple(parameters)


def _default_text(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_default_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else f"{value:g}"


def _paragraph(documented: type) -> str:
    return _plain(text_of(documented).split("\n\n")[0])


def _cited(documented: Callable[..., Any]) -> str:
    """Return the References of a numpydoc docstring."""
    _, _, after = text_of(documented).partition("References\n----------\n")
    return _plain(after.split("\n\n")[0])


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").split())
