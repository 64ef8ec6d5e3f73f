"""One pass, or one node by itself, on one strip of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.caches import Cache
from featpipe.chain.panels import LaidOut, lay_out
from featpipe.kernels.cells import CellPool
from featpipe.kernels.combining import combine
from featpipe.kernels.convolve import DirectKernels
from featpipe.kernels.flat import Cut, deal_out, interleave, lay_dealt_out, lay_interleaved, odd_lines, pad_block
from featpipe.kernels.frame import BY_KERNEL, BY_ROW, COPY, SEPARABLY, Frame, Sums
from featpipe.kernels.histogram import count_cells, count_windows
from featpipe.kernels.local import connect_locally
from featpipe.kernels.moments import add_moments, fold_deviations, window_moments
from featpipe.kernels.pointwise import activate
from featpipe.kernels.pool import NO_POOLING, Pooling, pool_windows
from featpipe.kernels.rows import BUFFER_BYTES, compute_rows, freeze
from featpipe.kernels.separable import SeparableKernels
from featpipe.kernels.tiles import PIXELS, ROW_PIXELS
from featpipe.plan.passes import Pass
from featpipe.plan.program import (
    ActivateOp,
    CombineOp,
    ConvolveOp,
    FoldOp,
    GridOp,
    LocallyConnectedOp,
    LocalOp,
    Node,
    PoolOp,
    Program,
)
from featpipe.plan.schedule import FLOAT, Shape, Spans

Float32 = npt.NDArray[np.float32]
NO_FLOATS = np.empty(0, np.float32)
NO_COUNTS = np.empty(0, np.int64)
NO_MAP = np.empty((0, 0, 0, 0), np.float32)
NO_TOTALS = np.empty((0, 0, 0, 0), np.float64)


@dataclass(frozen=True, eq=False)
class Strip:
    """What a pass works on."""

    block: Float32
    """(n, y, x, c), C-contiguous: samples ``have`` of the first node's input."""
    have: Spans
    spans: tuple[Spans, ...]
    """What is read of the first node's input, then what is made of every node's output."""
    shapes: tuple[Shape, ...]
    """Of the whole input map of every node."""


def run_pass(program: Program, one: Pass, strip: Strip, out: Float32, top: int) -> None:
    """Compute a strip of a map.

    Parameters
    ----------
    program : Program
    one : Pass
        Whose last node is no grid pooling.
    strip : Strip
    out : (n, y, x, k) float32
        C-contiguous; its rows from ``top`` on are written.
    top : int
    """
    if one.panels:
        _run_panels(program, one, strip, out, top, None)
        return
    node, rows = program.nodes[one.nodes[0]], strip.spans[1][0].length
    if isinstance(node.op, PoolOp) and node.op.bins is not None:
        cut, (y, x) = _cut(node, strip), node.sweeps
        count_windows(strip.block, cut.rows, cut.cols, (y.size, x.size), (y.stride, x.stride), node.op.bins, out, top)
        return
    out[:, top : top + rows] = _apply_alone(node, strip)


def pool_pass(program: Program, one: Pass, strip: Strip, cells: CellPool) -> None:
    """Run a pass that ends in a grid pooling, whose totals ``cells`` holds."""
    if one.panels:
        _run_panels(program, one, strip, NO_MAP, 0, cells)
        return
    op, (y, x) = program.nodes[one.nodes[0]].op, strip.spans[0]
    block = strip.block[:, y.within(strip.have[0]), x.within(strip.have[1])]
    if isinstance(op, GridOp) and op.bins is not None:
        count_cells(block, cells.pooling(y, x), op.bins, cells.totals)
    else:
        assert cells.squares is not None
        add_moments(block, cells.pooling(y, x), cells.totals, cells.squares)


def _run_panels(program: Program, one: Pass, strip: Strip, out: Float32, top: int, cells: CellPool | None) -> None:
    geometry = _geometry(program, one, strip, top, cells)
    flats: dict[bool, Float32] = {}
    scales: dict[int, Float32] = {}
    totals = NO_TOTALS if cells is None else cells.totals
    for panel, frame, kernels in geometry.panels:
        planar = frame.front in (BY_ROW, SEPARABLY)
        if planar not in flats:
            flats[planar] = geometry.lay_out(strip.block, planar)
        sums = kernels
        if geometry.epsilon is not None:
            sums = freeze(kernels._replace(scales=geometry.scale(strip.block, panel, scales)))
        compute_rows(flats[planar], frame, sums, panel.stages, geometry.pooling, panel.runs, panel.cut, out, totals)


def _geometry(program: Program, one: Pass, strip: Strip, top: int, cells: CellPool | None) -> _Geometry:
    """Return all that does not depend on pixels; asked again for a like strip, return the same."""
    key = (one.nodes, strip.have, strip.spans, strip.shapes, strip.block.shape[1:], top, cells is None)
    most = max(GEOMETRIES, len(program.nodes))  # one shape's, where there are many branches
    return _GEOMETRIES.get(program, key, lambda: _Geometry(program, one, strip, top, cells), most)


