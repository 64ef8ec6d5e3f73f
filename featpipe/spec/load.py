"""Read a pipeline, and say everything that is wrong with it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from featpipe.errors import Problem, SpecError
from featpipe.reading.files import read_file
from featpipe.spec.banks import FileBank
from featpipe.spec.base import FROM_FILE, describe
from featpipe.spec.checks import check_branches, check_paths, resolve_path, split_file
from featpipe.spec.cluster import Cluster
from featpipe.spec.fits import LearnedBank
from featpipe.spec.layers import ConvolveLayer, ImportLayer, Layer, LocalLayer
from featpipe.spec.messages import Finding, findings
from featpipe.spec.overrides import apply_override
from featpipe.spec.pipeline import Branch, Pipeline
from featpipe.spec.source import DEEPEST, Node, Source, read_yaml

LARGEST_FILE = 16 * 2**20
"""Of a pipeline file, in bytes; more kernels than that belong in a ``.npy`` file."""

IN_MEMORY = "<array>"
"""``images.path`` of a pipeline that is applied to arrays in memory."""


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Pipeline, Source]:
    """Read a pipeline file.

    Parameters
    ----------
    path : str or Path
        The file, YAML in UTF-8.
    overrides : sequence of str
        ``store.path=x`` and the like, applied in order before validation.

    Returns
    -------
    pipeline : Pipeline
        With all paths absolute; relative ones are relative to the pipeline file, also those of overrides.
    source : Source
        Tells the place in the file of problems found later.

    Raises
    ------
    SpecError
        With every problem of the file and the overrides.
    """
    return _check(*_read_file(path), Path(path), overrides, images_needed=True)


def parse_pipeline(data: Mapping[str, Any] | str | Path) -> Pipeline:
    """Read a pipeline that will be applied to arrays: ``features`` will do.

    Parameters
    ----------
    data : mapping, str or Path
        The pipeline as plain data in the shape of the file, or the path of a file. Paths in a mapping are relative
        to the working directory.

    Returns
    -------
    Pipeline
        With ``images.path`` ``IN_MEMORY`` if there was none.

    Raises
    ------
    SpecError
        With every problem.
    """
    if isinstance(data, (str, Path)):
        return _check(*_read_file(data), Path(data), (), images_needed=False)[0]
    if not isinstance(data, Mapping):
        raise SpecError(Problem("the pipeline", f"must be a mapping or the path of a file, got {describe(data)}."))
    problems: list[Problem] = []
    plain = _plain(data, "the pipeline", problems, 0)
    if problems:
        raise SpecError(problems)
    pipeline, found = _validate(plain, Path.cwd(), images_needed=False)
    if pipeline is None:
        raise SpecError([finding.problem for finding in found])
    return pipeline


def read_pipeline(text: str, name: str, folder: Path) -> tuple[Pipeline, Source]:
    """Read the text of a pipeline file that will be applied to images at hand: ``features`` will do.

    Parameters
    ----------
    text : str
        YAML.
    name : str
        What problems call it.
    folder : Path
        What relative paths are relative to.

    Returns
    -------
    pipeline : Pipeline
        With ``images.path`` ``IN_MEMORY`` if there was none.
    source : Source

    Raises
    ------
    SpecError
        With every problem.
    """
    return _check(*_read_text(text, name), folder / name, (), images_needed=False, name=name)


def _check(
    root: Node, problems: list[Problem], path: Path, overrides: Sequence[str], images_needed: bool, name: str = ""
) -> tuple[Pipeline, Source]:
    data = root.data()
    changed = set()
    for override in overrides:
        try:
            changed.add(apply_override(data, override))
        except SpecError as error:
            problems.extend(error.problems)
    source = Source(name or str(path), root, frozenset(changed))
    pipeline, found = _validate(data, path.parent, images_needed)
    found = sorted(found, key=lambda finding: source.position(finding.problem.location, finding.on_key))
    problems += [source.locate(finding.problem, finding.on_key) for finding in found]
    if pipeline is None or problems:
        raise SpecError(problems)
    return pipeline, source


def _validate(data: dict[str, Any], folder: Path, images_needed: bool) -> tuple[Pipeline | None, list[Finding]]:
    """Return the pipeline, or None and what is wrong with it."""
    given = data
    images = data.get("images", {})
    if not images_needed and isinstance(images, (dict, type(None))) and "path" not in (images or {}):
        given = {**data, "images": {**(images or {}), "path": IN_MEMORY}}
    found: list[Finding] = []
    pipeline = None
    try:
        pipeline = Pipeline.model_validate(given, context=FROM_FILE)
    except ValidationError as error:
        found += findings(error, data)
    found += [*check_branches(data), *check_paths(data, folder)]
    if pipeline is None or found:
        return None, found
    return _with_paths(pipeline, folder), []


def _read_file(path: str | Path) -> tuple[Node, list[Problem]]:
    """Return the file's content, and the problems of its YAML that leave it readable."""
    try:
        content = read_file(path, LARGEST_FILE + 1)
    except FileNotFoundError:
        raise SpecError(
            Problem(str(path), "there is no such file.", "featpipe init writes a first pipeline.")
        ) from None
    except IsADirectoryError:
        found = sorted([*Path(path).glob("*.yaml"), *Path(path).glob("*.yml")])[:3]
        change = f"Give the pipeline file in it: {' or '.join(map(str, found))}." if found else "Give a pipeline file."
        raise SpecError(Problem(str(path), "is a directory.", change)) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise SpecError(Problem(repr(str(path)), f"cannot be read: {said}.")) from None
    if len(content) > LARGEST_FILE:
        what = f"is larger than {LARGEST_FILE // 2**20} MiB."
        raise SpecError(Problem(str(path), what, "Put kernels into a .npy file and name it under kernels:."))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"is not UTF-8: byte 0x{content[error.start]:02x}."
        raise SpecError(Problem(f"{path}:{line}", what, "Save the file as UTF-8.")) from None
    return _read_text(text, str(path))


