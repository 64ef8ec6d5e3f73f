"""What a preview shows, before it is drawn: every layer's map, as far as it is shown, with labels and scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from featpipe.errors import PlanError, Problem
from featpipe.kernels.bank import Labels
from featpipe.plan.program import ROOT, CombineOp, ConvolveOp, GridOp, LocallyConnectedOp, PoolOp, Program
from featpipe.plan.schedule import node_shapes
from featpipe.preview.choice import MOST, Choice, Kept, arrangements, choose, renamed
from featpipe.preview.kernels import kernel_panels
from featpipe.preview.lanes import is_hidden, make_tree
from featpipe.preview.scales import Mode, Scale, are_even, share_scales
from featpipe.report.arrangement import Arrangement, in_lines, varying
from featpipe.report.units import shape_text
from featpipe.spec.pipeline import Pipeline
from featpipe.trace import Example, trace

Float32 = npt.NDArray[np.float32]
Kind = Literal["image", "kernels", "maps", "table", "bars", "profile"]
SHARPEST, FINE = 512, 256
"""Longest edge of a picture that is kept, in samples: of up to four, and of more; larger ones are averaged down."""
WAYS = 5
"""To lay a block out, that are tried."""
COMPARED = ("orientation", "component")
"""Labels whose responses are compared with one another, on one scale if that can be."""
MOST_BARS = 24
"""Single values that are shown as bars with their names; more are shown as a profile."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture."""

    feature: int
    """Of the layer's map; of the bank for a kernel."""
    labels: Labels
    values: npt.NDArray[np.floating]
    """(y, x), or (y, x, 3) of colours; (1, k) of a profile, one value of every feature."""


@dataclass(frozen=True, eq=False)
class Block:
    """The pictures of one layer."""

    kind: Kind
    node: int
    title: str
    facts: tuple[str, ...]
    """Shape, window, where it is stored, what of it is shown: a line each."""
    panels: tuple[Panel, ...]
    arrangement: Arrangement
    mode: Mode = "all"
    """What shares a scale."""
    scales: tuple[Scale, ...] = ()
    """Of every panel."""
    unit: str = ""
    others: tuple[Block, ...] = ()
    """The same in other rows and columns."""


@dataclass(frozen=True, eq=False)
class Row:
    """Blocks that follow one another."""

    name: str
    after: str
    """The title of the block that it goes on from; empty at the image."""
    blocks: tuple[Block, ...]
    node: int = ROOT
    """That it goes on from."""


@dataclass(frozen=True, eq=False)
class Preview:
    """All that one picture shows."""

    title: str
    image: Block
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def gather(
    pipeline: Pipeline,
    program: Program,
    example: Example,
    title: str,
    memory: int | None = None,
    *,
    branch: str | None = None,
) -> Preview:
    """Follow an image through a program, and keep what is shown of every map.

    Parameters
    ----------
    pipeline : Pipeline
    program : Program
        With its banks learned.
    example : Example
    title : str
    memory : int, optional
        Bytes that the maps may take at once; any unless given.
    branch : str, optional
        The branch that is shown; all unless given.

    Raises
    ------
    PlanError
        If a layer does not fit the image, or the maps do not fit the memory.
    """
    tree = make_tree(program, pipeline.features, branch)
    shown = [node for lane in tree.lanes for node in lane.nodes if not is_hidden(program, node)]
    shape = (example.pixels.shape[0], example.pixels.shape[1])
    _check_memory(program, shape, memory)
    kept: dict[int, Kept] = {ROOT: {}}
    blocks: dict[int, list[Block]] = {}
    shapes = node_shapes(program, shape)
    for node, values in trace(program, example.pixels, shown):
        parent = tree.double[program.nodes[node].parent]
        while parent != ROOT and is_hidden(program, parent):
            parent = tree.double[program.nodes[parent].parent]
        choice = _choose(program, node, values, kept[parent])
        kept[node] = choice.kept or kept[parent]
        blocks[node] = _blocks(program, node, values, choice, shapes[node])
    rows = tuple(
        Row(
            lane.name,
            program.nodes[lane.after].title if lane.after != ROOT else "",
            tuple(block for node in lane.nodes for block in blocks.get(node, ())),
            lane.after,
        )
        for lane in tree.lanes
    )
    return Preview(title, image_block(example), rows, _notes(pipeline))


def _check_memory(program: Program, image: tuple[int, int], memory: int | None) -> None:
    shapes = node_shapes(program, image)
    sizes = {node: 4 * y * x * program.width(node) for node, (y, x) in shapes.items()}
    most = max(sizes[i] + sizes[node.parent] for i, node in enumerate(program.nodes))
    if memory is not None and most > memory:
        what = f"the maps of an image of {image[0]}×{image[1]} pixels take {most / 2**30:.1f} GiB."
        change = "Look at a part: --set images.region={y: [0, 256], x: [0, 256]}, or at one --branch."
        raise PlanError(Problem("preview", what, change))