def _pooling(nodes: list[Node], strip: Strip, top: int, cells: CellPool | None) -> tuple[Pooling, Spans]:
    """Return how a pass ends, and which rows and columns are made for that."""
    last = nodes[-1]
    if cells is not None:
        return cells.pooling(*strip.spans[-2]), strip.spans[-2]
    if not isinstance(last.op, PoolOp):
        return NO_POOLING, strip.spans[-1]
    sweeps, windows = last.sweeps, strip.spans[-1]
    first = [sweep.wanted(span) for sweep, span in zip(sweeps, windows, strict=True)]
    made = strip.spans[-2]
    if len(nodes) == 1 and any(sweep.mode != "zero" for sweep in sweeps):
        made = (first[0], first[1])
    pooling = pool_windows(
        last.op.by,
        (sweeps[0].size, sweeps[1].size),
        (sweeps[0].stride, sweeps[1].stride),
        (first[0].start - made[0].start, first[1].start - made[1].start),
        (windows[0].length, windows[1].length),
        top,
    )
    return pooling, made


class _Geometry:
    """A pass on a strip, but for the pixels: where they lie, which rows are made of them, how those are pooled."""

    def __init__(self, program: Program, one: Pass, strip: Strip, top: int, cells: CellPool | None) -> None:
        nodes = [program.nodes[node] for node in one.nodes]
        self.first = nodes[0]
        self.op = self.first.op if isinstance(self.first.op, ConvolveOp) else None
        pooling, self.made = _pooling(nodes, strip, top, cells)
        self.pooling = freeze(pooling)
        sweeps, wanted = self.first.sweeps, self.made
        if self.op is not None:
            wanted = (sweeps[0].wanted(wanted[0]), sweeps[1].wanted(wanted[1]))
        self.cut = Cut(strip.have, wanted, strip.shapes[0], (sweeps[0].mode, sweeps[1].mode))
        height, width, channels = strip.block.shape[1:]
        self.interleaved = lay_interleaved(self.cut, (height, width), channels)
        self.dealt_out = lay_dealt_out(self.cut, channels, sweeps[1].stride)
        self.panels = [(panel, *self._panel(panel, 0 if pooling.kind else top)) for panel in lay_out(program, one)]

    @property
    def epsilon(self) -> float | None:
        return None if self.op is None else self.op.epsilon

    def lay_out(self, block: Float32, planar: bool) -> Float32:
        """Lay out the pixels for tiles of one kind."""
        return deal_out(block, self.cut, self.dealt_out) if planar else interleave(block, self.cut)

    def _panel(self, panel: LaidOut, top: int) -> tuple[Frame, Sums]:
        """Return the frame of a panel, and its kernels."""
        kernels, group = panel.kernels, panel.panel.group
        if kernels is None or group is None:
            return self._frame(panel, COPY, top), freeze(NO_SUMS)
        if isinstance(kernels, DirectKernels):
            frame = self._frame(panel, BY_KERNEL if kernels.by_kernel else BY_ROW, top)
            flat = self.interleaved if kernels.by_kernel else self.dealt_out
            offsets = flat.tap_offsets(kernels.taps, group.corner, self._dilation)
            sums = NO_SUMS._replace(weights=kernels.weights, tiles=kernels.tiles, offsets=offsets)
        else:
            frame = self._frame(panel, SEPARABLY, top)
            sums = self._separable(kernels, group.corner, frame)
        contrast = self.epsilon is not None  # the bias is added when the contrast has been normalised
        bias = np.zeros_like(panel.bias) if contrast else panel.bias
        return frame, freeze(sums._replace(bias=bias, shift=panel.bias if contrast else NO_FLOATS))

    def _separable(self, kernels: SeparableKernels, corner: tuple[int, int], frame: Frame) -> Sums:
        flat, dilation = self.dealt_out, self._dilation
        return NO_SUMS._replace(
            weights=kernels.down,
            tiles=kernels.down_tiles,
            offsets=(corner[0] + np.arange(kernels.rows) * dilation[0]) * flat.line,
            steps=kernels.steps,
            across=kernels.across,
            across_tiles=kernels.tiles,
            across_offsets=kernels.tap_offsets(corner[1], dilation[1], flat.phases, frame.scratch, frame.pitch),
            none=np.zeros(max(kernels.ranks, kernels.products), np.float32),
        )

    def _frame(self, panel: LaidOut, front: int, top: int) -> Frame:
        height, width = self.made[0].length, self.made[1].length
        stride = (self.first.sweeps[0].stride, self.first.sweeps[1].stride) if self.op is not None else (1, 1)
        planar = front in (BY_ROW, SEPARABLY)
        flat = self.dealt_out if planar else self.interleaved
        line = flat.line if planar else width
        row = panel.widest * line * FLOAT
        # single rows waste the end of their last tile
        together = min(height, 2 if row <= BUFFER_BYTES < 2 * row else max(1, BUFFER_BYTES // row))
        if planar and stride[0] > 1:
            together = 1
        run = (together - 1) * line + width
        kernels = panel.kernels if isinstance(panel.kernels, SeparableKernels) else None
        return Frame(
            front=front,
            features=panel.features,
            widest=panel.widest,
            height=height,
            width=width,
            origin=flat.origin + panel.panel.channel * flat.channel,
            image=flat.size,
            row=flat.line * stride[0],
            pixel=flat.pixel * (1 if planar else stride[1]),
            line=line,
            together=together,
            phases=flat.phases,
            phase=flat.phase,
            pitch=odd_lines(-(-run // ROW_PIXELS) * ROW_PIXELS) if planar else run + PIXELS,
            scratch=odd_lines((-(-together * line // ROW_PIXELS) + 1) * ROW_PIXELS) if kernels else 0,
            ranks=kernels.ranks if kernels else 0,
            products=kernels.products if kernels else 0,
            top=top,
        )

    @property
    def _dilation(self) -> tuple[int, int]:
        return self.first.sweeps[0].dilation, self.first.sweeps[1].dilation

    def scale(self, block: Float32, panel: LaidOut, made: dict[int, Float32]) -> Float32:
        """Return 1 / √(variance + epsilon) of every patch, (n · y · x,) and some more; ``made`` has those so far."""
        op, group = self.op, panel.panel.group
        assert op is not None
        assert op.epsilon is not None
        assert group is not None
        if id(group) not in made:
            sweeps, padded = self.first.sweeps, pad_block(block, self.cut)
            size = group.weights.shape[1:3]
            stride = (sweeps[0].stride, sweeps[1].stride)
            reach = [
                (made.length - 1) * sweep.stride + (n - 1) * sweep.dilation + 1
                for made, sweep, n in zip(self.made, sweeps, size, strict=True)
            ]
            y, x = group.corner
            part = np.ascontiguousarray(padded[:, y : y + reach[0], x : x + reach[1]])
            _, variance = window_moments(part, (size[0], size[1]), stride, self._dilation, across=not op.each)
            scales = (1.0 / np.sqrt(variance + op.epsilon)).transpose(3, 0, 1, 2).reshape(variance.shape[3], -1)
            made[id(group)] = np.pad(scales.astype(np.float32, order="C"), ((0, 0), (0, PIXELS)))
        chosen: Float32 = made[id(group)][panel.panel.channel if op.each else 0]
        return chosen


GEOMETRIES = 64
"""Strips whose numbers are kept at least: the images of a batch are alike, those of a collection often."""
_GEOMETRIES: Cache[_Geometry] = Cache(GEOMETRIES)
NO_SUMS = Sums(
    weights=NO_FLOATS,
    tiles=NO_COUNTS,
    offsets=NO_COUNTS,
    bias=NO_FLOATS,
    steps=np.empty((0, 7), np.int64),
    across=NO_FLOATS,
    across_tiles=NO_COUNTS,
    none=NO_FLOATS,
    across_offsets=NO_COUNTS,
    scales=NO_FLOATS,
    shift=NO_FLOATS,
)


def _cut(node: Node, strip: Strip) -> Cut:
    """Return what a node by itself wants of its input."""
    sweeps, out = node.sweeps, strip.spans[1]
    wanted = (sweeps[0].wanted(out[0]), sweeps[1].wanted(out[1]))
    return Cut(strip.have, wanted, strip.shapes[0], (sweeps[0].mode, sweeps[1].mode))


def _apply_alone(node: Node, strip: Strip) -> Float32:
    """Compute a node that is a pass by itself."""
    sweeps, out = node.sweeps, strip.spans[1]
    padded = pad_block(strip.block, _cut(node, strip))
    size, stride = (sweeps[0].size, sweeps[1].size), (sweeps[0].stride, sweeps[1].stride)
    match node.op:
        case ActivateOp(name=name):
            return activate(padded, name)
        case FoldOp(starts=starts, members=members):
            return fold_deviations(padded, starts, members)
        case CombineOp(formula=formula, starts=starts, members=members, numbers=numbers):
            return combine(padded, formula, starts, members, numbers)
        case PoolOp():
            _, variance = window_moments(padded, size, stride)
            return np.sqrt(variance).astype(np.float32)
        case LocalOp(epsilon=epsilon):
            mean, variance = window_moments(padded, size)
            y, x = size[0] // 2, size[1] // 2
            centre = padded[:, y : y + out[0].length, x : x + out[1].length]
            return ((centre - mean) / np.sqrt(variance + epsilon)).astype(np.float32)
        case LocallyConnectedOp(kernels=kernels, bias=bias):
            whole = sweeps[0].length(strip.shapes[0][0]), sweeps[1].length(strip.shapes[0][1])
            made = np.empty((len(padded), out[0].length, out[1].length, len(node.features)), np.float32)
            connect_locally(padded, kernels.over(whole), bias, (out[0].start, out[1].start), stride, made)
            return made
    raise TypeError(f"{node.title} is never a pass by itself")
