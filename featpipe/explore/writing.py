"""The YAML of what the page shows, as a person would have laid it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from featpipe.errors import FeatpipeError, Location, Problem, key_path
from featpipe.spec.layers import BARE
from featpipe.spec.source import read_scalar, read_yaml

RAW = "$yaml"
"""Key of a mapping that stands for a value which somebody has typed: its text."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True  # pipelines have none


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote what our reader would take for a number, though PyYAML's would not."""
    style = None if isinstance(read_scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def flow(value: Any) -> str:
    """Write a value on one line.

    Examples
    --------
    >>> flow({"kernels": [[[0.1, 2]]], "names": ["1e3"]})
    "{kernels: [[[0.1, 2]]], names: ['1e3']}"
    """
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()


def write_pipeline(data: Mapping[str, Any]) -> str:
    """Write a pipeline, one layer a line.

    Parameters
    ----------
    data : mapping
        Plain data in the shape of the file, right or wrong.

    Returns
    -------
    str
        YAML that reads back as ``data``.
    """
    return "".join(line + "\n" for key, value in data.items() for line in _entry(key, value, 0))


def _entry(key: str, value: Any, depth: int) -> list[str]:
    """Write a key and its value: sections and branches over several lines, layers as a list."""
    before = "  " * depth + flow(key)
    if depth < 3 and isinstance(value, Mapping) and value and (depth < 2 or "layers" in value):
        if depth == 0 or "layers" in value:
            return [before + ":", *(line for k, v in value.items() for line in _entry(k, v, depth + 1))]
        return [f"{before}: {flow(value)}"]
    if key == "layers" and isinstance(value, list) and value:
        return [before + ":", *("  " * (depth + 1) + "- " + layer_text(layer) for layer in value)]
    return [f"{before}: {flow(value)}"]


def layer_text(layer: Any) -> str:
    """Write a layer as it stands after the dash.

    Examples
    --------
    >>> layer_text({"pool": {"max": 2}}), layer_text({"modulus": {}})
    ('pool: {max: 2}', 'modulus')
    """
    if isinstance(layer, Mapping) and len(layer) == 1:
        ((op, value),) = layer.items()
        return str(op) if op in BARE and value in ({}, None) else f"{flow(op)}: {flow(value)}"
    return flow(layer)


def typed(value: Any, problems: list[Problem], location: Location = ()) -> Any:
    """Return the data with every value that was typed as text read; what cannot be read stays text.

    Parameters
    ----------
    value : plain data
    problems : list of Problem
        What cannot be read is added.
    location : tuple
        Of the value in the pipeline.
    """
    match value:
        case {"$yaml": str(text)} if len(value) == 1:
            return _read(text, problems, location)
        case Mapping():
            return {key: typed(item, problems, (*location, key)) for key, item in value.items()}
        case list():
            return [typed(item, problems, (*location, i)) for i, item in enumerate(value)]
    return value


def _read(text: str, problems: list[Problem], location: Location) -> Any:
    where = key_path(location)
    if not text.strip():
        return None
    try:
        root, found = read_yaml(text, where)
    except FeatpipeError as error:
        found, root = list(error.problems), None
    if found or root is None:
        problems += [Problem(where, problem.what, problem.change, location) for problem in found]
        return text
    data = root.data()
    layer = len(location) > 1 and location[-2] == "layers"
    return data[0] if layer and isinstance(data, list) and len(data) == 1 else data
