"""What must hold between the parts of a pipeline, seen on plain data so that a mistake elsewhere hides nothing."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featpipe.errors import Location, Problem
from featpipe.objects import ObjectsError, is_url, parse_url
from featpipe.reading.files import IrregularFileError, check_regular, stat_file
from featpipe.reading.retry import is_transient
from featpipe.spec.messages import Finding, where

LONGEST_PART, LONGEST_PATH = 255, 4095
"""Of a path, in bytes."""
TENSORS = ".safetensors"
FILE_KEYS = {"convolve": ("kernels", "bias"), "local": ("kernels", "bias"), "import": ("file",)}
"""What in a layer may be the path of a file with weights."""


def check_branches(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong between the branches, and between the layers of each."""
    features = data.get("features")
    if not isinstance(features, Mapping):
        return
    yield from _same_but_for_case([(name, ("features", name)) for name in features], on_key=True)
    for name, branch in features.items():
        layers = branch.get("layers") if isinstance(branch, Mapping) else None
        if isinstance(layers, list):
            yield from _check_saves(layers, ("features", name, "layers"))


def _check_saves(layers: list[Any], above: Location) -> Iterator[Finding]:
    saves = [
        (layer["save"], (*above, i, "save"))
        for i, layer in enumerate(layers)
        if isinstance(layer, Mapping) and isinstance(layer.get("save"), str)
    ]
    yield from _same_but_for_case([*saves, *_taps(layers, above)], on_key=False)
    if saves and saves[-1][1] == (*above, len(layers) - 1, "save"):
        yield _finding(saves[-1][1], "the last map of a branch is kept anyway.", "Remove this save.")


def _taps(layers: list[Any], above: Location) -> Iterator[tuple[str, Location]]:
    """Yield the maps that imported stacks save."""
    for i, layer in enumerate(layers):
        stack = layer.get("import") if isinstance(layer, Mapping) else None
        taps = stack.get("taps") if isinstance(stack, Mapping) else None
        for index, name in taps.items() if isinstance(taps, Mapping) else ():
            if isinstance(name, str):
                yield name, (*above, i, "import", "taps", index)


def _same_but_for_case(names: list[tuple[str, Location]], on_key: bool) -> Iterator[Finding]:
    """Names become directories, and some file systems do not tell upper from lower case."""
    first: dict[str, tuple[str, Location]] = {}
    for name, location in names:
        earlier, place = first.setdefault(name.casefold(), (name, location))
        if place != location:
            same = "the same name as" if earlier == name else "the same but for upper and lower case as"
            what = f"{name!r} is {same} {where(place)}."
            yield _finding(location, what, "Choose another name.", on_key)


