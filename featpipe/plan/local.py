"""Locally connected layers in a program: their kernels, and for which images they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location, PlanError, Problem, key_path
from featpipe.kernels.bank import Labels
from featpipe.kernels.positions import LARGEST_LOCAL, LocalKernels, LocalShape, SeededKernels, read_bias, read_local
from featpipe.plan.collection import Collection
from featpipe.plan.limits import check_count
from featpipe.plan.program import ConvolveOp, LocallyConnectedOp, Program
from featpipe.plan.schedule import FLOAT
from featpipe.spec.local import DrawnKernels, Local

Float32 = npt.NDArray[np.float32]


def make_local(spec: Local, inputs: int, where: Location) -> tuple[LocallyConnectedOp, tuple[Labels, ...]]:
    """Return a locally connected layer on so many features, and the labels that leave it."""
    kernels = _make_kernels(spec, inputs, where)
    count = kernels.shape.kernels
    check_count(count, where)
    if spec.names is not None and len(spec.names) != count:
        what = f"gives {len(spec.names)} for {count} kernels."
        raise _problem((*where, "names"), what, "Give one each.")
    names: Sequence[str | int] = spec.names or [str(k) for k in range(count)]
    if isinstance(spec.kernels, DrawnKernels):
        names = range(count)
    labels: list[Labels] = [{"bank": "local", "kernel": name} for name in names]
    return LocallyConnectedOp(kernels, _make_bias(spec, kernels, where)), tuple(labels)


def _make_kernels(spec: Local, inputs: int, where: Location) -> LocalKernels:
    if isinstance(spec.kernels, DrawnKernels):
        drawn = spec.kernels
        return SeededKernels(LocalShape(drawn.kernels, (drawn.size, drawn.size), inputs), drawn.seed)
    at = (*where, "kernels")
    found = read_local(spec.kernels, key_path(at), at)
    if found.shape.channels != inputs:
        what = f"the kernels span {found.shape.channels} channels, but {inputs} features come in."
        raise _problem(at, what, "Save (oy, ox, k, y, x, c).")
    return found


def _make_bias(spec: Local, kernels: LocalKernels, where: Location) -> Float32:
    at, count = (*where, "bias"), kernels.shape.kernels
    if isinstance(spec.bias, str):
        bias = read_bias(spec.bias, key_path(at), at, local=True)
    else:
        bias = np.asarray(spec.bias, np.float32)
    if bias.ndim == 0:
        bias = np.full(count, bias)
    if bias.shape[-1] != count:
        raise _problem(at, f"has {bias.shape[-1]} values for {count} kernels.", "Give one number, or one per kernel.")
    if bias.ndim == 3 and kernels.positions not in (None, bias.shape[:2]):
        rows, cols = kernels.positions or (0, 0)
        what = f"is for {bias.shape[0]}×{bias.shape[1]} positions, the kernels are for {rows}×{cols}."
        raise _problem(at, what, "Save (oy, ox, k).")
    return np.ascontiguousarray(bias if bias.ndim == 3 else bias[None, None], np.float32)


def position_problem(op: LocallyConnectedOp, shape: tuple[int, int], above: tuple[int, int]) -> tuple[str, str] | None:
    """Return what is wrong with an output of this shape, from an input ``above``, and what to change; or None."""
    wanted = op.positions
    if wanted not in (None, shape):
        assert wanted is not None
        what = f"has kernels for {wanted[0]}×{wanted[1]} positions, but its {above[0]}×{above[1]} input has"
        return f"{what} {shape[0]}×{shape[1]}.", "Set images.size to the size for which the kernels are."
    taken = local_bytes(op, shape)
    if taken > LARGEST_LOCAL:
        what = f"kernels for {shape[0]}×{shape[1]} positions take {taken / 2**20:.0f} MiB,"
        change = "Pool before it, or use fewer or smaller kernels or a larger stride."
        return f"{what} {LARGEST_LOCAL // 2**20} at most.", change
    return None


def local_bytes(op: LocallyConnectedOp, positions: tuple[int, int]) -> int:
    """Return what the kernels of all positions take, in bytes."""
    return prod(positions) * op.kernels.shape.parameters * FLOAT


def refuse_unequal_images(program: Program, collection: Collection) -> None:
    """Refuse images of several sizes where random kernels differ by position.

    Raises
    ------
    PlanError
        That names the layer.
    """
    for node in program.nodes:
        if isinstance(node.op, LocallyConnectedOp) and node.op.positions is None and not collection.uniform:
            seen = collection.heights > 0
            pairs = zip(collection.heights[seen], collection.widths[seen], strict=True)
            sizes = sorted({(int(height), int(width)) for height, width in pairs})
            shown = ", ".join(f"{height}×{width}" for height, width in sizes[:3])
            more = ", …" if len(sizes) > 3 else ""
            what = f"needs images of one size, and these have {len(sizes)} ({shown}{more} px)."
            raise _problem(node.location, what, "Set images.size.")


def weight_bytes(program: Program, shapes: Mapping[int, tuple[int, int]]) -> int:
    """Return what the kernels of a program take, in bytes, those that are laid out for the loops beside the given."""
    total = 0
    for i, node in enumerate(program.nodes):
        if isinstance(node.op, LocallyConnectedOp):
            read = 1 if isinstance(node.op.kernels, SeededKernels) else 2
            total += read * local_bytes(node.op, shapes[i])
        elif isinstance(node.op, ConvolveOp):
            total += 2 * sum(group.weights.nbytes for group in node.op.groups)
    return total


def _problem(where: Location, what: str, change: str) -> PlanError:
    return PlanError(Problem(key_path(where), what, change, where))
