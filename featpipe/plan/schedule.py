"""The order in which a program's maps are computed for given output spans, and what that holds in memory.

Nodes between two *kept* maps form a segment, which is computed strip by strip: a few output rows at a time are followed
through all its nodes, so a full-resolution map that a pooling shrinks exists only as a strip in cache. Kept are the
wanted maps, those that several nodes read, and those that a convolution reads::

    image ──[ convolve · relu · pool ]── kept ──[ convolve · relu · pool ]── kept (wanted)
                 strips of rows                      strips of rows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE
from featpipe.plan.program import POINTWISE, ROOT, ConvolveOp, GridOp, LocalOp, Program

Spans = tuple[Span, Span]
Shape = tuple[int, int]
FLOAT = 4
STRIP_BYTES = 4 << 20
"""A strip's largest map, in bytes: it should stay in cache, yet make few calls. Of 0.5 to 8 MiB, 4 was the fastest on
the Gabor and patch pipelines (10 to 18 % ahead of 1), with 1 MiB of second- and 32 MiB of third-level cache."""


@dataclass(frozen=True)
class Segment:
    """Nodes computed strip by strip, from one kept map to the next."""

    source: int
    nodes: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.nodes[-1]


@dataclass(frozen=True)
class Schedule:
    """What to compute for one block, in order."""

    shapes: dict[int, Shape]
    """Samples along y and x of every node's whole map."""
    needs: dict[int, Spans]
    """Samples computed (or, of the given maps, read) of every active node."""
    wants: dict[int, Spans]
    segments: tuple[Segment, ...]

    def last_use(self) -> dict[int, int]:
        """Return, for every kept map, the index of the last segment that reads it."""
        return {segment.source: i for i, segment in enumerate(self.segments)}


def node_shapes(program: Program, image: Shape) -> dict[int, Shape]:
    """Return the shape (y, x) of every node's map for an image of this shape; 0 or less where a window does not fit."""
    shapes = {ROOT: image}
    for i, node in enumerate(program.nodes):
        above = shapes[node.parent]
        if isinstance(node.op, GridOp):
            rows, cols = node.op.grid
            fits = above[0] >= rows and above[1] >= cols
            shapes[i] = (rows, cols) if fits else (0, 0)
        elif min(above) < 1:
            shapes[i] = (0, 0)
        else:
            shapes[i] = (node.sweeps[0].length(above[0]), node.sweeps[1].length(above[1]))
    return shapes


def whole(shape: Shape) -> Spans:
    """Return the spans of a whole map."""
    return Span(0, shape[0]), Span(0, shape[1])


def read_spans(program: Program, node: int, out: Spans, above: Shape) -> Spans:
    """Return the samples of a node's input, of shape ``above``, that its outputs ``out`` need."""
    if isinstance(program.nodes[node].op, GridOp):
        return whole(above)
    sweeps = program.nodes[node].sweeps
    return sweeps[0].read(out[0], above[0]), sweeps[1].read(out[1], above[1])


def make_schedule(
    program: Program, image: Shape, wants: Mapping[int, Spans], given: frozenset[int] = frozenset({ROOT})
) -> Schedule:
    """Plan one block backwards from what is wanted to what is given.

    Parameters
    ----------
    program : Program
    image : (int, int)
        Height and width of the whole image, in pixels.
    wants : mapping of int to (Span, Span)
        Output samples of the wanted nodes.
    given : set of int
        Nodes whose maps are at hand; the image itself unless told otherwise.
    """
    shapes = node_shapes(program, image)
    needs: dict[int, Spans] = dict(wants)
    readers: dict[int, list[int]] = {}
    for i in range(len(program.nodes) - 1, -1, -1):
        if i not in needs or i in given:
            continue
        parent = program.nodes[i].parent
        spans = read_spans(program, i, needs[i], shapes[parent])
        have = needs.get(parent)
        needs[parent] = spans if have is None else (have[0].hull(spans[0]), have[1].hull(spans[1]))
        readers.setdefault(parent, []).append(i)
    kept = set(wants) | set(given)
    for parent, children in readers.items():
        if len(children) > 1 or isinstance(program.nodes[children[0]].op, (ConvolveOp, LocalOp)):
            kept.add(parent)
    kept |= {i for i in needs if i != ROOT and isinstance(program.nodes[i].op, GridOp)}
    segments = []
    for i in sorted(needs):
        if i in kept and i not in given:
            nodes = [i]
            while program.nodes[nodes[0]].parent not in kept:
                nodes.insert(0, program.nodes[nodes[0]].parent)
            segments.append(Segment(program.nodes[nodes[0]].parent, tuple(nodes)))
    return Schedule(shapes, needs, dict(wants), tuple(segments))


