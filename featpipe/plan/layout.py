"""How maps lie in the store: shapes, chunks, shards and coordinates of every array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from featpipe.errors import PlanError, Problem
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import ceil_div, cells
from featpipe.plan.model import ArrayPlan, MapPlan, Plan
from featpipe.plan.program import ROOT, GridOp, Program
from featpipe.plan.schedule import Shape, node_shapes, path_shapes

CHUNK_BYTES = 2 << 20
MOST_BLOCKS = 1 << 20
"""Of an image; planning looks at each."""
"""What one read brings: a few images, or a part of a large one."""


def array_plans(plan: Plan) -> Iterator[tuple[int, ArrayPlan]]:
    """Yield (map index, array) for every array of the store, once."""
    readable = np.flatnonzero(plan.collection.heights > 0)
    for index, a_map in enumerate(plan.maps):
        for image in readable[:1] if a_map.stacked else readable:
            yield index, array_plan(plan, index, int(image))


def array_plan(plan: Plan, map_index: int, image: int) -> ArrayPlan:
    """Return the array that holds a map of a readable image."""
    a_map = plan.maps[map_index]
    shape = plan.shape(image)
    shapes = path_shapes(plan.program, shape, a_map.node)
    height, width = shapes[a_map.node]
    features = len(a_map.features)
    relative = a_map.stacked and not plan.collection.uniform
    y, x = (_positions(plan.program, a_map.node, shapes, axis, relative=relative) for axis in (0, 1))
    if not relative:
        y, x = y + plan.collection.origin[0], x + plan.collection.origin[1]
    item = np.dtype(plan.pipeline.store.dtype).itemsize
    if a_map.batched:
        shard, chunk = _batched_pieces((height, width, features), plan.batch if a_map.stacked else 1, item)
    else:
        assert plan.block is not None
        shard, chunk = _block_pieces(a_map, plan.block, item)
    if a_map.stacked:
        return ArrayPlan(a_map.name, (len(plan.collection), height, width, features), chunk, shard, y, x, relative)
    return ArrayPlan(f"images/{image}/{a_map.name}", (height, width, features), chunk[1:], shard[1:], y, x, relative)


def block_spans(a_map: MapPlan, block: tuple[int, int], at: tuple[int, int], shape: Shape) -> tuple[Span, Span] | None:
    """Return the output samples (y, x) of a map that a block owns; None where it owns none.

    Parameters
    ----------
    a_map : MapPlan
        A map with windows.
    block : (int, int)
        Input pixels of a block, multiples of the map's strides.
    at : (int, int)
        Row and column of the block.
    shape : (int, int)
        Of the whole map.
    """
    assert a_map.windows is not None
    spans = []
    for axis in (0, 1):
        step = block[axis] // a_map.windows[axis].stride
        spans.append(Span(at[axis] * step, min((at[axis] + 1) * step, shape[axis])))
    return (spans[0], spans[1]) if all(span.length > 0 for span in spans) else None


def owned_blocks(program: Program, maps: list[MapPlan], block: tuple[int, int], image: Shape) -> list[tuple[int, int]]:
    """Return row and column of every block of an image that owns an output of some map, row by row."""
    shapes = node_shapes(program, image)
    counts = {
        tuple(ceil_div(shapes[m.node][axis], block[axis] // m.windows[axis].stride) for axis in (0, 1))
        for m in maps
        if m.windows is not None
    }
    last_row, last_col = (max(count[axis] for count in counts) for axis in (0, 1))
    if last_row * last_col > MOST_BLOCKS:
        sizes = f"{image[0]}×{image[1]} px in blocks of {block[0]}×{block[1]}"
        what = f"{sizes} would be {last_row * last_col:,} tasks an image, and {MOST_BLOCKS:,} are planned at most."
        change = "Use larger blocks (store.block), more memory (--memory), or less padding."
        raise PlanError(Problem("store.block", what, change, ("store", "block")))
    return [
        (row, col)
        for row in range(last_row)
        for col in range(last_col)
        if any(row < rows and col < cols for rows, cols in counts)
    ]


def divisor(n: int, most: int) -> int:
    """Return the largest divisor of ``n`` that is at most ``most``, at least 1."""
    return next(d for d in range(max(1, min(n, most)), 0, -1) if n % d == 0)


def _batched_pieces(
    one: tuple[int, int, int], batch: int, item: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    height, width, features = one
    row = width * features * item
    images = divisor(batch, max(1, CHUNK_BYTES // max(1, height * row)))
    rows = height
    if images == 1 and height * row > 2 * CHUNK_BYTES:
        rows = ceil_div(height, ceil_div(height * row, CHUNK_BYTES))
    shard = (batch, ceil_div(height, rows) * rows, width, features)
    return shard, (images, rows, width, features)


def _block_pieces(
    a_map: MapPlan, block: tuple[int, int], item: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    assert a_map.windows is not None
    edges = [block[axis] // a_map.windows[axis].stride for axis in (0, 1)]
    features = len(a_map.features)
    target = max(1, round((CHUNK_BYTES / (features * item)) ** 0.5))
    rows, cols = (divisor(edge, target) if edge > target else edge for edge in edges)
    return (1, edges[0], edges[1], features), (1, rows, cols, features)


def positions(program: Program, node: int, image: Shape, axis: int, *, relative: bool) -> npt.NDArray[np.float64]:
    """Return the centres of a map's windows along an axis.

    Parameters
    ----------
    axis : int
        0 for y, 1 for x.
    relative : bool
        As a fraction of the image, for grids over images of different sizes; else in image pixels.

    Returns
    -------
    (length,) float64
    """
    return _positions(program, node, path_shapes(program, image, node), axis, relative=relative)


def _positions(
    program: Program, node: int, shapes: Mapping[int, Shape], axis: int, *, relative: bool
) -> npt.NDArray[np.float64]:
    length = shapes[node][axis]
    if node == ROOT:
        return np.arange(length, dtype=np.float64)
    this = program.nodes[node]
    if this.windows is not None:
        window = this.windows[axis]
        return np.array([window.centre(0)]) + np.arange(length) * window.stride
    if isinstance(this.op, GridOp):
        if relative:
            return (np.arange(length) + 0.5) / length
        above = _positions(program, this.parent, shapes, axis, relative=False)
        return np.array([(above[cell.start] + above[cell.stop - 1]) / 2 for cell in cells(len(above), length)])
    above = _positions(program, this.parent, shapes, axis, relative=relative)
    sweep = this.sweeps[axis]
    index = sweep.window.centre(0) + np.arange(length) * sweep.stride
    step = (above[-1] - above[0]) / (len(above) - 1) if len(above) > 1 else 0.0
    beyond = np.minimum(index, 0) + np.maximum(index - len(above) + 1, 0)
    centres: npt.NDArray[np.float64] = np.interp(index, np.arange(len(above)), above) + step * beyond
    return centres
