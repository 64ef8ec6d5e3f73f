"""``--set key=value``: changes to a pipeline's plain data before it is validated."""

from __future__ import annotations

import re
from typing import Any

from featpipe.errors import Location, Problem, SpecError
from featpipe.spec.base import describe, shorten
from featpipe.spec.messages import where
from featpipe.spec.source import Node, read_yaml

_PART = re.compile(r"\.?([^.\[\]=\s]+)|\[([0-9]{1,6})\]")


def apply_override(data: dict[str, Any], override: str) -> Location:
    """Change ``data`` in place as one override says.

    Parameters
    ----------
    data : dict
        The whole pipeline.
    override : str
        ``store.path=x`` or ``features.texture.layers[0].pool.max=[3, 3]``; the value is strict YAML.

    Returns
    -------
    Location
        The topmost place that is new: the value's, or that of the first mapping made to hold it.

    Raises
    ------
    SpecError
        If the override is malformed, or its key path leads into something that is no mapping or list.
    """
    path, equals, text = override.partition("=")
    path = path.strip()
    location = _read_path(path)
    if not equals or location is None:
        change = "Write it as --set store.path=features.zarr or --set features.NAME.layers[0].pool.max=2."
        raise SpecError(Problem(f"--set {shorten(override)}", "is not of the form key=value.", change))
    value = read_value(f"--set {shorten(path)}", text)
    node: Any = data
    new = location
    for i, part in enumerate(location):
        _check_step(node, part, location[:i], path)
        if i == len(location) - 1:
            node[part] = value
            break
        if isinstance(part, str) and node.get(part) is None:
            node[part] = {}
            new = min(new, location[: i + 1], key=len)
        node = node[part]
    return new


def _read_path(path: str) -> Location | None:
    location: list[str | int] = []
    position = 0
    while position < len(path):
        found = _PART.match(path, position)
        if not found or (not location and not path[0].isalnum()):
            return None
        location.append(found[1] if found[1] is not None else int(found[2]))
        position = found.end()
    return tuple(location) or None


def read_value(name: str, text: str) -> Any:
    """Return an option's value, which is strict YAML; ``name`` is the option, for errors.

    Raises
    ------
    SpecError
        If it is malformed.

    Examples
    --------
    >>> read_value("--select", "[0.1, 0.2]"), read_value("--select", "no")
    ([0.1, 0.2], 'no')
    """
    try:
        root, problems = read_yaml(text, name) if text.strip() else (Node(1, 1, None), [])
    except SpecError as error:
        root, problems = None, list(error.problems)
    if problems or root is None:
        raise SpecError([Problem(name, problem.what, problem.change) for problem in problems])
    return root.data()


def _check_step(node: Any, part: str | int, above: Location, path: str) -> None:
    wanted = "mapping" if isinstance(part, str) else "list"
    if not isinstance(node, dict if wanted == "mapping" else list):
        what = f"{where(above)} is not a {wanted}, it is {describe(node)}."
        raise SpecError(Problem(f"--set {shorten(path)}", what, "Override what stands above it instead.", above))
    if isinstance(part, int) and part >= len(node):
        last = f"; the last is [{len(node) - 1}]" if node else ""
        raise SpecError(Problem(f"--set {shorten(path)}", f"{where(above)} has no item [{part}]{last}.", "", above))
