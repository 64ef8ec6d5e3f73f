"""Following a schedule: segment by segment, strip by strip, handing out each wanted map as soon as it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from featpipe.chain.apply import NO_MAP, Strip, pool_pass, run_pass
from featpipe.geometry.axis import Span
from featpipe.kernels.cells import CellPool
from featpipe.plan.passes import split_passes
from featpipe.plan.program import ROOT, GridOp, Node, Program
from featpipe.plan.schedule import (
    STRIP_BYTES,
    Schedule,
    Segment,
    Shape,
    Spans,
    make_schedule,
    pooled_spans,
    read_spans,
    strip_bytes,
    strip_rows,
    whole,
)

Float32 = npt.NDArray[np.float32]


def run_schedule(
    program: Program, schedule: Schedule, given: Mapping[int, Float32], cells: Mapping[int, CellPool] | None = None
) -> Iterator[tuple[int, Float32]]:
    """Compute the wanted maps of one block for a batch of images of one shape.

    Parameters
    ----------
    program : Program
    schedule : Schedule
    given : mapping of int to (n, y, x, c) float32
        The given maps over ``schedule.needs``; the image under ``ROOT``. Never written to.
    cells : mapping of int to CellPool, optional
        The cells of grid poolings that are given a part of their input: they are added to, and not yielded.

    Yields
    ------
    node : int
    values : (n, y, x, k) float32
        The node's map over ``schedule.wants[node]``.
    """
    maps: dict[int, Float32] = {node: np.ascontiguousarray(values) for node, values in given.items()}
    last = schedule.last_use()
    for node in schedule.wants:
        if node in given:
            yield node, _crop(maps[node], schedule, node)
    for node in [node for node in maps if node not in last]:
        del maps[node]
    for i, segment in enumerate(schedule.segments):
        pool = (cells or {}).get(segment.end)
        values = _run_segment(program, schedule, segment, maps[segment.source], pool)
        if segment.end in last:
            maps[segment.end] = values
        if segment.end in schedule.wants and pool is None:
            yield segment.end, _crop(values, schedule, segment.end)
        del values
        for node in [node for node in maps if last[node] <= i]:
            del maps[node]


def _crop(values: Float32, schedule: Schedule, node: int) -> Float32:
    need, want = schedule.needs[node], schedule.wants[node]
    return values[:, want[0].within(need[0]), want[1].within(need[1])]


def _run_segment(
    program: Program, schedule: Schedule, segment: Segment, source: Float32, cells: CellPool | None
) -> Float32:
    """Compute a kept map; add to ``cells`` instead, where given, and return nothing."""
    made = pooled_spans(program, schedule, segment)
    rows = strip_rows(program, schedule, segment)
    per_image, _ = strip_bytes(program, schedule, segment, rows)
    together = max(1, 2 * STRIP_BYTES // max(1, per_image))
    end = program.nodes[segment.end]
    if isinstance(end.op, GridOp):
        out = NO_MAP if cells else np.empty((len(source), *end.op.grid, len(end.features)), np.float32)
    else:
        out = np.empty((len(source), made[0].length, made[1].length, len(end.features)), np.float32)
    for first in range(0, len(source), together):
        images = slice(first, first + together)
        pool = cells
        if pool is None and isinstance(end.op, GridOp):
            pool = cell_pool(program, schedule.shapes, segment.end, len(source[images]))
        for strip in _strips(made[0], rows):
            _run_strip(program, schedule, segment, source[images], (strip, made[1]), out[images], pool)
        if pool is not None and cells is None:
            out[images] = pool.result()
    return out


def cell_pool(program: Program, shapes: Mapping[int, Shape], grid: int, images: int) -> CellPool:
    """Return the empty cells of a grid pooling."""
    node = program.nodes[grid]
    assert isinstance(node.op, GridOp)
    height, width = shapes[node.parent]
    return CellPool(node.op.by, node.op.grid, images=images, height=height, width=width, features=len(node.features))


def _strips(span: Span, rows: int) -> Iterator[Span]:
    for start in range(span.start, span.stop, rows):
        yield Span(start, min(start + rows, span.stop))


def _run_strip(
    program: Program,
    schedule: Schedule,
    segment: Segment,
    source: Float32,
    made: Spans,
    out: Float32,
    cells: CellPool | None,
) -> None:
    """Follow a strip through all passes of a segment, into its rows of ``out`` or into ``cells``."""
    shapes = [schedule.shapes[program.nodes[node].parent] for node in segment.nodes]
    nodes = [program.nodes[node] for node in segment.nodes]
    spans = _strip_spans(nodes[:-1] if cells else nodes, shapes, made)
    if cells:
        spans.append(made)  # stands for the grid's cells
    block, have, at = source, schedule.needs[segment.source], 0
    passes = split_passes(program, segment.nodes)
    for one in passes:
        until = at + len(one.nodes)
        strip = Strip(block, have, tuple(spans[at : until + 1]), tuple(shapes[at:until]))
        if one is not passes[-1]:
            y, x = spans[until]
            block = np.empty((len(source), y.length, x.length, program.width(one.nodes[-1])), np.float32)
            run_pass(program, one, strip, block, 0)
            have = (y, x)
        elif cells:
            pool_pass(program, one, strip, cells)
        else:
            run_pass(program, one, strip, out, made[0].start - schedule.needs[segment.end][0].start)
        at = until


def _strip_spans(nodes: list[Node], shapes: list[Shape], out: Spans) -> list[Spans]:
    """Return the spans of each node's output that lead to ``out`` of the last, first node's input span first."""
    spans = [out]
    for node, above in zip(reversed(nodes), reversed(shapes[: len(nodes)]), strict=True):
        spans.insert(0, read_spans(node, spans[0], above))
    return spans


def run_whole(program: Program, images: Float32, wants: frozenset[int] | None = None) -> dict[int, Float32]:
    """Compute whole maps of a batch of whole images.

    Parameters
    ----------
    program : Program
    images : (n, y, x, c) float32
    wants : set of int, optional
        Nodes; all outputs unless given.

    Returns
    -------
    dict of int to (n, y, x, k) float32
    """
    shape = (images.shape[1], images.shape[2])
    schedule = whole_schedule(program, shape, wants)
    return dict(run_schedule(program, schedule, {ROOT: images}))


def whole_schedule(program: Program, shape: Shape, wants: frozenset[int] | None = None) -> Schedule:
    """Plan whole maps of images of one shape."""
    nodes = wants if wants is not None else frozenset(output.node for output in program.outputs)
    shapes = make_schedule(program, shape, {}).shapes
    return make_schedule(program, shape, {node: whole(shapes[node]) for node in nodes})
