"""Passes: which nodes run as one loop over rows, and which of their kernels go together.

A convolution, the pointwise layers after it and the pooling after those are one pass, kernel by kernel: what happens to
a response until it is pooled concerns no other. Kernels go in *panels*, few enough for the cache; features that a layer
combines go in the same panel, and where it combines kernels of different sizes or channels the pass ends before it::

    convolve · modulus · pool · relu · pool      ──▶      [ convolve · modulus · pool ] [ relu · pool ]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from featpipe.caches import Cache
from featpipe.kernels.pointwise import ENCODERS, SIMPLE
from featpipe.plan.program import (
    ActivateOp,
    ConvolveOp,
    DistanceOp,
    FoldOp,
    GridOp,
    KernelGroup,
    Node,
    PoolOp,
    Program,
    StandardiseOp,
)

PANEL = 64
"""Kernels of a panel, unless features that are combined, or columns that are shared, are more."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Kernels of one size on one channel, or all features of a map at hand."""

    group: KernelGroup | None
    """None: the features themselves."""
    channel: int
    pieces: tuple[tuple[int, ...], ...]
    """Kernels of the group that are computed together, such as those that share columns, in their order."""

    @property
    def members(self) -> list[int]:
        """The kernels, or features, in their order."""
        return [k for piece in self.pieces for k in piece]


@dataclass(frozen=True, eq=False)
class Pass:
    """Neighbouring nodes of a path that run as one loop, panel by panel; without panels, one node by itself."""

    nodes: tuple[int, ...]
    panels: tuple[Panel, ...]


_PASSES: Cache[tuple[Pass, ...]] = Cache()
"""By the nodes that are split; a program has few such paths."""


def split_passes(program: Program, nodes: tuple[int, ...]) -> tuple[Pass, ...]:
    """Split neighbouring nodes of a path into passes; asked again, returns the same ones."""
    return _PASSES.get(program, nodes, lambda: tuple(_split(program, list(nodes))))


def _split(program: Program, nodes: list[int]) -> list[Pass]:
    passes = []
    while nodes:
        first = program.nodes[nodes[0]]
        taken = 1 if isinstance(first.op, ConvolveOp) else 0
        units = _Units(program, first)
        while taken < len(nodes) and _goes_on(program.nodes[nodes[taken]], taken):
            following = program.nodes[nodes[taken]]
            if not units.follow(following):
                break
            taken += 1
            if isinstance(following.op, (PoolOp, GridOp)):
                break
        panels = units.panels() if taken else ()
        passes.append(Pass(tuple(nodes[: max(1, taken)]), panels))
        nodes = nodes[max(1, taken) :]
    return passes


def _goes_on(node: Node, taken: int) -> bool:
    """Tell whether a pass of so many nodes can take on another."""
    match node.op:
        case ActivateOp(name=name):
            return name in SIMPLE or name in ENCODERS
        case FoldOp(by=by):
            return by != "std"
        case GridOp(by=by, bins=bins):
            return by != "std" and bins is None
        case PoolOp(by=by, bins=bins):
            # padding other than zeros is made of samples, which must be at hand
            padded = any(sweep.mode != "zero" and sweep.before + sweep.after for sweep in node.sweeps)
            return by != "std" and bins is None and (taken == 0 or not padded)
        case StandardiseOp() | DistanceOp():
            return True
    return False


def _root(joined: list[int], unit: int) -> int:
    """Return the unit that one has become part of."""
    while joined[unit] != unit:
        joined[unit] = joined[joined[unit]]
        unit = joined[unit]
    return unit


class _Units:
    """What a pass begins with, gathered to units that a panel must hold whole: kernels, or all features of a map."""

    def __init__(self, program: Program, first: Node) -> None:
        self.op = first.op if isinstance(first.op, ConvolveOp) else None
        self.inputs = program.width(first.parent)
        self.pieces: list[list[tuple[int, ...]]] = []
        """Of each unit, kernels of its group that are computed together, in their order."""
        self.places: list[tuple[int, int]] = []
        """Of each unit, its group of kernels and its channel."""
        self.of_feature: list[int] = []
        """The unit of each feature, after the layers so far."""
        if self.op is None:
            self.pieces, self.places = [[tuple(range(self.inputs))]], [(0, 0)]
            self.of_feature = [0] * self.inputs
        else:
            self._gather(self.op)

    def _gather(self, op: ConvolveOp) -> None:
        self.of_feature = [0] * (len(op.bias) * (self.inputs if op.each else 1))
        for g, group in enumerate(op.groups):
            for channel in range(self.inputs if op.each else 1):
                pieces = [part.members for part in group.factors] or [(k,) for k in range(len(group.columns))]
                for piece in pieces:
                    for feature in panel_features(op, group, channel, piece):
                        self.of_feature[feature] = len(self.pieces)
                    self.pieces.append([piece])
                    self.places.append((g, channel))

    def follow(self, node: Node) -> bool:
        """Take on a layer; return False where it combines features of different places."""
        if isinstance(node.op, ActivateOp) and node.op.name == "split":
            self.of_feature = self.of_feature * 2
        elif isinstance(node.op, DistanceOp) or (isinstance(node.op, ActivateOp) and node.op.name in ENCODERS):
            if len({self.places[unit] for unit in self.of_feature}) > 1:
                return False
            joined = list(range(len(self.pieces)))
            self._join(self.of_feature, joined)
            self.of_feature = [_root(joined, unit) for unit in self.of_feature[: len(node.features)]]
        elif isinstance(node.op, FoldOp):
            groups = [[self.of_feature[member] for member in group] for group in fold_groups(node.op)]
            if any(len({self.places[unit] for unit in group}) > 1 for group in groups):
                return False
            joined = list(range(len(self.pieces)))
            for group in groups:
                self._join(group, joined)
            self.of_feature = [_root(joined, group[0]) for group in groups]
        return True

    def _join(self, units: Sequence[int], joined: list[int]) -> None:
        """Make one unit of several; ``joined`` tells which unit each has become part of, or leads there."""
        first, *others = sorted({_root(joined, unit) for unit in units})
        for other in others:
            self.pieces[first] += self.pieces[other]
            self.pieces[other] = []
            joined[other] = first

    def panels(self) -> tuple[Panel, ...]:
        """Return the panels of a pass of the layers so far."""
        panels: dict[tuple[int, int], list[list[tuple[int, ...]]]] = {}
        for pieces, place in zip(self.pieces, self.places, strict=True):
            here = panels.setdefault(place, [[]])
            if here[-1] and sum(map(len, here[-1] + pieces)) > PANEL:
                here.append([])
            here[-1] += pieces
        return tuple(
            Panel(None if self.op is None else self.op.groups[g], channel, tuple(pieces))
            for (g, channel), several in panels.items()
            for pieces in several
            if pieces
        )


def panel_features(op: ConvolveOp, group: KernelGroup, channel: int, members: Sequence[int]) -> list[int]:
    """Return which features of the convolution some kernels make."""
    return [int(group.columns[k]) + channel * len(op.bias) for k in members]


def fold_groups(op: FoldOp) -> list[list[int]]:
    """Return the features of each group."""
    return [op.members[a:b].tolist() for a, b in pairwise(op.starts.tolist())]
