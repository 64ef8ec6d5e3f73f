"""The order in which a program's maps are computed for given output spans, and what that holds in memory.

Nodes between two *kept* maps form a segment, which is computed strip by strip: some output rows at a time are followed
through its passes, and what lies between two passes exists only as a strip in cache. Kept are the
wanted maps, those that several nodes read, and those that a convolution reads::

    image ──[ convolve · relu · pool ]── kept ──[ convolve · relu · pool ]── kept (wanted)
                 strips of rows                      strips of rows
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from featpipe.caches import Cache
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE
from featpipe.plan.passes import Pass, split_passes
from featpipe.plan.program import (
    ROOT,
    CombineOp,
    ConvolveOp,
    GridOp,
    LocallyConnectedOp,
    LocalOp,
    Node,
    PoolOp,
    Program,
)

Spans = tuple[Span, Span]
Shape = tuple[int, int]
FLOAT = 4
STRIP_BYTES = 4 << 20
"""What a strip reads, or hands from pass to pass, in bytes: it should stay in cache, yet make few calls."""
WORKING_ROWS = 8
"""Rows of a panel's responses that a pass holds in two buffers; others are in the windows being gathered."""
BUFFERS = 2 << 20
"""Bytes that they come to at least, with the kernels."""


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

    shapes: Mapping[int, Shape]
    """Samples along y and x of every node's whole map."""
    needs: dict[int, Spans]
    """Samples computed (or, of the given maps, read) of every active node."""
    wants: dict[int, Spans]
    segments: tuple[Segment, ...]
    regions: dict[int, Spans]
    """The samples of its input that each grid pooling takes: all, or a part of them."""

    def last_use(self) -> dict[int, int]:
        """Return, for every kept map, the index of the last segment that reads it."""
        return {segment.source: i for i, segment in enumerate(self.segments)}


_SHAPES: Cache[Mapping[int, Shape]] = Cache(16)
"""By the image's shape: those of a batch are alike."""


def node_shapes(program: Program, image: Shape) -> Mapping[int, Shape]:
    """Return the shape (y, x) of every node's map for an image of this shape; 0 or less where a window does not fit."""
    return _SHAPES.get(program, image, lambda: _shapes_of(program, image, range(len(program.nodes))))


def path_shapes(program: Program, image: Shape, node: int) -> Mapping[int, Shape]:
    """Return the same of the nodes on the way to one, which are few where a program has many branches."""
    return _shapes_of(program, image, program.path(node))


def _shapes_of(program: Program, image: Shape, nodes: Iterable[int]) -> Mapping[int, Shape]:
    shapes = {ROOT: image}
    for i in nodes:
        node = program.nodes[i]
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


def read_spans(node: Node, out: Spans, above: Shape) -> Spans:
    """Return the samples of a node's input, of shape ``above``, that its outputs ``out`` need; of no grid pooling."""
    y, x = node.sweeps
    return y.read(out[0], above[0]), x.read(out[1], above[1])