def _choose(program: Program, node: int, values: Float32, kept: Kept) -> Choice:
    features = program.features(node)
    if isinstance(program.nodes[node].op, ConvolveOp):
        kept = renamed(kept, features)
    if values.shape[:2] == (1, 1):  # one value each: a table or a profile shows them all
        full = len(features) <= MOST or len(varying(features)) < 2
        if full or not arrangements(features, 1.5)[0].rows:
            return Choice(tuple(range(len(features))), "", {})
    return choose(features, _variances(values), kept)


def _variances(values: Float32) -> npt.NDArray[np.float64]:
    """Return every feature's variance over the image, a part of the features at a time."""
    if values.shape[:2] == (1, 1):
        return np.where(np.isfinite(values[0, 0]), values[0, 0], 0).astype(np.float64) ** 2
    step = max(1, (1 << 24) // (values.shape[0] * values.shape[1]))
    parts = [values[..., i : i + step] for i in range(0, values.shape[2], step)]
    with np.errstate(invalid="ignore", over="ignore"):
        variances = np.concatenate([part.var(axis=(0, 1), dtype=np.float64) for part in parts])
    return np.where(np.isfinite(variances), variances, 0)


def _blocks(program: Program, node: int, values: Float32, choice: Choice, shape: tuple[int, int]) -> list[Block]:
    """Return the blocks of a node: its kernels if it has some, and its map."""
    this = program.nodes[node]
    at = this.parent if this.parent != ROOT and is_hidden(program, this.parent) else node
    blocks = []
    if isinstance(program.nodes[at].op, ConvolveOp | LocallyConnectedOp) and not _is_halving(program, at):
        blocks.append(_kernel_block(program, at, node, choice, shape))
    title = this.title if at == node else f"{program.nodes[at].title}, {this.title}"
    stored = [output.name for output in program.outputs if output.node == node]
    facts = [shape_text([*shape, len(this.features)]) + _window_text(program, node)]
    facts += [f"stored as {', '.join(stored)}"] if stored else []
    facts += [choice.words] if choice.words else []
    facts += _not_finite(values, choice)
    unit = "count" if isinstance(this.op, PoolOp | GridOp) and this.op.bins else ""
    unit = "code" if isinstance(this.op, CombineOp) and this.op.formula in ("sign", "argmax", "digits") else unit
    if shape == (1, 1):
        blocks.append(_single_values(node, title, tuple(facts), values[0, 0], this.features, choice, unit))
        return blocks
    panels = [
        Panel(i, this.features[i], _fit(values[..., i], SHARPEST if len(choice.features) <= 4 else FINE))
        for i in choice.features
    ]
    kind: Kind = "image" if _is_average(program, node) else "maps"
    blocks.append(_arranged(kind, node, title, tuple(facts), panels, shape[1] / shape[0], unit))
    return blocks


def _not_finite(values: Float32, choice: Choice) -> list[str]:
    """Return how many of the values shown no colour tells, in words."""
    size = values.shape[0] * values.shape[1] * len(choice.features)
    count = size - sum(int(np.isfinite(values[..., i]).sum()) for i in choice.features)
    if not count:
        return []
    return ["no value is finite" if count == size else f"{count:,} of {size:,} values are not finite"]


def _is_halving(program: Program, node: int) -> bool:
    return program.nodes[node].location[2:] == ("scales",)


def _is_average(program: Program, node: int) -> bool:
    """Tell whether a map is the image, blurred, which is shown in its grays."""
    while node != ROOT:
        op = program.nodes[node].op
        if not isinstance(op, ConvolveOp) or any((group.weights < 0).any() for group in op.groups) or not op.each:
            return False
        node = program.nodes[node].parent
    return True


def _arranged(
    kind: Kind, node: int, title: str, facts: tuple[str, ...], panels: Sequence[Panel], aspect: float, unit: str = ""
) -> Block:
    """Lay pictures out in rows and columns, the way in which fewest scales tell all of them."""
    found: list[tuple[tuple[int, int, bool], Block]] = []
    labels, values = [panel.labels for panel in panels], [panel.values for panel in panels]
    sizes = [key for key in varying(labels) if not key.endswith(COMPARED)]
    leading = sizes[0] if sizes else ""  # a frequency or the like, which decides on strength
    even = len(varying(labels)) < 2 or are_even(values, [one.get(leading) for one in labels])
    for arrangement in arrangements(labels, aspect):
        rows = [row for row, _ in arrangement.places] if arrangement.rows else [0] * len(panels)
        mode, scales, hard = share_scales(values, rows, kernels=kind == "kernels", even=even)
        if mode == "rows" and arrangement.rows[0] != leading:
            hard += 2
        crowded = mode == "own" and arrangement.shape[1] > 12  # no room for words below pictures
        block = Block(kind, node, title, facts, tuple(panels), arrangement, mode, scales, unit)
        found.append(((hard, len(set(scales)), crowded), block))
    best = min(rank for rank, _ in found)
    first, *others = [block for rank, block in found if rank == best][:WAYS]
    return replace(first, others=tuple(others))


def _single_values(
    node: int,
    title: str,
    facts: tuple[str, ...],
    values: Float32,
    features: Sequence[Labels],
    choice: Choice,
    unit: str,
) -> Block:
    """Return a map of one position: a table by two labels, bars, or a profile of very many."""
    count = len(choice.features)
    panels = [Panel(i, features[i], values[i : i + 1, None]) for i in choice.features]
    labels = [panel.labels for panel in panels]
    table = arrangements(labels, 1.5)[0] if 1 < count <= MOST else in_lines(1, 1)
    if table.rows and min(table.shape) > 1:
        return _arranged("table", node, title, facts, panels, 1.5, unit)
    mode, scales, _ = share_scales([values[None]], [0])
    if count <= MOST_BARS:
        return Block("bars", node, title, facts, tuple(panels), in_lines(count, 1), mode, scales * count, unit)
    panel = Panel(-1, {}, values[None])
    return Block("profile", node, title, facts, (panel,), in_lines(1, 1), mode, scales, unit)


def _kernel_block(program: Program, at: int, node: int, choice: Choice, shape: tuple[int, int]) -> Block:
    """Return the kernels that the features which are shown are made with."""
    op, features = program.nodes[at].op, program.features(node)
    assert isinstance(op, ConvolveOp | LocallyConnectedOp)
    count = len(op.bias) if isinstance(op, ConvolveOp) and op.each else len(features)
    chosen = sorted({feature % count for feature in choice.features})
    parent = program.nodes[at].parent
    found = kernel_panels(op, chosen, shape, negative_half=at != node, colours=parent == ROOT)
    panels = [Panel(i, features[i], weights) for i, weights in zip(chosen, found.pictures, strict=True)]
    facts = [f"{found.sizes}", *found.notes]
    if len(chosen) < count:
        facts.insert(1, f"{len(chosen)} of {count:,} shown")
    title = f"{features[0].get('bank', '')} kernels".strip()
    return _arranged("kernels", node, title, tuple(facts), panels, found.aspect, "weight")


def _window_text(program: Program, node: int) -> str:
    windows = program.windows(node)
    if windows is None:
        return ""
    size, stride = [one.size for one in windows], [one.stride for one in windows]
    steps = shape_text(stride) if stride[0] != stride[1] else str(stride[0])
    return f" · window\u00a0{shape_text(size)}\u00a0px, stride\u00a0{steps}"


def image_block(example: Example) -> Block:
    """Return the image as the first layer sees it."""
    pixels = example.pixels
    names = example.channels
    facts = [
        example.name.rpartition("/")[2],
        f"{shape_text(pixels.shape)} ({'rgb' if len(names) == 3 else names[0] if len(names) == 1 else 'channels'})",
    ]
    if tuple(example.whole) != pixels.shape[:2] and example.origin != (0, 0):
        facts.append(f"the middle of {shape_text(example.whole)} px")
    if len(names) == 3:
        colours = np.stack([_fit(pixels[..., c], SHARPEST) for c in range(3)], axis=2)
        top = max(1.0, float(pixels.max(where=np.isfinite(pixels), initial=0)))
        top = 255.0 if 1 < top <= 255 else top
        panel = Panel(0, {}, np.clip(np.nan_to_num(colours) / np.float32(top), 0, 1))
        return Block("image", ROOT, "image", tuple(facts), (panel,), in_lines(1, 1))
    panels = [Panel(c, {"channel": name}, _fit(pixels[..., c], SHARPEST)) for c, name in enumerate(names[:12])]
    if len(names) > 12:
        facts.append(f"12 of {len(names)} channels shown")
    return _arranged("image", ROOT, "image", tuple(facts), panels, pixels.shape[1] / pixels.shape[0])


def _fit(values: Float32, edge: int) -> Float32:
    """Return a map averaged down, over whole squares, to an edge of so many samples."""
    step = -(-max(values.shape) // edge)
    if step == 1:
        return np.ascontiguousarray(values)
    y, x = (n // step for n in values.shape)
    if min(y, x) == 0:
        return np.ascontiguousarray(values[::step, ::step])
    with np.errstate(invalid="ignore"):  # of infinities of both signs
        averaged: npt.NDArray[np.float64] = (
            values[: y * step, : x * step].reshape(y, step, x, step).mean(axis=(1, 3), dtype=np.float64)
        )
    return averaged.astype(np.float32)


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    """Return what is to be known of all blocks."""
    raw = pipeline.images.values == "raw"
    scale = "as they are in the file" if raw else "0 to 1 where the file holds integers"
    return (f"Pixels are {scale}; responses are in their units.",)


def all_blocks(preview: Preview) -> Mapping[int, list[Block]]:
    """Return the blocks of every node that is shown."""
    found: dict[int, list[Block]] = {ROOT: [preview.image]}
    for row in preview.rows:
        for block in row.blocks:
            found.setdefault(block.node, []).append(block)
    return found
