"""From the pipeline file to the program: banks become arrays, layers become nodes, labels follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from featpipe.errors import FeatpipeError, Location, PlanError, Problem, key_path
from featpipe.geometry.axis import PaddingMode, Sweep
from featpipe.geometry.window import Window
from featpipe.kernels.bank import Bank, Labels
from featpipe.kernels.catalog import build_bank
from featpipe.kernels.factors import factorise
from featpipe.kernels.fitted import FittedBank
from featpipe.kernels.positions import read_bias
from featpipe.plan.combining import combine_features, histogram_labels
from featpipe.plan.fitting import FitRequest, fit_key, placeholder, read_bank_file
from featpipe.plan.importing import Imported, import_steps
from featpipe.plan.labels import group_features, known_labels, split_labels
from featpipe.plan.limits import check_count, check_fit, check_weights, spread_labels
from featpipe.plan.local import make_local
from featpipe.plan.program import (
    POINT,
    ROOT,
    ActivateOp,
    ConvolveOp,
    DistanceOp,
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
from featpipe.spec.combining import BifLayer, CodeLayer, EigenvaluesLayer, ProductsLayer
from featpipe.spec.fits import FitBank, LearnedBank
from featpipe.spec.importing import Import
from featpipe.spec.layers import (
    ActivateLayer,
    Activation,
    Cells,
    Convolve,
    ConvolveLayer,
    ImportLayer,
    Layer,
    LocalLayer,
    ModulusLayer,
    Normalize,
    NormalizeLayer,
    Pool,
    PoolLayer,
    Reduce,
    ReduceLayer,
    SaveLayer,
)
from featpipe.spec.local import Local
from featpipe.spec.padding import Padding
from featpipe.spec.pipeline import Branch

HALVING = Convolve(
    source=BinomialBank(name="binomial", size=5), stride=[2, 2], padding=Padding(same=True, mode="reflect")
)
"""One step of the pyramid (Burt and Adelson 1983): [1 4 6 4 1]/16 along each axis, then every second pixel."""


def make_program(
    features: dict[str, Branch], channels: Sequence[str], fitted: Mapping[str, FittedBank] | None = None
) -> Program:
    """Resolve every branch and scale of a pipeline.

    Parameters
    ----------
    features : dict
        Branch name to branch.
    channels : sequence of str
        Names of the images' channels.
    fitted : mapping of str to FittedBank, optional
        Learned banks by the key of their request; random kernels stand for those that are not there yet.

    Raises
    ------
    PlanError
        With every problem found: labels that are not there, kernels for another number of channels, ...
    """
    builder = _Builder(channels, fitted or {})
    for name, branch in features.items():
        builder.add_branch(name, branch)
    if builder.problems:
        raise PlanError(builder.problems)
    return Program(builder.channels, tuple(builder.nodes), tuple(builder.outputs), tuple(builder.fits.values()))


def make_learned(
    features: dict[str, Branch], channels: Sequence[str], load: Callable[[FitRequest], FittedBank | None]
) -> Program:
    """Resolve a pipeline with the learned banks that ``load`` has; what it lacks stays among the program's fits."""
    fitted: dict[str, FittedBank] = {}
    program = make_program(features, channels)
    while new := {one.key: bank for one in program.fits if (bank := load(one)) is not None}:
        fitted |= new
        program = make_program(features, channels, fitted)
    return program


