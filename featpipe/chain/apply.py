"""One node on one strip: cut out the samples it wants, padding included, and call its kernel."""

from __future__ import annotations

from typing import assert_never

import numpy as np
import numpy.typing as npt

from featpipe.kernels.convolve import correlate, shift_and_scale
from featpipe.kernels.pad import cut_block
from featpipe.kernels.pointwise import activate, standardise
from featpipe.kernels.pool import fold_features, padding_fill, pool_windows, window_moments
from featpipe.kernels.separable import correlate_separably
from featpipe.plan.program import (
    ActivateOp,
    ConvolveOp,
    FoldOp,
    GridOp,
    LocalOp,
    Node,
    PoolOp,
    StandardiseOp,
)
from featpipe.plan.schedule import Shape, Spans

Float32 = npt.NDArray[np.float32]


def apply_node(node: Node, block: Float32, have: Spans, out: Spans, above: Shape) -> Float32:
    """Compute outputs ``out`` of a node.

    Parameters
    ----------
    node : Node
        Not a grid pooling.
    block : (n, y, x, c) float32
        Samples ``have`` of the node's input map.
    have, out : (Span, Span)
        Along y and x.
    above : (int, int)
        Shape of the whole input map.

    Returns
    -------
    (n, out y, out x, k) float32
    """
    sweeps = node.sweeps
    wanted = (sweeps[0].wanted(out[0]), sweeps[1].wanted(out[1]))
    modes = (sweeps[0].mode, sweeps[1].mode)
    fill = padding_fill(node.op.by) if isinstance(node.op, PoolOp) else 0.0
    cut = np.ascontiguousarray(cut_block(block, have, wanted, above, modes, fill))
    match node.op:
        case ConvolveOp():
            return _convolve(node, node.op, cut, out)
        case ActivateOp(name=name, threshold=threshold):
            return activate(cut, name, threshold)
        case FoldOp(by=by, starts=starts, members=members):
            return fold_features(cut, by, starts, members)
        case PoolOp(by=by):
            return pool_windows(cut, by, (sweeps[0].size, sweeps[1].size), (sweeps[0].stride, sweeps[1].stride))
        case StandardiseOp(mean=mean, std=std):
            return standardise(cut, mean, std)
        case LocalOp(epsilon=epsilon):
            return _normalise_locally(node, epsilon, cut, out)
        case GridOp():
            raise TypeError("a grid pooling is summed up tile by tile, not applied to a strip")
    assert_never(node.op)


def _convolve(node: Node, op: ConvolveOp, cut: Float32, out: Spans) -> Float32:
    sweeps = node.sweeps
    result = np.empty((len(cut), out[0].length, out[1].length, len(node.features)), np.float32)
    stride = (sweeps[0].stride, sweeps[1].stride)
    dilation = (sweeps[0].dilation, sweeps[1].dilation)
    bias = op.bias if op.epsilon is None else np.zeros_like(op.bias)
    for group in op.groups:
        if group.separable is not None:
            correlate_separably(
                cut,
                group.separable,
                group.columns,
                bias,
                result,
                corner=group.corner,
                stride=stride,
                dilation=dilation,
            )
            continue
        correlate(
            cut,
            group.weights,
            group.columns,
            bias,
            result,
            corner=group.corner,
            stride=stride,
            dilation=dilation,
            each=op.each,
        )
    if op.epsilon is not None:
        _normalise_contrast(node, op, op.epsilon, cut, result)
    return result


def _normalise_contrast(node: Node, op: ConvolveOp, epsilon: float, cut: Float32, result: Float32) -> None:
    """Turn responses to patches x into responses to (x - mean) / √(variance + epsilon): they are linear in x."""
    sweeps = node.sweeps
    channels, count = cut.shape[3], len(op.bias)
    height, width = result.shape[1:3]
    for group in op.groups:
        _, rows, cols, _ = group.weights.shape
        y, x = group.corner
        tall = (height - 1) * sweeps[0].stride + (rows - 1) * sweeps[0].dilation + 1
        wide = (width - 1) * sweeps[1].stride + (cols - 1) * sweeps[1].dilation + 1
        mean, variance = window_moments(
            cut[:, y : y + tall, x : x + wide],
            (rows, cols),
            (sweeps[0].stride, sweeps[1].stride),
            (sweeps[0].dilation, sweeps[1].dilation),
            across=not op.each,
        )
        scale = 1.0 / np.sqrt(variance + epsilon)
        total = group.weights.sum(axis=(1, 2, 3), dtype=np.float64)
        for channel in range(channels if op.each else 1):
            columns = group.columns + channel * count
            shift_and_scale(result, columns, mean[..., channel], scale[..., channel], total, op.bias[group.columns])


def _normalise_locally(node: Node, epsilon: float, cut: Float32, out: Spans) -> Float32:
    sweeps = node.sweeps
    mean, variance = window_moments(cut, (sweeps[0].size, sweeps[1].size), (1, 1), (1, 1), across=False)
    y, x = sweeps[0].size // 2, sweeps[1].size // 2
    centre = cut[:, y : y + out[0].length, x : x + out[1].length]
    return ((centre - mean) / np.sqrt(variance + epsilon)).astype(np.float32)


def strip_spans(nodes: list[Node], shapes: list[Shape], out: Spans) -> list[Spans]:
    """Return the spans of each node's output that lead to ``out`` of the last, first node's input span first."""
    spans = [out]
    for node, above in zip(reversed(nodes), reversed(shapes), strict=True):
        y, x = spans[0]
        spans.insert(0, (node.sweeps[0].read(y, above[0]), node.sweeps[1].read(x, above[1])))
    return spans
