"""What features depend on, as digests: those of anything else are never taken for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location
from featpipe.geometry.axis import Span
from featpipe.kernels.factors import LARGE
from featpipe.kernels.positions import GivenKernels
from featpipe.plan.collection import Collection
from featpipe.plan.fitting import FitRequest, draw_images, fit_images, map_shapes
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
    """Of the images that banks were learned from; empty where none were.

    Its first half is of the list of them, its second of the content of those that were looked at.
    """
    versions: str
    """Of the arithmetic, and of the decoders of the images."""
    pieces: str
    """Of what is one shard."""
    input: str
    """Of the images: their rows, names, shapes and contents."""


Contents = Sequence[str | None]
"""The content of each image, None for one that is not known (yet)."""


class Identities:
    """The identities of a plan's shards.

    Parameters
    ----------
    plan : Plan
        As it is before its banks are learned.
    contents : sequence of str or None
        The content of every image, as far as it is known; what is learned later is taken into account.
    """

    def __init__(self, plan: Plan, contents: Contents) -> None:
        self.plan = plan
        self.contents = contents
        self._inputs: dict[Span, tuple[list[str], str]] = {}

    def of(self, a_map: MapPlan, images: Span) -> Identity | None:
        """Return the identity of the shards of a map of some images; None where a content is not known."""
        given, fits = self.input(images), self.fits(a_map)
        if given is None or fits is None:
            return None
        return Identity(self.chain(a_map), fits, self.versions, self.pieces, given)

    def input(self, images: Span) -> str | None:
        """Return the digest of some images; None where a content is not known."""
        contents = _known(self.contents[images.start : images.stop])
        if contents is None:
            return None
        known = self._inputs.get(images)
        if known is None or known[0] != contents:
            known = (contents, _images_digest(self.plan.collection, np.arange(*images), contents))
            self._inputs[images] = known
        return known[1]

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

    def chain(self, a_map: MapPlan) -> str:
        """Return the digest of a map's chain."""
        return self._chains[a_map.name]

    @cached_property
    def _chains(self) -> dict[str, str]:
        spec = resolved(self.plan.pipeline)
        images = {key: value for key, value in spec["images"].items() if key not in NO_FEATURE}
        return {
            a_map.name: digest(
                {
                    "images": images,
                    "layers": spec["features"][a_map.branch]["layers"],
                    "map": a_map.name,
                    "channels": self.plan.collection.channels,
                    "dtype": self.plan.pipeline.store.dtype,
                    "kernels": bank_digest(self.plan.program, self.plan.program.path(a_map.node)),
                }
            )
            for a_map in self.plan.maps
        }

    # -- banks that are learned ----------------------------------------------------------------------------------------

    def fits(self, a_map: MapPlan) -> str | None:
        """Return the digest of what a map's banks are learned from; None where a content is not known."""
        requests = self._requests(a_map)
        found = [self.fit(request.key) for request in requests]
        if not all(found):
            return None if found else ""
        return self.fits_list(a_map) + digest([one[LENGTH // 2 :] for one in found if one])[: LENGTH // 2]

    def fits_list(self, a_map: MapPlan) -> str:
        """Return the half of it that is of the list of images, and needs no content."""
        lists = [self._fit_lists[request.key] for request in self._requests(a_map)]
        return digest(lists)[: LENGTH // 2] if lists else ""

    def fit(self, key: str) -> str | None:
        """Return the digest of the images that a fit looks at; None where a content is not known."""
        drawn = self.drawn[key]
        contents = _known([self.contents[row] for row in drawn])
        return None if contents is None else self._fit_lists[key] + digest(contents)[: LENGTH // 2]

    def drawn_for(self, a_map: MapPlan) -> set[int]:
        """Return the images that patches are drawn from for a map's banks."""
        return {row for request in self._requests(a_map) for row in self.drawn[request.key]}

    def stamped_fits(self, a_map: MapPlan) -> str:
        """Return the digest that featpipe 0.1 wrote of what a map's banks are learned from."""
        found = [self.stamped_fit(request.key) for request in self._requests(a_map)]
        return digest(found) if found else ""

    def stamped_fit(self, key: str) -> str:
        """Return the digest that featpipe 0.1 wrote of the images that a fit looks at."""
        rows = np.array(self.looked_at[key])
        return stamps_digest(self.plan.collection, rows, rows)

    def _requests(self, a_map: MapPlan) -> list[FitRequest]:
        """Return the fits that a map's branch asks for."""
        return self._by_branch.get(("features", a_map.branch), [])

    @cached_property
    def _by_branch(self) -> dict[Location, list[FitRequest]]:
        found: dict[Location, list[FitRequest]] = {}
        for one in self.plan.program.fits:
            found.setdefault(one.location[:2], []).append(one)
        return found

    @cached_property
    def looked_at(self) -> dict[str, list[int]]:
        """Of each fit's key, the images that it may look at."""
        collection = self.plan.collection
        return {one.key: fit_images(one, collection, map_shapes(self.plan, one)) for one in self.plan.program.fits}

    @cached_property
    def drawn(self) -> dict[str, list[int]]:
        """Of each fit's key, the images that patches are drawn from."""
        banks = {one.key: one.bank for one in self.plan.program.fits}
        return {
            key: np.unique(draw_images(images, banks[key].patches, np.random.default_rng(banks[key].seed))).tolist()
            for key, images in self.looked_at.items()
        }

    @cached_property
    def _fit_lists(self) -> dict[str, str]:
        rows = {key: np.array(images) for key, images in self.looked_at.items()}
        return {key: _images_digest(self.plan.collection, rows[key], ())[: LENGTH // 2] for key in rows}


def _known(contents: Contents) -> list[str] | None:
    known = [content for content in contents if content is not None]
    return known if len(known) == len(contents) else None


def _images_digest(collection: Collection, rows: npt.NDArray[np.int64], contents: Sequence[str]) -> str:
    names = [collection.paths[row] for row in rows]
    text = "\0".join([*names, *contents]).encode(errors="surrogateescape")
    return _sha256(text, *_buffers(rows, collection.heights[rows], collection.widths[rows]))[:LENGTH]


def stamps_digest(collection: Collection, rows: npt.NDArray[np.int64], before: npt.NDArray[np.int64]) -> str:
    """Return the digest of images that featpipe 0.1 wrote: of their times instead of their contents.

    Parameters
    ----------
    collection : Collection
    rows : (n,) int
        Of the images now.
    before : (n,) int
        The rows that they had.
    """
    names = [collection.paths[row] for row in rows]
    text = "\0".join([collection.source, *names]).encode(errors="surrogateescape")
    facts = (before, collection.stamps[rows], collection.heights[rows], collection.widths[rows])
    return _sha256(text, *_buffers(*facts))[:LENGTH]


def _buffers(*facts: npt.NDArray[np.int64]) -> list[memoryview]:
    return [np.ascontiguousarray(fact).reshape(-1).data for fact in facts]


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
        "images": table_digest(plan.collection),
        "pieces": _sha256(json.dumps([plan.batch, plan.block]).encode()),
    }


def table_digest(collection: Collection) -> str:
    """Return the SHA-256, as hex, of what the rows of a collection are called and labelled."""
    text = "\0".join(collection.paths).encode(errors="surrogateescape")
    names = json.dumps([collection.classes, collection.split_names]).encode()
    facts = (collection.labels, collection.splits.astype(np.int64), collection.heights, collection.widths)
    return _sha256(text, names, *_buffers(*facts))


def bank_digest(program: Program, nodes: Iterable[int]) -> str:
    """Return the SHA-256, as hex, of every kernel and bias of some nodes."""
    weights: list[Float32] = []
    for op in (program.nodes[i].op for i in nodes):
        if isinstance(op, ConvolveOp):
            weights += [*(group.weights for group in op.groups), op.bias]
            # Other bits than those of featpipe 0.1, for these alone
            weights += [np.zeros(1, np.float32) for group in op.groups if min(group.weights.shape[1:3]) > LARGE]
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