def check_paths(data: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """Yield kernel files that are missing, and output that would fall into the input or the other way round."""
    for location, value in _kernel_files(data):
        yield from _check_kernel_file(location, value, folder)
    images, store = (_text_at(data, section, "path") for section in ("images", "store"))
    for section, address in (("images", images), ("store", store)):
        if address and is_url(address):
            yield from _check_url(address, (section, "path"))
        elif address:
            yield from _check_length(resolve_path(address, folder), (section, "path"))
    if not images or is_url(images) or (store and is_url(store)):
        return
    pattern = glob.has_magic(images)
    source = Path(os.path.realpath(resolve_path(_before_magic(images), folder)))
    target = Path(os.path.realpath(resolve_path(store or "features.zarr", folder)))
    location = ("store", "path") if store else ("images", "path")
    change = "Set store.path to a place of its own."
    if target == source:
        yield _finding(location, f"images and store are the same, {target}.", change)
    elif target in source.parents:
        yield _finding(location, f"images.path {images!r} is inside the store, {target}.", change)
    elif source in target.parents and not pattern:
        yield _finding(location, f"the store, {target}, would be inside images.path.", change)


def _check_length(path: str, location: Location) -> Iterator[Finding]:
    """Yield what is too long for the file system in a path, which would only show when it is used."""
    longest = max(len(os.fsencode(part)) for part in Path(path).parts)
    if longest > LONGEST_PART:
        what = f"has a part of {longest:,} bytes; a file or a directory has a name of at most {LONGEST_PART} bytes."
        yield _finding(location, what, "Choose a shorter name.")
    elif len(os.fsencode(path)) > LONGEST_PATH:
        what = f"is too long: {len(os.fsencode(path)):,} bytes, and a path has at most {LONGEST_PATH:,}."
        yield _finding(location, what, "Choose another place.")


def _check_url(address: str, location: Location) -> Iterator[Finding]:
    try:
        parse_url(address, location)
    except ObjectsError as error:
        yield from (Finding(problem, False) for problem in error.problems)


def resolve_path(path: str, folder: Path) -> str:
    """Return ``path`` made absolute from ``folder``; an address such as ``s3://…`` stays as it is."""
    if is_url(path):
        return path
    return os.path.abspath(folder / os.path.expanduser(path))  # noqa: PTH100, PTH111  (also of a glob, also without a home)


def split_file(path: str) -> tuple[str, str | None]:
    """Split ``kernels.npz:key`` or ``weights.safetensors:key`` into file and key.

    Examples
    --------
    >>> split_file("banks/lm.npz:edges")
    ('banks/lm.npz', 'edges')
    """
    for suffix in (".npz", TENSORS):
        stem, colon, key = path.rpartition(f"{suffix}:")
        if colon:
            return stem + suffix, key
    return path, None


def _kernel_files(data: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    features = data.get("features")
    for name, branch in features.items() if isinstance(features, Mapping) else ():
        layers = branch.get("layers") if isinstance(branch, Mapping) else None
        for i, layer in enumerate(layers if isinstance(layers, list) else ()):
            for op, keys in FILE_KEYS.items():
                options = layer.get(op) if isinstance(layer, Mapping) else None
                options = options if isinstance(options, Mapping) else {}
                for key in keys:
                    if isinstance(options.get(key), str):
                        yield ("features", name, "layers", i, op, key), options[key]


def _check_kernel_file(location: Location, value: str, folder: Path) -> Iterator[Finding]:
    path, key = split_file(value)
    if not value or "\0" in value:
        return
    full = Path(resolve_path(path, folder))
    of_many, whole = full.suffix in (".npz", TENSORS), location[-2] == "import"
    if whole and (full.suffix != TENSORS or key):
        change = "In PyTorch: safetensors.torch.save_file(model.state_dict(), FILE)."
        yield _finding(location, f"must be a whole {TENSORS} file, got {value[:60]!r}.", change)
    elif of_many and not key and not whole:
        what = f"{value!r} does not say which array of the file."
        yield _finding(location, what, f"Write it as FILE{full.suffix}:NAME.")
    elif full.suffix != ".npy" and not of_many:
        instead = {("convolve", "kernels"): "a list of kernels", ("local", "kernels"): "{fit: random, …}"}
        other = instead.get((str(location[-2]), str(location[-1])), "a number or a list")
        what = f"must be a .npy file, FILE.npz:NAME, FILE{TENSORS}:NAME, or {other}, got {value[:60]!r}."
        yield _finding(location, what)
    elif what := _no_file(full):
        yield _finding(location, what, "Paths are relative to the pipeline file.")


def _no_file(path: Path) -> str:
    """Say why a path is no file that can be read; nothing where it is one."""
    try:
        check_regular(str(path), stat_file(path))
    except IrregularFileError as error:
        return f"{path} {error}."
    except (OSError, ValueError) as error:
        return "" if is_transient(error) else f"there is no file {path}."  # whoever reads it tells what is wrong
    return ""


def _before_magic(pattern: str) -> str:
    """Return the directory of a glob up to its first wildcard."""
    parts = Path(pattern).parts
    magic = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:magic]))


def _text_at(data: Mapping[str, Any], section: str, key: str) -> str | None:
    part = data.get(section)
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, str) and "\0" not in value else None


def _finding(location: Location, what: str, change: str = "", on_key: bool = False) -> Finding:
    return Finding(Problem(where(location), what, change, location), on_key)