def strip_rows(program: Program, schedule: Schedule, segment: Segment) -> int:
    """Return the output rows (of a grid pooling: input rows, whole tiles) to compute at once, from the cache's size."""
    grid = isinstance(program.nodes[segment.end].op, GridOp)
    through = segment.nodes[:-1] if grid else segment.nodes
    if not through:
        return schedule.shapes[segment.source][0]
    per_row, stride, overlap, tall = 1, 1, 0, 1
    for node in reversed(through):
        width = schedule.needs[node][1].length * program.width(node) * FLOAT
        per_row = max(per_row, width * stride)
        sweep = program.nodes[node].sweeps[0]
        if not isinstance(program.nodes[node].op, (ConvolveOp, LocalOp)):
            overlap += max(0, sweep.extent - sweep.stride) * stride
            stride *= sweep.stride
        else:
            tall = max(tall, sweep.extent)
    # neither should an overlapping pooling compute many rows twice, nor a tall kernel copy its halo for a few rows
    rows = max(1, STRIP_BYTES // per_row, ceil(8 * overlap / stride), ceil(tall / (2 * stride)))
    return ceil(rows / TILE) * TILE if grid else rows


def strip_bytes(program: Program, schedule: Schedule, segment: Segment, rows: int) -> int:
    """Return the most bytes that one strip holds beside the kept maps, for one image."""
    grid = isinstance(program.nodes[segment.end].op, GridOp)
    through = list(segment.nodes[:-1] if grid else segment.nodes)
    spans = schedule.needs[through[-1]] if through else schedule.needs[segment.source]
    y, most = Span(0, min(rows, spans[0].length)), 0
    for node in reversed(through):
        cols = schedule.needs[node][1].length
        out = y.length * cols * program.width(node) * FLOAT
        parent = program.nodes[node].parent
        wanted = tuple(
            sweep.wanted(span)
            for sweep, span in zip(program.nodes[node].sweeps, (y, schedule.needs[node][1]), strict=True)
        )
        taken = wanted[0].length * wanted[1].length * program.width(parent) * FLOAT
        most = max(most, scratch_factor(program, node) * (out + taken))
        y = Span(0, max(1, wanted[0].length))
    return most


def scratch_factor(program: Program, node: int) -> int:
    """Return how many times an op's input and output its temporaries come to, itself included."""
    op = program.nodes[node].op
    if isinstance(op, LocalOp) or (isinstance(op, ConvolveOp) and op.epsilon is not None):
        return 8  # moments in float64
    return 3 if isinstance(op, POINTWISE) else 2


def map_bytes(program: Program, node: int, spans: Spans) -> int:
    """Return the float32 bytes of a node's map over some spans."""
    return spans[0].length * spans[1].length * program.width(node) * FLOAT


def peak_bytes(program: Program, schedule: Schedule, images: int) -> dict[str, int]:
    """Return the bytes a block holds at its worst moment, by what they hold: input, maps, strips."""
    last = schedule.last_use()
    size = {node: images * map_bytes(program, node, schedule.needs[node]) for node in schedule.needs}
    live = {node for node in last if node not in {segment.end for segment in schedule.segments}}
    worst = {"input": sum(size[node] for node in live), "maps": 0, "strips": 0}
    for i, segment in enumerate(schedule.segments):
        live.add(segment.end)
        strip = strip_bytes(program, schedule, segment, strip_rows(program, schedule, segment))
        strip = max(strip, min(images * strip, 2 * STRIP_BYTES))
        parts = {
            "input": size[ROOT] if ROOT in live else 0,
            "maps": sum(size[node] for node in live if node != ROOT),
            "strips": strip,
        }
        if sum(parts.values()) > sum(worst.values()):
            worst = parts
        live = {node for node in live if last.get(node, -1) > i}
    return worst


def node_flops(program: Program, node: int, outputs: int) -> int:
    """Return the operations of computing ``outputs`` positions of a node (a multiply-add is two)."""
    this = program.nodes[node]
    match this.op:
        case ConvolveOp(groups=groups, each=each):
            taps = sum(group.multiplies for group in groups)
            return 2 * outputs * taps * (program.width(this.parent) if each else 1)
        case GridOp():
            return 0  # counted by its input's samples, which are few beside the rest
        case _:
            return outputs * len(this.features) * this.sweeps[0].size * this.sweeps[1].size


def first_grids(program: Program, nodes: set[int]) -> list[int]:
    """Return the grid poolings nearest to the image on the way to any of ``nodes``."""
    grids = set()
    for node in nodes:
        grids.add(next(i for i in program.path(node) if isinstance(program.nodes[i].op, GridOp)))
    return sorted(grids)


def stream_schedule(program: Program, image: Shape, grid: int, spans: Spans) -> Schedule | None:
    """Return the schedule of a part of a grid pooling's input; None where that is the image itself."""
    parent = program.nodes[grid].parent
    return None if parent == ROOT else make_schedule(program, image, {parent: spans})
