"""One image on its way through a program: the map after every node, and what any of its values is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featpipe.chain.execute import run_schedule
from featpipe.errors import ImageError, PlanError, Problem, SourceError
from featpipe.geometry.axis import Span, Sweep, sources
from featpipe.geometry.grid import cells
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.kernels.combining import OUTPUTS
from featpipe.kernels.pointwise import ENCODERS
from featpipe.plan.check import shape_problems
from featpipe.plan.collection import Collection
from featpipe.plan.program import (
    ROOT,
    ActivateOp,
    CombineOp,
    ConvolveOp,
    DistanceOp,
    FoldOp,
    GridOp,
    LocallyConnectedOp,
    LocalOp,
    PoolOp,
    Program,
)
from featpipe.plan.schedule import make_schedule, node_shapes, whole
from featpipe.spec.pipeline import Images, Region

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
TRIED = 100
"""Images that are tried before a collection is said to have none that can be read."""


@dataclass(frozen=True, eq=False)
class Example:
    """An image to look at, as the first layer sees it."""

    name: str
    pixels: Float32
    """(y, x, c)."""
    channels: tuple[str, ...]
    origin: tuple[int, int] = (0, 0)
    """Row and column of its first pixel in the whole image, where a part was taken."""
    whole: tuple[int, int] = (0, 0)
    """Height and width of the whole image, in pixels."""


def read_example(images: Images, row: int | None = None, *, most: int | None = None) -> Example:
    """Read one image of a collection.

    Parameters
    ----------
    images : Images
        Its ``path`` may be a single image.
    row : int, optional
        Which; the first that can be read unless given.
    most : int, optional
        Longest edge, in pixels: of a larger image of native size the part in the middle is taken.

    Raises
    ------
    SourceError, ImageError
        If there is no such image, or it cannot be read.
    """
    collection = scan(images)
    if row is not None:
        return _read_row(images, collection, row, most)
    errors = []
    for first in [i for i in range(len(collection)) if i not in collection.unreadable][:TRIED]:
        try:
            return _read_row(images, collection, first, most)
        except ImageError as error:  # what headers did not tell
            errors.append(error)
    raise errors[0]


def _read_row(images: Images, collection: Collection, row: int, most: int | None) -> Example:
    if not 0 <= row < len(collection):
        what = f"there is no image {row}."
        raise SourceError(Problem("images", what, f"Use 0 to {len(collection) - 1}.", ("images", "path")))
    shape = (int(collection.heights[row]), int(collection.widths[row]))
    whole, origin, name = shape, (0, 0), collection.paths[row]
    if most is not None and images.size is None and max(shape) > most:
        spans = [_middle(n, most) for n in shape]
        images = images.model_copy(update={"region": _within(images.region, spans)})
        collection = scan(images)
        origin = (spans[0].start, spans[1].start)
    pixels = open_reader(images, collection).read_image(row)
    return Example(name, pixels, collection.channels, origin, whole)


def single(images: Images, file: str | Path) -> Images:
    """Return the options of images for one file, which has no labels."""
    return images.model_copy(update={"path": str(Path(file).absolute()), "labels": None, "split": None, "axes": None})


def _middle(n: int, most: int) -> Span:
    start = max(0, n - most) // 2
    return Span(start, start + min(n, most))


def _within(region: Region | None, spans: list[Span]) -> Region:
    y, x = (region.y, region.x) if region is not None else (None, None)
    return Region(
        y=[(y or [0])[0] + spans[0].start, (y or [0])[0] + spans[0].stop],
        x=[(x or [0])[0] + spans[1].start, (x or [0])[0] + spans[1].stop],
    )


def trace(
    program: Program,
    image: Float32,
    wants: Iterable[int] | None = None,
    given: Mapping[int, Float32] | None = None,
) -> Iterator[tuple[int, Float32]]:
    """Compute the map after every node, with the bits of a run.

    Parameters
    ----------
    program : Program
    image : (y, x, c) float32
    wants : iterable of int, optional
        The nodes whose maps are asked for; all unless given.
    given : mapping of int to (y, x, k) float32, optional
        Whole maps of nodes that are known already, which are not computed again.

    Yields
    ------
    node : int
    values : (y, x, k) float32

    Raises
    ------
    PlanError
        If a layer does not fit the image.
    """
    shape = (image.shape[0], image.shape[1])
    problems = shape_problems(program, shape)
    if problems:
        raise PlanError(problems)
    known = {ROOT: image, **(given or {})}
    shapes = node_shapes(program, shape)
    nodes = range(len(program.nodes)) if wants is None else wants
    schedule = make_schedule(program, shape, {node: whole(shapes[node]) for node in nodes}, frozenset(known))
    needed = {node: _needed(known[node], schedule.needs[node]) for node in schedule.needs if node in known}
    for node, values in run_schedule(program, schedule, needed):
        yield node, values[0]


def _needed(values: Float32, spans: tuple[Span, Span]) -> Float32:
    """Return what a schedule reads of a whole map, as a batch of one."""
    return values[None, spans[0].start : spans[0].stop, spans[1].start : spans[1].stop]


# -- where a value comes from -----------------------------------------------------------------------------------------


def seen(program: Program, shapes: Mapping[int, tuple[int, int]], node: int, at: tuple[int, int]) -> tuple[Span, Span]:
    """Return the rows and columns of the image that one value of a map sees; padding lies outside the image.

    Parameters
    ----------
    program : Program
    shapes : mapping of int to (int, int)
        Height and width of every node's map, and of the image under ``ROOT``.
    node : int
    at : (int, int)
        Row and column of the value in its map.
    """
    spans = [Span(at[0], at[0] + 1), Span(at[1], at[1] + 1)]
    while node != ROOT:
        this = program.nodes[node]
        for axis in (0, 1):
            n = shapes[this.parent][axis]
            if isinstance(this.op, GridOp):
                parts = cells(n, this.op.grid[axis])
                spans[axis] = Span(parts[spans[axis].start].start, parts[spans[axis].stop - 1].stop)
            else:
                spans[axis] = this.sweeps[axis].wanted(spans[axis])
        node = this.parent
    return spans[0], spans[1]


@dataclass(frozen=True, eq=False)
class Terms:
    """What one value of a map is made of: samples of the map before it, and the weights that they are taken with."""

    rows: Int64
    """(h,) rows of the map before; -1 for zeros of a padding."""
    columns: Int64
    """(w,) likewise."""
    features: Int64
    """(c,) features of the map before."""
    values: Float32
    """(h, w, c) samples, padding in place."""
    weights: Float32 | None
    """(h, w, c) of a convolution; None where nothing is weighted."""
    bias: float = 0.0
    gain: float = 1.0
    """What contrast normalisation multiplies the weighted sum by before the bias is added: 1 / √(variance + ε)."""

    @property
    def products(self) -> npt.NDArray[np.float64]:
        """(h, w, c) the terms of the sum; the samples themselves where nothing is weighted."""
        values = self.values.astype(np.float64)
        return values if self.weights is None else values * self.weights


def explain(program: Program, before: Float32, node: int, at: tuple[int, int], feature: int) -> Terms:
    """Return what one value of a node's map is made of.

    Parameters
    ----------
    program : Program
    before : (y, x, c) float32
        The map of the node's parent; the image for those that read it.
    node : int
    at : (int, int)
        Row and column of the value.
    feature : int
        Its feature.
    """
    this = program.nodes[node]
    everything = np.arange(before.shape[2], dtype=np.int64)
    match this.op:
        case ConvolveOp():
            kernel = kernel_of(this.op, feature, before.shape[2])
            one = everything if kernel.channel is None else everything[kernel.channel :][:1]
            terms = _window(before, this.sweeps, at, one, kernel.weights, kernel.corner)
            return replace(terms, bias=kernel.bias, gain=_gain(terms.values, this.op.epsilon))
        case LocallyConnectedOp(kernels=kernels, bias=bias):
            shape = (this.sweeps[0].length(before.shape[0]), this.sweeps[1].length(before.shape[1]))
            weights = np.ascontiguousarray(kernels.over(shape)[at[0], at[1], ..., feature])
            biases = bias[0, 0] if bias.shape[:2] == (1, 1) else bias[at[0], at[1]]
            return replace(_window(before, this.sweeps, at, everything, weights), bias=float(biases[feature]))
        case GridOp(grid=grid, bins=bins):
            rows, columns = (cells(before.shape[axis], grid[axis])[at[axis]] for axis in (0, 1))
            one = everything[feature // (bins or 1) :][:1]
            return _samples(before, np.arange(*rows), np.arange(*columns), one)
        case PoolOp(by=by, bins=bins):
            fill = {"max": -math.inf, "min": math.inf}.get(by, 0.0)
            return _window(before, this.sweeps, at, everything[feature // (bins or 1) :][:1], fill=fill)
        case LocalOp():
            return _window(before, this.sweeps, at, everything[feature:][:1])
        case FoldOp(starts=starts, members=members):
            return _pixel(before, at, members[starts[feature] : starts[feature + 1]])
        case CombineOp(formula=formula, starts=starts, members=members):
            group = feature // OUTPUTS[formula]
            return _pixel(before, at, members[starts[group] : starts[group + 1]])
        case ActivateOp(name=name) if name in ENCODERS:
            return _pixel(before, at, everything)
        case DistanceOp():
            return _pixel(before, at, everything)
    return _pixel(before, at, everything[feature % before.shape[2] :][:1])


@dataclass(frozen=True, eq=False)
class KernelOf:
    """The kernel of one feature that leaves a convolution."""

    weights: Float32
    """(h, w, c), c = 1 where each feature that comes in is filtered by itself."""
    corner: tuple[int, int]
    """Of its first tap in the bank's frame, in samples."""
    channel: int | None
    """The feature that it filters; None where it spans all of them."""
    bias: float


