"""Maps that were computed lately, by the identity of what made them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.plan.program import ROOT, Program
from featpipe.plan.schedule import map_bytes, node_shapes, whole
from featpipe.trace import trace

Float32 = npt.NDArray[np.float32]
MOST_BYTES = 128 << 20
"""Of the maps that are kept, unless the chain on screen has more. Memory that is given up is used again; new
memory takes longer to get than a map to compute."""
CHAIN_BYTES = 384 << 20
"""Of the maps of one chain."""


def identities(program: Program, image: str) -> dict[int, str]:
    """Return a digest for the map of every node, of all that its values depend on.

    Parameters
    ----------
    program : Program
    image : str
        Digest of the image.
    """
    keys = {ROOT: image}
    for i, node in enumerate(program.nodes):
        digest = hashlib.sha256(f"{keys[node.parent]} {node.sweeps}".encode())
        _feed(digest, node.op)
        keys[i] = digest.hexdigest()[:24]
    return keys


def image_key(pixels: Float32) -> str:
    """Return the digest of an image."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:24]


def _feed(digest: Any, part: Any) -> None:
    """Add an op, whatever it holds."""
    digest.update(type(part).__name__.encode())
    if isinstance(part, np.ndarray):
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part))
    elif is_dataclass(part):
        for field in fields(part):
            _feed(digest, getattr(part, field.name))
    elif isinstance(part, (tuple, list)):
        for item in part:
            _feed(digest, item)
    else:
        digest.update(repr(part).encode())


class Maps:
    """Maps by identity, the least recently used of which are given up."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.held: OrderedDict[str, Float32] = OrderedDict()

    def get(self, key: str) -> Float32 | None:
        """Return a map, if it is still there."""
        if key in self.held:
            self.held.move_to_end(key)
        return self.held.get(key)

    def make_room(self, needed: int, keep: Collection[str]) -> None:
        """Give up maps that are not to be kept, so that ``needed`` bytes more come to no more than may be held."""
        for key in [key for key in self.held if key not in keep]:
            if self.bytes() + needed <= self.most:
                break
            del self.held[key]

    def bytes(self) -> int:
        """Return what the maps take."""
        return sum(values.nbytes for values in self.held.values())

    def compute(self, program: Program, image: Float32, keys: dict[int, str], nodes: Collection[int]) -> set[int]:
        """Make sure that the maps of some nodes are there; return those that had to be computed."""
        known = {node: values for node in nodes if (values := self.get(keys[node])) is not None}
        missing = {node for node in nodes if node not in known}
        if missing:
            shapes = node_shapes(program, (image.shape[0], image.shape[1]))
            self.make_room(sum(map_bytes(program, node, whole(shapes[node])) for node in missing), set(keys.values()))
            for node, values in trace(program, image, sorted(missing), known):
                self.held[keys[node]] = values
        return missing