class _Builder:
    def __init__(self, channels: Sequence[str], fitted: Mapping[str, FittedBank]) -> None:
        self.fitted = fitted
        self.fits: dict[str, FitRequest] = {}
        self.above: tuple[int, Sequence[Layer]] = (1, ())
        """Scale of the branch, and its layers before the one that is added."""
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
                self.above = (scale, branch.layers[:i])
                if isinstance(layer, SaveLayer):
                    self.outputs.append(Output(f"{name}/{layer.save}/scale{scale}", name, scale, node))
                    continue
                try:
                    if isinstance(layer, ImportLayer):
                        last = layer is branch.layers[-1]
                        node = self._add_import(node, layer.imported, (*where, "import"), (name, scale), last=last)
                    else:
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
            case ProductsLayer() | EigenvaluesLayer() | BifLayer() | CodeLayer():
                op, labels, title = combine_features(layer, features, where)
                return self._append(parent, op, POINT, labels, title, where)
            case LocalLayer():
                return self._add_local(parent, layer.local, (*where, "local"))
            case NormalizeLayer():
                return self._add_normalize(parent, layer.normalize, (*where, "normalize"))
        raise AssertionError(f"no op for {layer!r}")

    def _add_convolve(self, parent: int, spec: Convolve, where: Location) -> int:
        if isinstance(spec.source, (FitBank, LearnedBank)):
            return self._add_learned(parent, spec, where)
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
        count, depth = len(bank.kernels), 1 if each else len(inputs)
        check_weights(bank, depth, where)
        bias = _given_bias(spec, count, where)
        sweeps = _sweeps(bank.size, spec.stride, spec.dilation, spec.padding)
        op = ConvolveOp(
            _groups(bank, spec, each=each, depth=depth),
            np.broadcast_to(bias, (count,)).copy(),
            each,
            spec.contrast.epsilon if spec.contrast else None,
        )
        kernels = [kernel.labels for kernel in bank.kernels]
        labels = spread_labels(kernels, inputs, where) if each else kernels
        name = str(kernels[0].get("bank", "kernels"))
        title = f"convolve {name} {bank.size[0]}×{bank.size[1]}"
        if any(group.factors for group in op.groups):
            title += " separable" if all(group.factors for group in op.groups) else " partly separable"
        return self._append(parent, op, sweeps, labels, title, where)

    def _add_learned(self, parent: int, spec: Convolve, where: Location) -> int:
        """Add a learned bank: its projections, or its distances as two nodes."""
        features, each = self._features(parent), spec.channels == "each"
        inputs = 1 if each else len(features)
        if isinstance(spec.source, LearnedBank):
            learned = read_bank_file(spec, inputs, where)
        else:
            assert isinstance(spec.source, FitBank)
            check_fit(spec.source, inputs, where)
            key = fit_key(*self.above, spec, [str(labels["channel"]) for labels in self.channels])
            learned = self.fitted.get(key) or placeholder(spec.source, inputs)
            if key not in self.fitted:
                epsilon = spec.contrast.epsilon if spec.contrast else None
                steps = (spec.dilation[0], spec.dilation[1])
                self.fits.setdefault(key, FitRequest(key, parent, spec.source, steps, epsilon, inputs, each, where))
        bank, count = learned.bank(), len(learned.bias)
        bias = learned.bias + np.asarray(_given_bias(spec, count, where), np.float64)
        if spec.response == "distance":
            bank, bias = learned.distance_bank()
        sweeps = _sweeps(bank.size, spec.stride, spec.dilation, spec.padding)
        groups = _groups(bank, spec, each=each, depth=inputs)
        op = ConvolveOp(groups, bias.astype(np.float32), each, spec.contrast.epsilon if spec.contrast else None)
        labels = [kernel.labels for kernel in bank.kernels]
        if each:
            labels = spread_labels(labels, features, where)
        title = f"convolve {learned.name} {bank.size[0]}×{bank.size[1]}"
        node = self._append(parent, op, sweeps, labels, title, where)
        if spec.response == "distance":
            node = self._append(node, DistanceOp(), POINT, labels[:count], "distance", where)
        return node

    def _add_import(self, parent: int, spec: Import, where: Location, saved: tuple[str, int], *, last: bool) -> int:
        """Add an imported stack's layers, and the outputs that it saves for a branch and scale."""
        steps = import_steps(spec, len(self._features(parent)), where)
        if last and steps[-1].tap is not None:
            what = f"{steps[-1].tap!r} is the last map of the branch, which is kept anyway."
            raise _problem((*where, "taps"), what, "Remove this tap.")
        for step in steps:
            match step.layer:
                case Imported(op=op, size=size, padding=padding, labels=labels, title=title):
                    sweeps = _sweeps(size, [1, 1], [1, 1], padding)
                    parent = self._append(parent, op, sweeps, labels, title, where)
                case Activation():
                    parent = self._add_activation(parent, step.layer, where)
                case Pool():
                    parent = self._add_pool(parent, step.layer, where)
            if step.tap is not None:
                name, scale = saved
                self.outputs.append(Output(f"{name}/{step.tap}/scale{scale}", name, scale, parent))
        return parent

    def _add_local(self, parent: int, spec: Local, where: Location) -> int:
        op, labels = make_local(spec, len(self._features(parent)), where)
        size = op.kernels.shape.size
        sweeps = _sweeps(size, spec.stride, [1, 1], spec.padding)
        return self._append(parent, op, sweeps, labels, f"local {size[0]}×{size[1]}", where)

    def _add_activation(self, parent: int, spec: Activation, where: Location) -> int:
        features = self._features(parent)
        if spec.split is not None:
            check_count(2 * len(features), where)
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
        by: Statistic = "sum" if spec.by == "histogram" else spec.by
        if spec.bins is not None:
            features = histogram_labels(features, spec.bins, where)
        if isinstance(spec.over, Cells):
            rows, cols = spec.over.grid
            title = f"pool {spec.by} " + ("global" if rows == cols == 1 else f"grid {rows}×{cols}")
            return self._append(parent, GridOp(by, (rows, cols), spec.bins), POINT, features, title, where)
        sweeps = _sweeps((spec.over[0], spec.over[1]), spec.stride or spec.over, [1, 1], spec.padding)
        return self._append(
            parent, PoolOp(by, spec.bins), sweeps, features, f"pool {spec.by} {spec.over[0]}×{spec.over[1]}", where
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


def _given_bias(spec: Convolve, count: int, where: Location) -> npt.NDArray[np.float32]:
    """Return what is added to the responses of so many kernels: one number, or one for each."""
    if isinstance(spec.bias, str):
        bias = read_bias(spec.bias, key_path((*where, "bias")), (*where, "bias"))
    else:
        bias = np.asarray(spec.bias, np.float32)
    if bias.ndim and len(bias) != count:
        raise _problem((*where, "bias"), f"has {len(bias)} values for {count} kernels.", "Give one, or one per kernel.")
    return bias


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
