"""Panels as the loop over rows takes them: kernels in registers' order, layers as stages, features as runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from featpipe.caches import Cache
from featpipe.kernels.convolve import DirectKernels, lay_out_kernels
from featpipe.kernels.factors import Factors
from featpipe.kernels.pointwise import ENCODERS
from featpipe.kernels.rows import freeze
from featpipe.kernels.separable import SeparableKernels, lay_out_factors
from featpipe.kernels.stages import StageList, Stages
from featpipe.plan.passes import Panel, Pass, fold_groups, panel_features
from featpipe.plan.program import (
    ActivateOp,
    ConvolveOp,
    DistanceOp,
    FoldOp,
    GridOp,
    Node,
    PoolOp,
    Program,
    StandardiseOp,
)

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
NONE = -1
"""The feature of a lane that only fills up a vector."""


@dataclass(frozen=True, eq=False)
class LaidOut:
    """A panel, laid out."""

    panel: Panel
    kernels: DirectKernels | SeparableKernels | None
    """None: the samples themselves."""
    features: int
    """Before the first stage, with those that fill up a vector."""
    bias: Float32
    """By feature."""
    stages: Stages
    widest: int
    """The most features at any stage."""
    runs: Int64
    """(m, 3): first feature of the rows gathered, first of the pass's last map, how many."""
    cut: int
    """The first run of the second half of the rows gathered, where there are two."""


_LAID_OUT: Cache[tuple[LaidOut, ...]] = Cache()
"""By the nodes of a pass."""


def lay_out(program: Program, one: Pass) -> tuple[LaidOut, ...]:
    """Lay out the panels of a pass; asked again, return the same ones."""
    return _LAID_OUT.get(program, one.nodes, lambda: _lay_out_all(program, one))


def _lay_out_all(program: Program, one: Pass) -> tuple[LaidOut, ...]:
    nodes = [program.nodes[node] for node in one.nodes]
    inputs = program.width(nodes[0].parent)
    groups = {id(panel.group): panel.group for panel in one.panels if panel.group is not None}
    parts = {i: {part.members: part for part in group.factors} for i, group in groups.items()}
    return tuple(_lay_out(panel, nodes, inputs, parts.get(id(panel.group), {})) for panel in one.panels)


def _lay_out(panel: Panel, nodes: Sequence[Node], inputs: int, parts: Mapping[tuple[int, ...], Factors]) -> LaidOut:
    op, members = nodes[0].op, panel.members
    if panel.group is None:
        stages, after = _follow(members, inputs, nodes)
        return _finish(panel, None, inputs, np.zeros(0, np.float32), stages, after, nodes[-1])
    assert isinstance(op, ConvolveOp)
    kernels: DirectKernels | SeparableKernels
    if panel.group.factors:
        kernels = lay_out_factors([parts[piece] for piece in panel.pieces])
    else:
        kernels = lay_out_kernels(panel.group.weights[members], pooled=isinstance(nodes[-1].op, (PoolOp, GridOp)))
    lanes = kernels.features - len(members)
    bias = np.pad(op.bias[panel.group.columns[members]], (0, lanes))
    features = [*panel_features(op, panel.group, panel.channel, members), *[NONE] * lanes]
    stages, after = _follow(features, len(nodes[0].features), nodes[1:])
    return _finish(panel, kernels, kernels.features, bias, stages, after, nodes[-1])


def _finish(
    panel: Panel,
    kernels: DirectKernels | SeparableKernels | None,
    features: int,
    bias: Float32,
    stage_list: StageList,
    after: list[int],
    last: Node,
) -> LaidOut:
    stages = freeze(stage_list.finish(last.op.by if isinstance(last.op, (PoolOp, GridOp)) else None))
    width = len(after) // stages.halves
    halves = [_runs(after[start : start + width]) for start in range(0, len(after), width)]
    return LaidOut(panel, kernels, features, bias, stages, stage_list.widest, np.concatenate(halves), len(halves[0]))


def _follow(features: list[int], width: int, nodes: Sequence[Node]) -> tuple[StageList, list[int]]:
    """Return the stages of the pointwise nodes on some of a map's ``width`` features, and which they have become."""
    stages = StageList(len(features))
    for node in nodes:
        match node.op:
            case ActivateOp(name=name) if name in ENCODERS:
                stages.encode(name, [f != NONE for f in features])
            case DistanceOp():
                count = len(node.features)
                stages.measure([f >= count for f in features])
                features = [f if f < count else NONE for f in features]
            case ActivateOp(name=name, threshold=threshold):
                stages.activate(name, threshold)
                if name == "split":
                    features = features + [f if f == NONE else f + width for f in features]
            case StandardiseOp(mean=mean, std=std):
                means, stds = (np.broadcast_to(values, (width,)) for values in (mean, std))
                stages.standardise(
                    [0.0 if f == NONE else float(means[f]) for f in features],
                    [1.0 if f == NONE else float(stds[f]) for f in features],
                )
            case FoldOp(by=by):
                at = {feature: i for i, feature in enumerate(features)}
                first = _GROUPS.get(node.op, "first", partial(_groups_by_first, node.op))
                groups = sorted(first[feature] for feature in features if feature in first)
                stages.fold(by, [[at[member] for member in group] for _, group in groups])
                features = [g for g, _ in groups]
        width = len(node.features)
    return stages, features


_GROUPS: Cache[dict[int, tuple[int, list[int]]]] = Cache()


def _groups_by_first(op: FoldOp) -> dict[int, tuple[int, list[int]]]:
    """Return the number and the features of each group, by its first feature."""
    return {group[0]: (g, group) for g, group in enumerate(fold_groups(op))}


def _runs(features: Sequence[int]) -> Int64:
    """Return the runs of neighbouring features: first here, first there, how many."""
    runs: list[list[int]] = []
    for i, feature in enumerate(features):
        if feature == NONE:
            continue
        if runs and runs[-1][0] + runs[-1][2] == i and runs[-1][1] + runs[-1][2] == feature:
            runs[-1][2] += 1
        else:
            runs.append([i, feature, 1])
    return np.array(runs, np.int64).reshape(-1, 3)
