"""What features depend on, as digests: those of anything else are never taken for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location
from featpipe.geometry.axis import Span
from featpipe.kernels.positions import GivenKernels
from featpipe.plan.collection import Collection
from featpipe.plan.fitting import FitRequest, fit_images, map_shapes
from featpipe.plan.model import MapPlan, Plan
from featpipe.plan.program import ConvolveOp, LocallyConnectedOp, Program
from featpipe.spec.defaults import resolved

Float32 = npt.NDArray[np.float32]
ARITHMETIC = 1
"""Raised whenever the same pipeline would give other bits."""
DECODERS = ("imagecodecs", "pillow", "simplejpeg", "tifffile")
"""Packages that make pixels of files: other versions may make others."""
NO_FEATURE = ("path", "labels", "split", "on_error", "max_pixels")
"""Options of the images that change no feature."""
LENGTH = 24
"""Letters of a digest that stands in every receipt."""


@dataclass(frozen=True)
class Identity:
    """All that the bits of a shard depend on, as digests."""

    chain: str
    """Of the options of the images, the layers and their kernels."""
    fits: str
    """Of the images that banks were learned from; empty where none were."""
    versions: str
    """Of the arithmetic, and of the decoders of the images."""
    pieces: str
    """Of what is one shard."""
    input: str
    """Of the images: their names, sizes and times."""


class Identities:
    """The identities of a plan's shards.

    Parameters
    ----------
    plan : Plan
        As it is before its banks are learned.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        spec = resolved(plan.pipeline)
        self._chains = {a_map.name: self._chain(a_map, spec) for a_map in plan.maps}
        self._inputs: dict[Span, str] = {}

    def of(self, a_map: MapPlan, images: Span) -> Identity:
        """Return the identity of the shards of a map of some images."""
        if images not in self._inputs:
            self._inputs[images] = input_digest(self.plan.collection, images)
        chain, fits = self._chains[a_map.name]
        return Identity(chain, fits, self.versions, self.pieces, self._inputs[images])

    @cached_property
    def versions(self) -> str:
        decoders = self.decoder_versions if not self.plan.collection.is_array else {}
        return digest({"arithmetic": ARITHMETIC, **decoders})

    @cached_property
    def decoder_versions(self) -> dict[str, str]:
        return {name: version(name) for name in DECODERS}

    @cached_property
    def pieces(self) -> str:
        return digest([self.plan.batch, self.plan.block])

    @cached_property
    def fits(self) -> dict[str, str]:
        """Of each fit's key, the digest of the images that it looks at."""
        found = {}
        for request in self.plan.program.fits:
            looked_at = fit_images(request, self.plan.collection, map_shapes(self.plan, request))
            found[request.key] = _images_digest(self.plan.collection, np.array(looked_at))
        return found

    def _chain(self, a_map: MapPlan, spec: dict[str, Any]) -> tuple[str, str]:
        """Return the digests of a map's chain, and of what its banks are learned from."""
        images = {key: value for key, value in spec["images"].items() if key not in NO_FEATURE}
        wish = {
            "images": images,
            "layers": spec["features"][a_map.branch]["layers"],
            "map": a_map.name,
            "channels": self.plan.collection.channels,
            "dtype": self.plan.pipeline.store.dtype,
            "kernels": bank_digest(self.plan.program, self.plan.program.path(a_map.node)),
        }
        fits = [self.fits[request.key] for request in self._fits_of(a_map)]
        return digest(wish), digest(fits) if fits else ""

    def _fits_of(self, a_map: MapPlan) -> list[FitRequest]:
        """Return the fits that a map's branch asks for."""
        return self._by_branch.get(("features", a_map.branch), [])

    @cached_property
    def _by_branch(self) -> dict[Location, list[FitRequest]]:
        found: dict[Location, list[FitRequest]] = {}
        for one in self.plan.program.fits:
            found.setdefault(one.location[:2], []).append(one)
        return found


def input_digest(collection: Collection, images: Span) -> str:
    """Return the digest of some neighbouring images."""
    return _images_digest(collection, np.arange(*images))


def _images_digest(collection: Collection, images: npt.NDArray[np.int64]) -> str:
    first, last = int(images[0]), int(images[-1]) + 1
    near = last - first == len(images)
    names = collection.paths[first:last] if near else [collection.paths[i] for i in images]
    facts = (images, collection.stamps[images], collection.heights[images], collection.widths[images])
    text = "\0".join([collection.source, *names]).encode(errors="surrogateescape")
    return _sha256(text, *(np.ascontiguousarray(fact).reshape(-1).data for fact in facts))[:LENGTH]


def plan_digests(plan: Plan) -> dict[str, str]:
    """Return SHA-256 digests, as hex, of the pipeline with its banks, the images, and the pieces of the store."""
    spec = resolved(plan.pipeline)
    images = {key: value for key, value in spec["images"].items() if key not in ("path", "on_error", "max_pixels")}
    wish = {
        "images": images,
        "features": spec["features"],
        "dtype": plan.pipeline.store.dtype,
        "arithmetic": ARITHMETIC,
    }
    nodes = range(len(plan.program.nodes))
    return {
        "pipeline": _sha256(json.dumps(wish, sort_keys=True).encode(), bank_digest(plan.program, nodes).encode()),
        "images": plan.collection.digest,
        "pieces": _sha256(json.dumps([plan.batch, plan.block]).encode()),
    }


def bank_digest(program: Program, nodes: Iterable[int]) -> str:
    """Return the SHA-256, as hex, of every kernel and bias of some nodes."""
    weights: list[Float32] = []
    for op in (program.nodes[i].op for i in nodes):
        if isinstance(op, ConvolveOp):
            weights += [*(group.weights for group in op.groups), op.bias]
        elif isinstance(op, LocallyConnectedOp):
            weights.append(op.bias)
            if isinstance(op.kernels, GivenKernels):  # others follow from the pipeline's seed
                weights.append(op.kernels.values)
    return _sha256(*(np.ascontiguousarray(one).reshape(-1).data for one in weights))


def digest(facts: object) -> str:
    """Return a short digest of JSON-able facts."""
    return _sha256(json.dumps(facts, sort_keys=True).encode())[:LENGTH]


def _sha256(*parts: bytes | memoryview) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()