def _read_text(text: str, name: str) -> tuple[Node, list[Problem]]:
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        raise SpecError(Problem(name, "is empty.", "featpipe init writes a first pipeline."))
    root, problems = read_yaml(text, name)
    if not isinstance(root.value, dict):
        what = f"must be a mapping with images and features, got {describe(root.data())}."
        raise SpecError([*problems, Problem(f"{name}:{root.line}:{root.column}", what)])
    return root, problems


def _plain(value: Any, name: str, problems: list[Problem], depth: int) -> Any:
    """Return NumPy values, tuples, paths and other mappings as what YAML would have given."""
    if depth > DEEPEST:
        problems.append(Problem("the pipeline", f"is nested deeper than {DEEPEST} levels."))
        return None
    match value:
        case None | bool() | int() | float():
            return value
        case str() | os.PathLike():
            text = str(value)
            if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
                problems.append(Problem(name, f"is not valid Unicode: {text!a}."))
            return text
        case np.ndarray() | np.generic():
            return _plain(value.tolist(), name, problems, depth)
        case Mapping():
            odd = [key for key in value if not isinstance(key, (str, int)) or isinstance(key, bool)]
            problems.extend(Problem(name, f"keys must be text, got {describe(key)}.") for key in odd)
            items = {str(key): item for key, item in value.items() if key not in odd}
            return {key: _plain(item, ascii(key), problems, depth + 1) for key, item in items.items()}
        case list() | tuple():
            return [_plain(item, f"{name}[{i}]", problems, depth + 1) for i, item in enumerate(value)]
        case _:
            problems.append(Problem(name, f"must be plain data, got {describe(value)}."))
            return None


def _with_paths(pipeline: Pipeline, folder: Path) -> Pipeline:
    """Return the pipeline with every path absolute."""
    images, store = pipeline.images, pipeline.store
    if images.path != IN_MEMORY:
        images = images.model_copy(update={"path": resolve_path(images.path, folder)})
    store = store.model_copy(update={"path": resolve_path(store.path, folder)})
    features = {name: _with_files(branch, folder) for name, branch in pipeline.features.items()}
    changed = {"images": images, "features": features, "store": store, "cluster": _reached(pipeline.cluster, folder)}
    return pipeline.model_copy(update=changed)


def _reached(cluster: Cluster | None, folder: Path) -> Cluster | None:
    if cluster is None:
        return None
    tls = cluster.tls
    if tls is not None:
        tls = tls.model_copy(update={name: resolve_path(path, folder) for name, path in tls})
    return cluster.model_copy(update={"tls": tls, "scheduler_file": _absolute(cluster.scheduler_file, folder)})


def _with_files(branch: Branch, folder: Path) -> Branch:
    layers = [_with_file(layer, folder) for layer in branch.layers]
    return branch.model_copy(update={"layers": layers})


def _with_file(layer: Layer, folder: Path) -> Layer:
    match layer:
        case ConvolveLayer(convolve=convolve):
            source = convolve.source
            changed: dict[str, object] = {"bias": _absolute(convolve.bias, folder)}
            if isinstance(source, (FileBank, LearnedBank)):
                changed["source"] = source.model_copy(update={"file": _absolute(source.file, folder)})
            return layer.model_copy(update={"convolve": convolve.model_copy(update=changed)})
        case LocalLayer(local=local):
            paths = {"kernels": _absolute(local.kernels, folder), "bias": _absolute(local.bias, folder)}
            return layer.model_copy(update={"local": local.model_copy(update=paths)})
        case ImportLayer(imported=stack):
            path = {"file": _absolute(stack.file, folder)}
            return layer.model_copy(update={"imported": stack.model_copy(update=path)})
    return layer


def _absolute(value: object, folder: Path) -> object:
    """Return the path of a file, absolute; what is no text is no path."""
    if not isinstance(value, str):
        return value
    path, key = split_file(value)
    return resolve_path(path, folder) + (f":{key}" if key else "")
