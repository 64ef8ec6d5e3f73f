"""Grid pooling of an image too large for memory: its map is computed tile row by tile row and summed up on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from featpipe.chain.execute import cell_pool, run_schedule
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import cut
from featpipe.plan.program import ROOT, Program
from featpipe.plan.schedule import Shape, first_grids, make_schedule, node_shapes, stream_schedule, whole

Float32 = npt.NDArray[np.float32]
ReadRegion = Callable[[Span, Span], Float32]


def stream_image(
    program: Program, image: Shape, nodes: set[int], pieces: tuple[int, int], read: ReadRegion, read_rows: int = 0
) -> Iterator[tuple[int, Float32]]:
    """Compute maps that follow a grid pooling, reading the image piece by piece.

    Parameters
    ----------
    program : Program
    image : (int, int)
        Height and width of the image, in pixels.
    nodes : set of int
        Wanted nodes; each has a grid pooling on its path.
    pieces : (int, int)
        Samples (y, x) of a grid pooling's input computed at once: one row of tiles, and a multiple of tiles.
    read : callable
        ``read(y, x)`` returns the pixels of a region, (y, x, c) float32.
    read_rows : int
        Rows of the image to read at once, for sources whose chunks hold more rows than a piece needs; 0 reads what
        each piece needs.

    Yields
    ------
    node : int
    values : (1, y, x, k) float32
    """
    given = {}
    for grid in first_grids(program, nodes):
        ahead = _ReadAhead(read, image, read_rows)
        given[grid] = _pool_grid(program, image, grid, pieces, ahead.read if read_rows else read)
    shapes = node_shapes(program, image)
    wants = {node: whole(shapes[node]) for node in nodes}
    schedule = make_schedule(program, image, wants, given=frozenset(given))
    yield from run_schedule(program, schedule, given)


def _pool_grid(program: Program, image: Shape, grid: int, pieces: tuple[int, int], read: ReadRegion) -> Float32:
    shapes = node_shapes(program, image)
    pool = cell_pool(program, shapes, grid, 1)
    height, width = shapes[program.nodes[grid].parent]
    for y in cut(height, pieces[0]):
        for x in cut(width, pieces[1]):
            schedule = stream_schedule(program, image, grid, (y, x))
            pixels = read(*schedule.needs[ROOT])[None]
            for _ in run_schedule(program, schedule, {ROOT: pixels}, {grid: pool}):
                raise AssertionError("a part of a grid pooling makes no map")
    return pool.result()


class _ReadAhead:
    """Reads whole rows of the image in advance and serves regions, asked for from top to bottom, from memory."""

    def __init__(self, read: ReadRegion, image: Shape, rows: int) -> None:
        self.source = read
        self.image = image
        self.rows = rows
        self.held = Span(0, 0)
        self.pixels: Float32 | None = None

    def read(self, y: Span, x: Span) -> Float32:
        if self.pixels is None or y.start < self.held.start or y.stop > self.held.stop:
            self.pixels = None  # lets the old rows go before the new ones come
            self.held = Span(y.start, min(max(y.stop, y.start + self.rows), self.image[0]))
            self.pixels = self.source(self.held, Span(0, self.image[1]))
        return np.ascontiguousarray(self.pixels[y.within(self.held), x.start : x.stop])
