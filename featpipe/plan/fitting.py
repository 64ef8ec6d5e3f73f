"""Banks that are learned before a run: what is asked for, and what stands for them until they are there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location, PlanError, Problem, key_path
from featpipe.kernels.fitted import FittedBank, read_learned_bank
from featpipe.plan.collection import Collection
from featpipe.plan.model import Plan
from featpipe.plan.schedule import path_shapes
from featpipe.spec.fits import FitBank, LearnedBank
from featpipe.spec.layers import Convolve

TRAINING = "train"
"""The split that is looked at where the images have one of this name."""
LIBRARY_BYTES = 128 << 20
"""What scikit-learn and its libraries take, from the fit on."""
GATHERED = 3
"""Times that the patches lie in memory, as float32, while they are cut: all of them, a task's, and these in one."""
COPIES = 6
"""Times that the patches lie in memory, as float32, while a bank is fitted to them."""


@dataclass(frozen=True, eq=False)
class FitRequest:
    """A bank to learn, from patches of one node's map."""

    key: str
    """Digest of all that it depends on but the images."""
    node: int
    """Whose map the patches come from; the root for the image."""
    bank: FitBank
    dilation: tuple[int, int]
    epsilon: float | None
    """Of the contrast normalisation of each patch; None for none."""
    channels: int
    """That a patch spans."""
    each: bool
    """Whether patches span one of the map's features, whichever; else all of them."""
    location: Location

    @property
    def title(self) -> str:
        """For people."""
        size, channels = self.bank.size, f"×{self.channels}" if self.channels > 1 else ""
        return f"{self.bank.fit}, {self.bank.kernels:,} kernels of {size}×{size}{channels}"

    @property
    def extent(self) -> tuple[int, int]:
        """Samples that a patch spans along y and x."""
        y, x = ((self.bank.size - 1) * step + 1 for step in self.dilation)
        return y, x

    @property
    def taps(self) -> int:
        """Numbers of a patch."""
        return self.bank.size**2 * self.channels