def make_schedule(
    program: Program,
    image: Shape,
    wants: Mapping[int, Spans],
    given: frozenset[int] = frozenset({ROOT}),
    regions: Mapping[int, Spans] | None = None,
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
    regions : mapping of int to (Span, Span), optional
        Parts of the inputs of grid poolings to which these are limited.
    """
    regions = dict(regions or {})
    shapes = node_shapes(program, image)
    needs: dict[int, Spans] = dict(wants)
    readers: dict[int, list[int]] = {}
    for i in _active(program, wants, given):
        parent = program.nodes[i].parent
        if isinstance(program.nodes[i].op, GridOp):
            spans = regions.setdefault(i, whole(shapes[parent]))
        else:
            spans = read_spans(program.nodes[i], needs[i], shapes[parent])
        have = needs.get(parent)
        needs[parent] = spans if have is None else (have[0].hull(spans[0]), have[1].hull(spans[1]))
        readers.setdefault(parent, []).append(i)
    kept = set(wants) | set(given)
    for parent, children in readers.items():
        if len(children) > 1 or isinstance(program.nodes[children[0]].op, (ConvolveOp, LocalOp, LocallyConnectedOp)):
            kept.add(parent)
    kept |= {i for i in needs if i != ROOT and isinstance(program.nodes[i].op, GridOp)}
    segments = []
    for i in sorted(needs):
        if i in kept and i not in given:
            nodes = [i]
            while program.nodes[nodes[-1]].parent not in kept:
                nodes.append(program.nodes[nodes[-1]].parent)
            segments.append(Segment(program.nodes[nodes[-1]].parent, tuple(nodes[::-1])))
    return Schedule(shapes, needs, dict(wants), tuple(segments), regions)


def _active(program: Program, wants: Iterable[int], given: frozenset[int]) -> list[int]:
    """Return the nodes that lead from what is given to what is wanted, children first."""
    active: set[int] = set()
    for wanted in wants:
        node = wanted
        while node != ROOT and node not in given and node not in active:
            active.add(node)
            node = program.nodes[node].parent
    return sorted(active, reverse=True)


def pooled_spans(program: Program, schedule: Schedule, segment: Segment) -> Spans:
    """Return the samples that a segment makes, row after row: of its last map, or of a grid pooling's input."""
    grid = isinstance(program.nodes[segment.end].op, GridOp)
    return schedule.regions[segment.end] if grid else schedule.needs[segment.end]


def strip_rows(program: Program, schedule: Schedule, segment: Segment) -> int:
    """Return the rows of `pooled_spans` to make at once, from the cache's size; whole tiles of a grid pooling."""
    grid = isinstance(program.nodes[segment.end].op, GridOp)
    held = {one.nodes[-1] for one in split_passes(program, segment.nodes)[:-1]}  # maps between passes
    per_row, stride, overlap, tall = 1, 1, 0, 1
    for node in reversed(segment.nodes):
        this = program.nodes[node]
        if node in held:
            per_row = max(per_row, schedule.needs[node][1].length * program.width(node) * FLOAT * stride)
        if isinstance(this.op, GridOp):
            continue
        sweep = this.sweeps[0]
        if isinstance(this.op, (ConvolveOp, LocalOp, LocallyConnectedOp)):
            tall = max(tall, sweep.extent)
        else:
            overlap += max(0, sweep.extent - sweep.stride) * stride
        stride *= sweep.stride
    columns = schedule.needs[segment.source][1].length
    per_row = max(per_row, columns * program.width(segment.source) * FLOAT * stride)
    # neither should an overlapping pooling compute many rows twice, nor a tall kernel copy its halo for a few rows
    rows = max(1, STRIP_BYTES // per_row, ceil(8 * overlap / stride), ceil(tall / (2 * stride)))
    return ceil(rows / TILE) * TILE if grid else rows


def strip_bytes(program: Program, schedule: Schedule, segment: Segment, rows: int) -> tuple[int, int]:
    """Return the most bytes that one strip holds beside the kept maps: for each image, and in all."""
    y, x = pooled_spans(program, schedule, segment)
    y, most, made, working = Span(0, min(rows, y.length)), 0, 0, BUFFERS
    for one in reversed(split_passes(program, segment.nodes)):
        if not one.panels:  # the last pass writes into the map itself, unless it is a node by itself
            made = _made_alone(program.nodes[one.nodes[0]], made, y.length * x.length)
        columns, windows = x.length, 0
        for node in reversed(one.nodes):
            this = program.nodes[node]
            if isinstance(this.op, GridOp):
                continue
            wanted = [sweep.wanted(span) for sweep, span in zip(this.sweeps, (y, x), strict=True)]
            y, x = Span(0, max(1, wanted[0].length)), Span(0, max(1, wanted[1].length))
            columns = max(columns, x.length)
            windows = max(windows, ceil(this.sweeps[0].size / this.sweeps[0].stride))
        taken = y.length * x.length * program.width(program.nodes[one.nodes[0]].parent) * FLOAT
        row = columns * max(len(panel.members) for panel in one.panels) * FLOAT if one.panels else 0
        most = max(most, made + _scratch_factor(program, one) * taken)
        working = max(working, BUFFERS + (WORKING_ROWS + windows) * row)
        made = taken
    return most, working


def _scratch_factor(program: Program, one: Pass) -> int:
    """Return how many times a pass's input it holds: laid out for it, and in temporaries."""
    op = program.nodes[one.nodes[0]].op
    if isinstance(op, LocalOp) or (isinstance(op, ConvolveOp) and op.epsilon is not None):
        return 12  # moments in float64
    lean = one.panels or isinstance(op, CombineOp) or (isinstance(op, (PoolOp, GridOp)) and op.bins is not None)
    return 2 if lean else 6


def _made_alone(node: Node, made: int, samples: int) -> int:
    """Return the bytes of what a node by itself makes of a strip, beside the ``made`` of what follows."""
    if isinstance(node.op, GridOp) and node.op.bins is not None:
        return 12 * node.op.grid[0] * node.op.grid[1] * len(node.features)  # counts in float64, and as float32
    if isinstance(node.op, PoolOp) and node.op.bins is not None:
        return made
    return samples * len(node.features) * FLOAT


def map_bytes(program: Program, node: int, spans: Spans) -> int:
    """Return the float32 bytes of a node's map over some spans."""
    return spans[0].length * spans[1].length * program.width(node) * FLOAT


def peak_bytes(program: Program, schedule: Schedule, images: int) -> dict[str, int]:
    """Return the bytes a block holds at its worst moment, by what they hold: input, maps, strips."""
    last = schedule.last_use()
    size = {node: images * map_bytes(program, node, schedule.needs[node]) for node in schedule.needs}
    made = {segment.end for segment in schedule.segments}
    live = {node for node in last if node not in made}
    worst = {"input": sum(size[node] for node in live), "maps": 0, "strips": 0}
    for i, segment in enumerate(schedule.segments):
        live.add(segment.end)
        strip, working = strip_bytes(program, schedule, segment, strip_rows(program, schedule, segment))
        strip = max(strip, min(images * strip, 2 * STRIP_BYTES)) + working
        parts = {
            "input": size[ROOT] if ROOT in live else 0,
            "maps": sum(size[node] for node in live if node != ROOT),
            "strips": strip,
        }
        if sum(parts.values()) > sum(worst.values()):
            worst = parts
        live = {node for node in live if last.get(node, -1) > i}
    return worst


def first_grids(program: Program, nodes: set[int]) -> list[int]:
    """Return the grid poolings nearest to the image on the way to any of ``nodes``."""
    grids = set()
    for node in nodes:
        grids.add(next(i for i in program.path(node) if isinstance(program.nodes[i].op, GridOp)))
    return sorted(grids)


def stream_schedule(program: Program, image: Shape, grid: int, spans: Spans) -> Schedule:
    """Return the schedule of a part of a grid pooling's input."""
    return make_schedule(program, image, {grid: whole(node_shapes(program, image)[grid])}, regions={grid: spans})