def kernel_of(op: ConvolveOp, feature: int, inputs: int) -> KernelOf:
    """Return the kernel that makes one feature of a convolution.

    Parameters
    ----------
    op : ConvolveOp
    feature : int
    inputs : int
        Features that come in.
    """
    count = len(op.bias)
    channel, kernel = divmod(feature, count) if op.each else (None, feature)
    assert channel is None or channel < inputs
    group = next(group for group in op.groups if kernel in group.columns)
    weights = group.weights[int(np.flatnonzero(group.columns == kernel)[0])]
    return KernelOf(weights, group.corner, channel, float(op.bias[kernel]))


def _window(
    before: Float32,
    sweeps: tuple[Sweep, Sweep],
    at: tuple[int, int],
    features: Int64,
    weights: Float32 | None = None,
    corner: tuple[int, int] = (0, 0),
    fill: float = 0.0,
) -> Terms:
    """Return the samples under a window, or under a kernel in its frame."""
    index = []
    for axis, sweep in enumerate(sweeps):
        under = sweep.wanted(Span(at[axis], at[axis] + 1))
        taps = sweep.size if weights is None else weights.shape[axis]
        first = under.start + corner[axis]
        reach = Span(first, first + (taps - 1) * sweep.dilation + 1)
        index.append(sources(reach, before.shape[axis], sweep.mode)[:: sweep.dilation])
    return _samples(before, index[0], index[1], features, weights, fill)


def _samples(
    before: Float32, rows: Int64, columns: Int64, features: Int64, weights: Float32 | None = None, fill: float = 0.0
) -> Terms:
    values = before[rows[:, None, None], columns[:, None], features]
    values[rows < 0] = fill
    values[:, columns < 0] = fill
    return Terms(rows, columns, features, values, weights)


def _pixel(before: Float32, at: tuple[int, int], features: Int64) -> Terms:
    return _samples(before, np.array([at[0]]), np.array([at[1]]), features)


def _gain(values: Float32, epsilon: float | None) -> float:
    """Return what contrast normalisation multiplies the sum by."""
    return 1.0 if epsilon is None else 1.0 / math.sqrt(values.astype(np.float64).var() + epsilon)
