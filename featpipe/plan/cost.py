"""What layers cost: operations, and the time that a core of nominal speed takes for them.

The times choose task sizes and are shown by ``featpipe plan``. They come from the pipeline alone, so that shards do not
depend on the machine that planned them; a real core may take half as long, or three times.
"""

from __future__ import annotations

from collections.abc import Mapping

from featpipe.plan.program import ROOT, CombineOp, ConvolveOp, GridOp, LocallyConnectedOp, PoolOp, Program
from featpipe.plan.schedule import Shape, node_shapes

DIRECT_FLOPS = 150e9
"""Of kernels taken in one pass, per second."""
SEPARABLE_FLOPS = 100e9
"""Of separable kernels: their passes are short, and wait for loads more."""
LOCAL_FLOPS = 5e9
"""Of kernels that differ by position, per second: each is fetched from memory."""
VALUES = 2e9
"""Values that leave a layer, per second."""
COUNTED = 4e8
"""Samples that go into a histogram, or into a formula of several features, per second."""
PIXELS = 25e6
"""Pixels decoded and resized, per second."""


def node_flops(program: Program, node: int, outputs: int) -> int:
    """Return the operations of computing ``outputs`` positions of a node (a multiply-add is two)."""
    direct, separable = _convolution_flops(program, node, outputs)
    this = program.nodes[node]
    if isinstance(this.op, GridOp):
        return 0  # counted by its input's samples, which are few beside the rest
    if isinstance(this.op, ConvolveOp):
        return direct + separable
    if isinstance(this.op, LocallyConnectedOp):
        return 2 * node_parameters(program, node, outputs)
    if isinstance(this.op, PoolOp) and this.op.bins is not None:
        return outputs * program.width(this.parent) * this.sweeps[0].size * this.sweeps[1].size
    return outputs * len(this.features) * this.sweeps[0].size * this.sweeps[1].size


def node_parameters(program: Program, node: int, outputs: int) -> int:
    """Return how many numbers the kernels of a node hold that has ``outputs`` positions; biases are not counted."""
    op = program.nodes[node].op
    if isinstance(op, LocallyConnectedOp):
        return outputs * op.kernels.shape.parameters
    return sum(group.weights.size for group in op.groups) if isinstance(op, ConvolveOp) else 0


def node_seconds(program: Program, node: int, shapes: Mapping[int, Shape]) -> float:
    """Return the nominal time of a node's whole map on one core, for maps of these shapes."""
    this = program.nodes[node]
    outputs = shapes[node][0] * shapes[node][1]
    direct, separable = _convolution_flops(program, node, outputs)
    if isinstance(this.op, LocallyConnectedOp):
        return node_flops(program, node, outputs) / LOCAL_FLOPS
    if isinstance(this.op, ConvolveOp):
        values = outputs * len(this.features)
    elif isinstance(this.op, CombineOp):
        return outputs * len(this.op.members) / COUNTED
    elif isinstance(this.op, (PoolOp, GridOp)) and this.op.bins is not None:
        return _histogram_seconds(program, node, shapes)
    else:
        values = shapes[this.parent][0] * shapes[this.parent][1] * program.width(this.parent)
    return direct / DIRECT_FLOPS + separable / SEPARABLE_FLOPS + values / VALUES


def _histogram_seconds(program: Program, node: int, shapes: Mapping[int, Shape]) -> float:
    this = program.nodes[node]
    outputs = shapes[node][0] * shapes[node][1]
    samples = shapes[this.parent][0] * shapes[this.parent][1]
    if isinstance(this.op, PoolOp):
        samples = outputs * this.sweeps[0].size * this.sweeps[1].size
    return samples * program.width(this.parent) / COUNTED + outputs * len(this.features) / VALUES


def image_seconds(program: Program, image: Shape) -> float:
    """Return the nominal time of one image on one core, reading included."""
    shapes = node_shapes(program, image)
    nodes = sum(node_seconds(program, node, shapes) for node in range(len(program.nodes)))
    return nodes + shapes[ROOT][0] * shapes[ROOT][1] / PIXELS


def _convolution_flops(program: Program, node: int, outputs: int) -> tuple[int, int]:
    """Return the operations of kernels taken in one pass, and of separable ones."""
    this = program.nodes[node]
    if not isinstance(this.op, ConvolveOp):
        return 0, 0
    inputs = program.width(this.parent) if this.op.each else 1
    direct = sum(group.multiplies for group in this.op.groups if not group.factors)
    separable = sum(group.multiplies for group in this.op.groups if group.factors)
    return 2 * outputs * inputs * direct, 2 * outputs * inputs * separable
