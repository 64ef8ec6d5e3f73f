"""From the pipeline file to the program: banks become arrays, layers become nodes, labels follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featpipe.errors import FeatpipeError, Location, PlanError, Problem, key_path
from featpipe.geometry.axis import PaddingMode, Sweep
from featpipe.geometry.window import Window
from featpipe.kernels.bank import Bank, Labels
from featpipe.kernels.catalog import build_bank
from featpipe.kernels.factors import factorise
from featpipe.plan.labels import group_features, known_labels, merge_labels, split_labels
from featpipe.plan.program import (
    POINT,
    ROOT,
    ActivateOp,
    ConvolveOp,
    FoldOp,
    GridOp,
    KernelGroup,
    LocalOp,
    Node,
    Op,
    Output,
    PoolOp,
    Program,
    StandardiseOp,
    Statistic,
)
from featpipe.spec.banks import BinomialBank
from featpipe.spec.layers import (
    ActivateLayer,
    Activation,
    Cells,
    Convolve,
    ConvolveLayer,
    Layer,
    ModulusLayer,
    Normalize,
    NormalizeLayer,
    Pool,
    PoolLayer,
    Reduce,
    ReduceLayer,
    SaveLayer,
)
from featpipe.spec.padding import Padding
from featpipe.spec.pipeline import Branch

HALVING = Convolve(
    source=BinomialBank(name="binomial", size=5), stride=[2, 2], padding=Padding(same=True, mode="reflect")
)
"""One step of the pyramid (Burt and Adelson 1983): [1 4 6 4 1]/16 along each axis, then every second pixel."""


def make_program(features: dict[str, Branch], channels: Sequence[str]) -> Program:
    """Resolve every branch and scale of a pipeline.

    Parameters
    ----------
    features : dict
        Branch name to branch.
    channels : sequence of str
        Names of the images' channels.

    Raises
    ------
    PlanError
        With every problem found: labels that are not there, kernels for another number of channels, ...
    """
    builder = _Builder(channels)
    for name, branch in features.items():
        builder.add_branch(name, branch)
    if builder.problems:
        raise PlanError(builder.problems)
    return Program(builder.channels, tuple(builder.nodes), tuple(builder.outputs))


class _Builder:
    def __init__(self, channels: Sequence[str]) -> None:
        self.channels: tuple[Labels, ...] = tuple({"channel": name} for name in channels)
        self.nodes: list[Node] = []
        self.outputs: list[Output] = []
        self.problems: list[Problem] = []
        self.halved = {1: ROOT}

    def add_branch(self, name: str, branch: Branch) -> None:
        location: Location = ("features", name)
        for scale in branch.scales:
            seen = len(self.problems)
            node = self._scaled(scale, (*location, "scales"))
            for i, layer in enumerate(branch.layers):
                where = (*location, "layers", i)
                if isinstance(layer, SaveLayer):
                    self.outputs.append(Output(f"{name}/{layer.save}/scale{scale}", name, scale, node))
                    continue
                try:
                    node = self._add_layer(node, layer, where)
                except FeatpipeError as error:
                    self.problems += error.problems
                    break
            else:
                self.outputs.append(Output(f"{name}/scale{scale}", name, scale, node))
            if len(self.problems) > seen:
                break  # the other scales would say the same

    def _scaled(self, scale: int, location: Location) -> int:
        if scale not in self.halved:
            parent = self._scaled(scale // 2, location)
            bank = build_bank(HALVING.source, 1)
            labels = self._features(parent)
            op = ConvolveOp(_groups(bank, HALVING), np.zeros(1, np.float32), each=True)
            sweeps = _sweeps(bank.size, HALVING.stride, HALVING.dilation, HALVING.padding)
            self.halved[scale] = self._append(parent, op, sweeps, labels, f"halve to 1/{scale}", location)
        return self.halved[scale]

    def _features(self, node: int) -> tuple[Labels, ...]:
        return self.channels if node == ROOT else self.nodes[node].features

    def _append(
        self,
        parent: int,
        op: Op,
        sweeps: tuple[Sweep, Sweep],
        features: Sequence[Labels],
        title: str,
        location: Location,
    ) -> int:
        windows = _windows_after(None if parent == ROOT else self.nodes[parent], op, sweeps)
        self.nodes.append(Node(parent, op, sweeps, tuple(features), title, location, windows))
        return len(self.nodes) - 1

    def _add_layer(self, parent: int, layer: Layer, where: Location) -> int:
        features = self._features(parent)
        match layer:
            case ConvolveLayer():
                return self._add_convolve(parent, layer.convolve, (*where, "convolve"))
            case ActivateLayer():
                return self._add_activation(parent, layer.activate, where)
            case ModulusLayer():
                if "component" not in known_labels(features):
                    what = "there are no pairs to fold: no feature carries the label component."
                    raise _problem(
                        (*where, "modulus"), what, "Put it after a gabor, gradient or sobel bank, or use activate: abs."
                    )
                return self._add_fold(parent, "component", "l2", "modulus", where)
            case ReduceLayer():
                return self._add_reduce(parent, layer.reduce, (*where, "reduce"))
            case PoolLayer():
                return self._add_pool(parent, layer.pool, (*where, "pool"))
            case NormalizeLayer():
                return self._add_normalize(parent, layer.normalize, (*where, "normalize"))
        raise AssertionError(f"no op for {layer!r}")

    def _add_convolve(self, parent: int, spec: Convolve, where: Location) -> int:
        inputs = self._features(parent)
        bank = build_bank(spec.source, len(inputs), spec.names, key_path(where), where)
        each = not bank.spans_channels if spec.channels is None else spec.channels == "each"
        depth = bank.kernels[0].weights.shape[2] if bank.spans_channels else None
        if each and depth not in (None, 1):
            change = "Give 2-D kernels, or channels: sum."
            raise _problem((*where, "channels"), f"each needs kernels of one channel, these have {depth}.", change)
        if not each and depth not in (None, len(inputs)):
            what = f"the kernels span {depth} channels, but {len(inputs)} features come in."
            raise _problem(where, what, f"Give kernels of {len(inputs)} channels, or 2-D ones.")
        count = len(bank.kernels)
        bias = np.asarray(spec.bias, np.float32)
        if bias.ndim and len(bias) != count:
            raise _problem(
                (*where, "bias"), f"has {len(bias)} values for {count} kernels.", "Give one, or one per kernel."
            )
        sweeps = _sweeps(bank.size, spec.stride, spec.dilation, spec.padding)
        op = ConvolveOp(
            _groups(bank, spec, each=each, depth=1 if each else len(inputs)),
            np.broadcast_to(bias, (count,)).copy(),
            each,
            spec.contrast.epsilon if spec.contrast else None,
        )
        kernels = [kernel.labels for kernel in bank.kernels]
        labels = [merge_labels(kernel, one) for one in inputs for kernel in kernels] if each else kernels
        name = str(kernels[0].get("bank", "kernels"))
        title = f"convolve {name} {bank.size[0]}×{bank.size[1]}"
        if any(group.factors for group in op.groups):
            title += " separable" if all(group.factors for group in op.groups) else " partly separable"
        return self._append(parent, op, sweeps, labels, title, where)

    def _add_activation(self, parent: int, spec: Activation, where: Location) -> int:
        features = self._features(parent)
        if spec.split is not None:
            op = ActivateOp("split", spec.split.threshold)
            features = split_labels(features)
        elif spec.soft_threshold is not None:
            op = ActivateOp("soft-threshold", spec.soft_threshold.threshold)
        else:
            op = ActivateOp(str(spec.name))
        return self._append(parent, op, POINT, features, f"activate {op.name}", where)

    def _add_fold(self, parent: int, over: str, by: Statistic, title: str, where: Location) -> int:
        labels, members = group_features(self._features(parent), over)
        starts = np.cumsum([0, *map(len, members)]).astype(np.int64)
        op = FoldOp(by, starts, np.concatenate(members).astype(np.int64))
        return self._append(parent, op, POINT, labels, title, where)

    def _add_reduce(self, parent: int, spec: Reduce, where: Location) -> int:
        known = known_labels(self._features(parent))
        if spec.over not in known:
            what = f"no feature carries the label {spec.over!r}."
            raise _problem((*where, "over"), what, f"Use one of {', '.join(known)}.")
        return self._add_fold(parent, spec.over, spec.by, f"reduce {spec.over} by {spec.by}", where)

    def _add_pool(self, parent: int, spec: Pool, where: Location) -> int:
        features = self._features(parent)
        if isinstance(spec.over, Cells):
            rows, cols = spec.over.grid
            title = f"pool {spec.by} " + ("global" if rows == cols == 1 else f"grid {rows}×{cols}")
            return self._append(parent, GridOp(spec.by, (rows, cols)), POINT, features, title, where)
        sweeps = _sweeps((spec.over[0], spec.over[1]), spec.stride or spec.over, [1, 1], spec.padding)
        return self._append(
            parent, PoolOp(spec.by), sweeps, features, f"pool {spec.by} {spec.over[0]}×{spec.over[1]}", where
        )

    def _add_normalize(self, parent: int, spec: Normalize, where: Location) -> int:
        features = self._features(parent)
        if spec.local is not None:
            size = (spec.local.size[0], spec.local.size[1])
            sweeps = _sweeps(size, [1, 1], [1, 1], spec.local.padding)
            return self._append(
                parent, LocalOp(spec.local.epsilon), sweeps, features, f"normalize local {size[0]}×{size[1]}", where
            )
        mean, std = (np.atleast_1d(np.asarray(v, np.float32)) for v in (spec.mean, spec.std))
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, len(features)):
                what = f"has {len(values)} values for {len(features)} features."
                raise _problem((*where, name), what, "Give one, or one per feature.")
        return self._append(parent, StandardiseOp(mean, std), POINT, features, "normalize", where)


def _problem(where: Location, what: str, change: str) -> PlanError:
    return PlanError(Problem(key_path(where), what, change, where))


def _sweeps(
    size: tuple[int, int], stride: Sequence[int], dilation: Sequence[int], padding: Padding
) -> tuple[Sweep, Sweep]:
    sweeps = []
    mode: PaddingMode = padding.explicit.mode if padding.explicit else padding.mode
    for axis in (0, 1):
        before, after = padding.on_axis(axis, (size[axis] - 1) * dilation[axis] + 1)
        sweeps.append(Sweep(size[axis], stride[axis], dilation[axis], before, after, mode))
    return sweeps[0], sweeps[1]


def _groups(bank: Bank, spec: Convolve, *, each: bool = True, depth: int = 1) -> tuple[KernelGroup, ...]:
    """Gather kernels of one size, centred in the frame of the largest."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, kernel in enumerate(bank.kernels):
        by_size.setdefault(kernel.weights.shape[:2], []).append(i)
    groups = []
    for size, columns in by_size.items():
        stacked = np.stack([bank.kernels[i].weights for i in columns])
        if stacked.ndim == 3:
            stacked = np.repeat(stacked[..., None], depth, axis=3)
        if spec.flip:
            stacked = stacked[:, ::-1, ::-1]
        corner = tuple((bank.size[axis] // 2 - size[axis] // 2) * spec.dilation[axis] for axis in (0, 1))
        if spec.contrast is not None:
            stacked = stacked - stacked.mean(axis=(1, 2, 3), keepdims=True)
        factors = factorise(stacked[..., 0]) if each else ()
        weights = np.ascontiguousarray(stacked, np.float32)
        groups.append(KernelGroup(weights, (corner[0], corner[1]), np.array(columns, np.int64), factors))
    return tuple(groups)


def _windows_after(parent: Node | None, op: Op, sweeps: tuple[Sweep, Sweep]) -> tuple[Window, Window] | None:
    if isinstance(op, GridOp) or (parent is not None and parent.windows is None):
        return None
    windows = (sweeps[0].window, sweeps[1].window)
    if parent is None or parent.windows is None:
        return windows
    return parent.windows[0].then(windows[0]), parent.windows[1].then(windows[1])
