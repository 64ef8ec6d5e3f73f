"""Following a schedule: segment by segment, strip by strip, handing out each wanted map as soon as it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from featpipe.chain.apply import apply_node, strip_spans
from featpipe.geometry.axis import Span
from featpipe.kernels.cells import CellPool
from featpipe.plan.program import ROOT, GridOp, Program
from featpipe.plan.schedule import (
    STRIP_BYTES,
    Schedule,
    Segment,
    Shape,
    Spans,
    make_schedule,
    strip_bytes,
    strip_rows,
    whole,
)

Float32 = npt.NDArray[np.float32]


def run_schedule(program: Program, schedule: Schedule, given: Mapping[int, Float32]) -> Iterator[tuple[int, Float32]]:
    """Compute the wanted maps of one block for a batch of images of one shape.

    Parameters
    ----------
    program : Program
    schedule : Schedule
    given : mapping of int to (n, y, x, c) float32
        The given maps over ``schedule.needs``; the image under ``ROOT``. Never written to.

    Yields
    ------
    node : int
    values : (n, y, x, k) float32
        The node's map over ``schedule.wants[node]``.
    """
    maps: dict[int, Float32] = dict(given)
    last = schedule.last_use()
    for node in schedule.wants:
        if node in given:
            yield node, _crop(maps[node], schedule, node)
    for node in [node for node in maps if node not in last]:
        del maps[node]
    for i, segment in enumerate(schedule.segments):
        values = _run_segment(program, schedule, segment, maps[segment.source])
        if segment.end in last:
            maps[segment.end] = values
        if segment.end in schedule.wants:
            yield segment.end, _crop(values, schedule, segment.end)
        del values
        for node in [node for node in maps if last[node] <= i]:
            del maps[node]


def _crop(values: Float32, schedule: Schedule, node: int) -> Float32:
    need, want = schedule.needs[node], schedule.wants[node]
    return values[:, want[0].within(need[0]), want[1].within(need[1])]


def _run_segment(program: Program, schedule: Schedule, segment: Segment, source: Float32) -> Float32:
    rows = strip_rows(program, schedule, segment)
    per_image = max(1, strip_bytes(program, schedule, segment, rows))
    together = max(1, 2 * STRIP_BYTES // per_image)
    end = program.nodes[segment.end]
    if isinstance(end.op, GridOp):
        return _run_grid(program, schedule, segment, source, rows, together)
    need = schedule.needs[segment.end]
    out = np.empty((len(source), need[0].length, need[1].length, len(end.features)), np.float32)
    for images in range(0, len(source), together):
        batch = slice(images, images + together)
        for strip in _strips(need[0], rows):
            out[batch, strip.within(need[0])] = _run_strip(
                program, schedule, segment.source, segment.nodes, source[batch], (strip, need[1])
            )
    return out


def _strips(span: Span, rows: int) -> Iterator[Span]:
    for start in range(span.start, span.stop, rows):
        yield Span(start, min(start + rows, span.stop))


def _run_grid(
    program: Program, schedule: Schedule, segment: Segment, source: Float32, rows: int, together: int
) -> Float32:
    end = program.nodes[segment.end]
    assert isinstance(end.op, GridOp)
    height, width = schedule.shapes[end.parent]
    results = []
    for images in range(0, len(source), together):
        batch = source[images : images + together]
        pool = CellPool(
            end.op.by, end.op.grid, images=len(batch), height=height, width=width, features=len(end.features)
        )
        for strip in _strips(Span(0, height), rows):
            spans = (strip, Span(0, width))
            block = _run_strip(program, schedule, segment.source, segment.nodes[:-1], batch, spans)
            pool.add(block, *spans)
        results.append(pool.result())
    return np.concatenate(results)


def _run_strip(
    program: Program, schedule: Schedule, source: int, nodes: tuple[int, ...], block: Float32, out: Spans
) -> Float32:
    chain = [program.nodes[node] for node in nodes]
    shapes = [schedule.shapes[node.parent] for node in chain]
    if not chain:
        have = schedule.needs[source]
        return block[:, out[0].within(have[0]), out[1].within(have[1])]
    spans = strip_spans(chain, shapes, out)
    have = schedule.needs[source]
    for node, above, target in zip(chain, shapes, spans[1:], strict=True):
        block = apply_node(node, block, have, target, above)
        have = target
    return block


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
