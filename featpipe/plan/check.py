"""Whether every layer fits its input, for every image of a collection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featpipe.errors import Location, PlanError, Problem, key_path
from featpipe.plan.collection import Collection
from featpipe.plan.local import position_problem
from featpipe.plan.program import ROOT, GridOp, LocallyConnectedOp, Program
from featpipe.plan.schedule import Shape, node_shapes


def exclude_misfits(program: Program, collection: Collection, on_error: str) -> tuple[Collection, list[str]]:
    """Mark the images that are too small for some layer as unreadable.

    Returns
    -------
    collection : Collection
    notes : list of str
        What was excluded.

    Raises
    ------
    PlanError
        If no image is left, or ``on_error`` is ``fail`` and one is too small.
    """
    sizes = np.stack([collection.heights, collection.widths], axis=1)
    readable = np.flatnonzero(sizes[:, 0] > 0)
    if not len(readable):
        first = next(iter(collection.unreadable.values()), "the collection is empty")
        raise PlanError(Problem("images", f"no image can be read ({first}).", "", ("images", "path")))
    misfits: dict[int, str] = {}
    for size in np.unique(sizes[readable], axis=0):
        shape = (int(size[0]), int(size[1]))
        problems = shape_problems(program, shape)
        if problems:
            small = any(min(one) < 1 for one in node_shapes(program, shape).values())
            word = "is too small" if small else "does not fit"
            here = readable[(sizes[readable] == size).all(axis=1)]
            misfits |= dict.fromkeys(map(int, here), f"{shape[0]}×{shape[1]} px {word}: {problems[0].what}")
            if on_error == "fail" or len(misfits) == len(readable):
                raise PlanError(problems)
    if not misfits:
        return collection, []
    heights, widths = collection.heights.copy(), collection.widths.copy()
    heights[list(misfits)] = widths[list(misfits)] = 0
    smallest = next(iter(misfits))
    note = (
        f"{len(misfits)} of {len(readable)} images are skipped, e.g. {collection.paths[smallest]}: {misfits[smallest]}"
    )
    return (
        replace(collection, heights=heights, widths=widths, unreadable={**collection.unreadable, **misfits}),
        [note],
    )


def shape_problems(program: Program, image: Shape) -> list[Problem]:
    """Return what does not fit in images of one shape: the first misfit on every path."""
    shapes = node_shapes(program, image)
    problems: dict[Location, Problem] = {}
    for i, node in enumerate(program.nodes):
        above = shapes[node.parent]
        misfit = None
        if isinstance(node.op, LocallyConnectedOp) and min(shapes[i]) >= 1:
            misfit = position_problem(node.op, shapes[i], above)
        if (min(shapes[i]) >= 1 and misfit is None) or min(above) < 1:
            continue
        left_by = (
            "" if node.parent == ROOT else f", left by {_name(program, node.parent)} from {image[0]}×{image[1]} images"
        )
        if misfit is not None:
            what, change = misfit
        elif isinstance(node.op, GridOp):
            what = f"{node.op.grid[0]}×{node.op.grid[1]} cells do not fit its {above[0]}×{above[1]} input{left_by}."
            change = "Use fewer cells."
        else:
            extents = [sweep.extent for sweep in node.sweeps]
            window = f"{extents[0]}" if extents[0] == extents[1] else f"{extents[0]}×{extents[1]}"
            what = f"window {window} px exceeds its {above[0]}×{above[1]} input{left_by}."
            change = f"Use size ≤ {max(1, min(above))}, a smaller stride before it, or padding."
        where = f"{key_path(node.location)} ({node.title})"
        problems.setdefault(node.location, Problem(where, what, change, node.location))
    return list(problems.values())


def _name(program: Program, node: int) -> str:
    this = program.nodes[node]
    stride = max(sweep.stride for sweep in this.sweeps)
    layers = [part for part in this.location if isinstance(part, int)]
    name = f"layers[{layers[-1]}] " if layers else ""
    return f"{name}({this.title}{f', stride {stride}' if stride > 1 else ''})"
