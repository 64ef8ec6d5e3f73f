"""From the text of a pipeline to as much of one chain as can be computed, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featpipe.errors import FeatpipeError, Location, Problem, SpecError, key_path
from featpipe.explore.maps import CHAIN_BYTES
from featpipe.kernels.fitted import FittedBank
from featpipe.plan.check import shape_problems
from featpipe.plan.fitting import FitRequest
from featpipe.plan.program import Program
from featpipe.plan.resolve import make_learned, make_program
from featpipe.plan.schedule import map_bytes, node_shapes, whole
from featpipe.spec.load import parse_pipeline, read_pipeline
from featpipe.spec.pipeline import Images, Pipeline
from featpipe.spec.source import read_yaml

Shelf = Callable[[FitRequest], FittedBank | None]
"""Knows where learned banks lie."""
NAME = "pipeline.yaml"
"""What problems call the page's text."""


@dataclass
class Draft:
    """A pipeline's text as it was read."""

    data: dict[str, Any]
    """Plain; empty where the text is no YAML."""
    problems: list[Problem] = field(default_factory=list)
    pipeline: Pipeline | None = None


@dataclass
class Chain:
    """The part of one branch at one scale that can be computed."""

    program: Program
    shapes: Mapping[int, tuple[int, int]]
    problems: list[Problem]
    """What is wrong from there on."""


def read_draft(text: str, folder: Path) -> Draft:
    """Read a text, and say what is wrong with it.

    Parameters
    ----------
    text : str
        YAML.
    folder : Path
        What paths in it are relative to.
    """
    try:
        root, _ = read_yaml(text, NAME)
        data = root.data()
    except SpecError as error:
        return Draft({}, list(error.problems))
    draft = Draft(data if isinstance(data, dict) else {})
    try:
        draft.pipeline, _ = read_pipeline(text, NAME, folder)
    except SpecError as error:
        draft.problems += error.problems
    return draft


def branches(data: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the scales of every branch, as far as they can be read."""
    features = data.get("features")
    found: dict[str, list[int]] = {}
    for name, branch in features.items() if isinstance(features, Mapping) else ():
        scales = branch.get("scales", 1) if isinstance(branch, Mapping) else 1
        scales = scales if isinstance(scales, list) else [scales]
        found[str(name)] = [s for s in scales if isinstance(s, int) and 0 < s <= 2**12 and not s & (s - 1)] or [1]
    return found


def images_of(data: Mapping[str, Any], folder: Path) -> Images | None:
    """Return the options of the images, if they can be read."""
    images = data.get("images")
    if not isinstance(images, Mapping):
        return Images(path="image") if images is None else None
    options = {key: value for key, value in images.items() if key not in ("path", "labels", "split")}
    try:
        layers = {"layers": [{"pool": {"max": 1}}]}
        return _parse({"images": options, "features": {"b": layers}}, folder).images
    except SpecError:
        return None


def resolve_chain(
    data: Mapping[str, Any],
    folder: Path,
    at: tuple[str, int],
    channels: tuple[str, ...],
    shape: tuple[int, int],
    shelf: Shelf,
) -> Chain:
    """Resolve a branch at a scale, up to the first layer with which something is wrong.

    Parameters
    ----------
    data : mapping
        The pipeline, right or wrong.
    folder : Path
        What paths in it are relative to.
    at : (str, int)
        Branch and scale.
    channels : tuple of str
        Of the image.
    shape : (int, int)
        Height and width of the image.
    shelf : Shelf
        Where learned banks are looked for.
    """
    branch = at[0]
    features = data.get("features")
    given = features.get(branch) if isinstance(features, Mapping) else None
    layers = given.get("layers") if isinstance(given, Mapping) else None
    layers = list(layers) if isinstance(layers, list) else []
    problems: list[Problem] = []
    while layers:
        while layers and isinstance(layers[-1], Mapping) and "save" in layers[-1]:
            layers.pop()
        found: list[Problem] = []
        try:
            program = _program(layers, folder, at, channels, shelf)
            found = _unlearned(program) or shape_problems(program, shape) or _too_much(program, shape)
        except FeatpipeError as error:
            found = list(error.problems)
        if not found:
            return Chain(program, node_shapes(program, shape), problems)
        problems = [*found, *problems]
        bad = [layer for problem in found if (layer := layer_of(problem.location, branch)) is not None]
        layers = layers[: min(bad)] if bad and min(bad) < len(layers) else []
    program = make_program({}, channels)
    return Chain(program, node_shapes(program, shape), problems)


def layer_of(location: Location, branch: str) -> int | None:
    """Return which layer of a branch a problem is about; None where it is about none.

    Examples
    --------
    >>> layer_of(("features", "edges", "layers", 2, "pool"), "edges")
    2
    """
    match location:
        case ("features", name, "layers", int(i), *_) if name == branch:
            return i
    return None


def _parse(data: Mapping[str, Any], folder: Path) -> Pipeline:
    """Read plain data; files in it are relative to ``folder``."""
    from featpipe.explore.writing import write_pipeline

    return read_pipeline(write_pipeline(data), NAME, folder)[0] if data else parse_pipeline(data)


def _program(layers: list[Any], folder: Path, at: tuple[str, int], channels: tuple[str, ...], shelf: Shelf) -> Program:
    """Resolve a branch's layers at one scale, with the learned banks that are there."""
    branch, scale = at
    pipeline = _parse({"features": {branch: {"scales": [scale], "layers": layers}}}, folder)
    return make_learned(pipeline.features, channels, shelf)


def _unlearned(program: Program) -> list[Problem]:
    problems = []
    for request in program.fits:
        what = f"learns its bank from a collection ({request.title}), and this page has one image."
        change = "Run the pipeline, or learn it with featpipe fit and write bank: {file: bank.npz}."
        problems.append(Problem(key_path(request.location), what, change, request.location))
    return problems


def _too_much(program: Program, shape: tuple[int, int]) -> list[Problem]:
    """Return the first layer whose map is more than the page holds at once."""
    shapes, taken = node_shapes(program, shape), 0
    for i, node in enumerate(program.nodes):
        taken += map_bytes(program, i, whole(shapes[i])) if min(shapes[i]) > 0 else 0
        if taken > CHAIN_BYTES:
            y, x = shapes[i]
            what = f"its map of {y}×{x}×{len(node.features)} would bring this page's maps to {taken / 2**20:.0f} MiB."
            change = f"It holds {CHAIN_BYTES >> 20} MiB: look at a smaller part, or use a stride or fewer kernels."
            return [Problem(f"{key_path(node.location)} ({node.title})", what, change, node.location)]
    return []