def fit_key(scale: int, layers: Sequence[Any], convolve: Convolve, channels: Sequence[str]) -> str:
    """Return the digest of a fit: of the layers before it, and of its own parameters."""
    source = convolve.source
    assert isinstance(source, FitBank)
    own = [source.model_dump(mode="json"), convolve.dilation, convolve.channels == "each"]
    contrast = convolve.contrast.epsilon if convolve.contrast else None
    before = [(type(layer).__name__, layer.model_dump(mode="json")) for layer in layers]
    text = json.dumps([scale, list(channels), before, own, contrast], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def placeholder(bank: FitBank, channels: int) -> FittedBank:
    """Return kernels of a fit's shape, which cost what the real ones will."""
    shape = (bank.size, bank.size, channels)
    taps = int(np.prod(shape))
    rng = np.random.default_rng(0)
    return FittedBank(
        name=bank.fit,
        weights=rng.standard_normal((bank.kernels, *shape)),
        bias=np.zeros(bank.kernels),
        whitening=rng.standard_normal((taps, *shape)),
        shift=np.zeros(taps),
        squares=np.zeros(bank.kernels),
    )


def read_bank_file(convolve: Convolve, channels: int, where: Location) -> FittedBank:
    """Read a bank that an earlier fit has written.

    Raises
    ------
    SpecError, PlanError
        If it cannot be read, or was learned from patches of another kind.
    """
    assert isinstance(convolve.source, LearnedBank)
    at = (*where, "bank", "file")
    bank = read_learned_bank(convolve.source.file, key_path(at), at)
    depth = bank.weights.shape[3]
    if depth != channels:
        what = f"its kernels span {depth} features, but {channels} come in."
        raise PlanError(Problem(key_path(at), what, "Use a bank that was learned at this place.", at))
    epsilon = convolve.contrast.epsilon if convolve.contrast else None
    if epsilon != bank.epsilon:
        here, there = (
            f"contrast: {{epsilon: {e:g}}}" if e is not None else "no contrast" for e in (epsilon, bank.epsilon)
        )
        what = f"its kernels were learned with {there}, and this layer has {here}."
        raise PlanError(Problem(key_path(at), what, "Make them agree.", at))
    return bank


def fit_images(request: FitRequest, collection: Collection, shapes: Mapping[int, tuple[int, int]]) -> list[int]:
    """Return the images that a fit may look at: those of its split whose map has room for a patch.

    Parameters
    ----------
    request : FitRequest
    collection : Collection
    shapes : mapping of int to (int, int)
        Image to the shape of its map at the fit's node.

    Raises
    ------
    PlanError
        If there is no such split, or no such image.
    """
    at = (*request.location, "bank", "split")
    names, split = collection.split_names, _split_of(request, collection)
    if split is None and names:
        change = f"Set split to one of {', '.join(names)}."
        raise PlanError(Problem(key_path(at), "the images have splits, and none is called train.", change, at))
    if split is not None and split not in names:
        change = f"Use one of {', '.join(names)}." if names else "Remove it, or set images.split."
        raise PlanError(Problem(key_path(at), f"there is no split {split!r}.", change, at))
    chosen = np.ones(len(collection), bool) if split is None else collection.splits == names.index(split)
    y, x = request.extent
    found = [
        int(i)
        for i in np.flatnonzero(chosen & (collection.heights > 0))
        if shapes[int(i)][0] >= y and shapes[int(i)][1] >= x
    ]
    if not found:
        among = f" of split {split}" if split else ""
        what = f"no image{among} is large enough for a patch of {y}×{x} samples."
        raise PlanError(
            Problem(key_path(request.location), what, "Use a smaller size, or larger images.", request.location)
        )
    return found


def unreached_images(request: FitRequest, collection: Collection) -> list[int]:
    """Return the images that a fit might look at, had they been reached when they were scanned."""
    split = _split_of(request, collection)
    code = collection.split_names.index(split) if split in collection.split_names else None
    return [i for i in collection.unavailable if code is None or collection.splits[i] == code]


def _split_of(request: FitRequest, collection: Collection) -> str | None:
    """Return the name of the split that is looked at; None for all images."""
    if request.bank.split is not None:
        return request.bank.split
    return TRAINING if TRAINING in collection.split_names else None


def draw_images(images: Sequence[int], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the image of every patch, each being as likely as any other."""
    return np.asarray(images, np.int64)[rng.integers(0, len(images), count)]


def fit_bytes(request: FitRequest) -> int:
    """Return what learning a bank takes at most, in bytes: patches, and the kernels of every kind."""
    kernels = 4 * 8 * (request.bank.kernels + 2 * request.taps) * request.taps
    return COPIES * _patch_bytes(request) + kernels


def gathered_bytes(requests: Sequence[FitRequest]) -> int:
    """Return what patches take while tasks cut them, beside the tasks' own memory, in bytes."""
    return max((GATHERED * _patch_bytes(request) for request in requests), default=0)


def library_bytes(requests: Sequence[FitRequest]) -> int:
    """Return what libraries take that fits need and other runs do not, in bytes: once there, they stay."""
    return LIBRARY_BYTES if any(request.bank.fit == "kmeans" for request in requests) else 0


def _patch_bytes(request: FitRequest) -> int:
    return 4 * request.bank.patches * request.taps


def _is_installed(package: str) -> bool:
    """Tell whether a package is there, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        return False


def check_fits(plan: Plan) -> None:
    """Refuse fits that no run could do, before anything is read or written.

    Raises
    ------
    PlanError
    """
    memory = plan.memory
    room, tasks = max(memory.limit - memory.base, 0), memory.threads * memory.task
    for request in plan.program.fits:
        if request.bank.fit == "kmeans" and not _is_installed("sklearn"):
            at = (*request.location, "bank", "fit")
            what = "kmeans needs scikit-learn, which is not installed."
            raise PlanError(Problem(key_path(at), what, "pip install 'featpipe[learn]'", at))
        fit_images(request, plan.collection, map_shapes(plan, request))
        taken = fit_bytes(request)
        if tasks <= room:  # else it is the tasks that are too large
            taken = max(taken, gathered_bytes([request]) + tasks)
        if taken > room:
            at = (*request.location, "bank", "patches")
            patches = f"{request.bank.patches:,} patches of {request.taps:,} numbers"
            what = f"fitting a bank to {patches} takes {taken / 2**30:.2f} GiB."
            raise PlanError(Problem(key_path(at), what, "Draw fewer, or give more memory (--memory).", at))


def map_shapes(plan: Plan, request: FitRequest) -> dict[int, tuple[int, int]]:
    """Return the shape of every readable image's map at the fit's node."""
    known: dict[tuple[int, int], tuple[int, int]] = {}
    shapes = {}
    for image in np.flatnonzero(plan.collection.heights > 0).tolist():
        size = plan.shape(image)
        if size not in known:
            known[size] = path_shapes(plan.program, size, request.node)[request.node]
        shapes[image] = known[size]
    return shapes
