"""An imported stack as the layers it stands for: convolutions, activations, poolings, and the maps it saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featpipe.errors import Location, PlanError, Problem, key_path
from featpipe.kernels.bank import Labels
from featpipe.kernels.imported import Convolution, read_stack
from featpipe.plan.program import ConvolveOp, KernelGroup
from featpipe.spec.activations import Activation
from featpipe.spec.importing import Import
from featpipe.spec.padding import ExplicitPadding, Padding
from featpipe.spec.pooling import Pool


@dataclass(frozen=True, eq=False)
class Imported:
    """A convolution, as it enters the program."""

    op: ConvolveOp
    size: tuple[int, int]
    padding: Padding
    labels: tuple[Labels, ...]
    title: str


@dataclass(frozen=True, eq=False)
class Step:
    """A layer of the stack, and the name under which its map is saved too."""

    layer: Imported | Activation | Pool
    tap: str | None = None


def import_steps(spec: Import, inputs: int, where: Location) -> list[Step]:
    """Return the layers that an import stands for.

    Parameters
    ----------
    spec : Import
    inputs : int
        Features that come in.
    where : Location
        Of the layer, for errors.

    Raises
    ------
    SpecError, PlanError
        If the file holds no such stack, it is for other features, or a tap is at no module.
    """
    stack = read_stack(spec.file, spec.prefix, spec.until, spec.epsilon, key_path(where), where)
    depth = stack[0].weights.shape[3]
    if depth != inputs:
        what = f"module {stack[0].index} of {spec.file} spans {depth} channels, but {inputs} features come in."
        change = "Set images.color: rgb." if depth == 3 else f"Give it {depth} features."
        raise PlanError(Problem(key_path(where), what, change, where))
    modules = dict(_modules(spec, stack))
    _check_taps(spec, stack, list(modules), where)
    return [Step(layer, spec.taps.get(index)) for index, layer in modules.items()]


def _modules(spec: Import, stack: tuple[Convolution, ...]) -> Iterator[tuple[int, Imported | Activation | Pool]]:
    """Yield each layer with the index of its module; a folded batch norm is the convolution's."""
    for one in stack:
        yield one.last, _convolution(spec, one)
        if one.silent >= 1:
            yield one.last + 1, spec.activation
        if one.silent >= 2:
            yield one.last + 2, spec.pool


def _convolution(spec: Import, one: Convolution) -> Imported:
    count, height, width, _ = one.weights.shape
    padding = spec.padding
    if padding is None:
        widths = [[height // 2, height // 2], [width // 2, width // 2]]
        padding = Padding(explicit=ExplicitPadding(mode="zero", widths=widths))
    group = KernelGroup(one.weights, (0, 0), np.arange(count))
    labels: list[Labels] = [{"bank": "imported", "module": one.index, "kernel": k} for k in range(count)]
    title = f"convolve imported {one.index} {height}×{width}"
    return Imported(ConvolveOp((group,), one.bias, each=False), (height, width), padding, tuple(labels), title)


def _check_taps(spec: Import, stack: tuple[Convolution, ...], modules: list[int], where: Location) -> None:
    folded = {one.index: one.last for one in stack if one.last != one.index}
    problems = []
    for index, name in spec.taps.items():
        at = (*where, "taps", str(index))
        if index in folded:
            what = f"the batch norm after module {index} is folded into it."
            problems.append(Problem(key_path(at), what, f"Write {folded[index]}: {name}.", at))
        elif index not in modules:
            shown = f"{modules[0]} to {modules[-1]}"
            problems.append(Problem(key_path(at), f"the stack has no module {index}; it has {shown}.", "", at))
    if problems:
        raise PlanError(problems)
