"""A program's nodes in the order in which they are shown: what several branches begin with comes once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from featpipe.plan.program import ROOT, DistanceOp, Program
from featpipe.spec.pipeline import Branch


@dataclass(frozen=True)
class Lane:
    """Nodes that follow one another, up to where the way parts or ends."""

    name: str
    """The branches and the scale that it leads to; empty where there is one lane alone."""
    after: int
    """The node that it goes on from."""
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """The nodes that are shown, and where those that are not have a double."""

    lanes: tuple[Lane, ...]
    double: Mapping[int, int]
    """Every node to the first that computes the same."""


def make_tree(program: Program, features: Mapping[str, Branch], branch: str | None = None) -> Tree:
    """Return the lanes of a program, those first that others go on from.

    Parameters
    ----------
    program : Program
    features : mapping of str to Branch
        Of the pipeline that it was made of.
    branch : str, optional
        The one that is shown; all unless given.
    """
    double = _doubles(program, features)
    outputs = [output for output in program.outputs if branch in (None, output.branch)]
    leads: dict[int, dict[tuple[str, int], None]] = {}
    for output in outputs:
        for i in program.path(output.node):
            leads.setdefault(double[i], {})[output.branch, output.scale] = None
    children: dict[int, list[int]] = {}
    for i in sorted(leads):
        children.setdefault(double[program.nodes[i].parent], []).append(i)
    scales = {output.scale for output in outputs}
    lanes: list[Lane] = []

    def follow(after: int, first: int) -> None:
        nodes = [first]
        while len(children.get(nodes[-1], ())) == 1:
            nodes += children[nodes[-1]]
        lanes.append(Lane(_name(leads[nodes[-1]], several=len(scales) > 1), after, tuple(nodes)))
        for child in children.get(nodes[-1], ()):
            follow(nodes[-1], child)

    for child in children[ROOT]:
        follow(ROOT, child)
    if len(lanes) == 1:
        lanes = [Lane("", ROOT, lanes[0].nodes)]
    return Tree(tuple(lanes), double)


def is_hidden(program: Program, node: int) -> bool:
    """Tell whether a node is half of a layer: what distances are made of."""
    following = program.nodes[node + 1] if node + 1 < len(program.nodes) else None
    return following is not None and following.parent == node and isinstance(following.op, DistanceOp)


def _doubles(program: Program, features: Mapping[str, Branch]) -> dict[int, int]:
    """Map every node to the first that computes the same: of an equal layer, on the same map."""
    double, first = {ROOT: ROOT}, dict[tuple[int, str, int], int]()
    ordinal: dict[int, int] = {}
    for i, node in enumerate(program.nodes):
        same = node.parent != ROOT and program.nodes[node.parent].location[:4] == node.location[:4]
        ordinal[i] = ordinal[node.parent] + 1 if same else 0
        double[i] = first.setdefault((double[node.parent], _spec(node.location, node.title, features), ordinal[i]), i)
    return double


def _spec(location: Sequence[str | int], title: str, features: Mapping[str, Branch]) -> str:
    """Return a layer as it is written in the pipeline."""
    if len(location) < 4 or location[2] != "layers":
        return title  # a step of the pyramid
    layer = features[str(location[1])].layers[int(location[3])]
    return json.dumps([type(layer).__name__, layer.model_dump(mode="json")], sort_keys=True)


def _name(leads: Iterable[tuple[str, int]], *, several: bool) -> str:
    branches = list(dict.fromkeys(branch for branch, _ in leads))
    name = ", ".join(branches) if len(branches) <= 4 else f"{len(branches)} branches"
    scales = sorted({scale for _, scale in leads})
    return f"{name}, scale {' and '.join(map(str, scales))}" if several else name
