"""The plan: every shape, shard and task, before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import Span
from featpipe.geometry.window import Window
from featpipe.kernels.bank import Labels
from featpipe.plan.collection import Collection
from featpipe.plan.program import Program
from featpipe.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Failure:
    """An image that gave no features, and why."""

    image: int
    reason: str
    unavailable: bool = False
    """Whether it could only not be reached: the next run tries it again."""

    @property
    def rank(self) -> tuple[bool, str]:
        """Order among the failures of one image, whichever came first: the least one is told."""
        return self.unavailable, self.reason


def add_failures(known: dict[int, Failure], more: Iterable[Failure]) -> None:
    """Add failures to those of each image, of which one is kept, the same whatever the order they come in."""
    for one in more:
        known[one.image] = min(known.get(one.image, one), one, key=lambda failure: failure.rank)


@dataclass(frozen=True, eq=False)
class ArrayPlan:
    """One zarr array of features: a stacked map, or one image's own map."""

    group: str
    """Group in the store that holds it: ``texture/scale1``, or ``images/7/texture/scale1``."""
    shape: tuple[int, ...]
    """(image, y, x, feature), or (y, x, feature) for one image's own map."""
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    y: npt.NDArray[np.float64]
    """Window centres along y: image pixels, or where ``relative`` a fraction of the image's height."""
    x: npt.NDArray[np.float64]
    relative: bool


@dataclass(frozen=True, eq=False)
class MapPlan:
    """One feature map of the stack: the last or a saved map of a branch at a scale."""

    name: str
    """``branch/scale<s>``, or ``branch/<saved name>/scale<s>``."""
    branch: str
    scale: int
    node: int
    """The node of the program whose output this is."""
    features: tuple[Labels, ...]
    windows: tuple[Window, Window] | None
    """Receptive fields along y and x; None after grid pooling, whose cells follow the image's size."""
    stacked: bool
    """True: one array over all images. False: images differ in shape, so each has its own array."""
    batched: bool
    """True: written whole by the batch task of its images. False: large images, written block by block."""


@dataclass(frozen=True)
class Task:
    """What one Dask task owns: the shards of some maps for a batch of images, or for one block of a large image."""

    index: int
    images: Span
    maps: tuple[int, ...]
    """Indices into ``Plan.maps``."""
    block: tuple[int, int] | None = None
    """Row and column of the block in its image's grid of blocks; None for a batch."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Planned memory, in bytes."""

    base: int
    """The process before any task: interpreter, libraries, compiled kernels."""
    task: int
    """The largest task: its input, maps, outputs and the copies made on writing."""
    parts: dict[str, int]
    """The largest task's bytes by what they hold."""
    threads: int
    limit: int
    """What may be used; the plan is refused beyond it."""
    fit: int = 0
    """The most that learning a bank takes: patches beside the tasks that cut them, or what the fit makes of them."""

    @property
    def peak(self) -> int:
        """The most that each process takes: the one that runs threads, or a client of workers and each of them."""
        return self.base + max(self.threads * self.task, self.fit)


@dataclass(frozen=True)
class Pieces:
    """What is read, computed and written at once."""

    batch: int
    """Images per batch."""
    block: tuple[int, int] | None
    """Input pixels (y, x) per block of a large image; None when no image needs blocks."""
    group: int
    """Images of a batch that are in work at once; the rest of the batch is finished features."""
    stream: tuple[int, int]
    """Samples (y, x) of a grid pooling's input computed at once on a large image: whole tiles; zeros when none is."""
    read_rows: int
    """Rows of a large image read at once for them; 0 reads what each piece needs."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All decisions of a run."""

    pipeline: Pipeline
    collection: Collection
    program: Program
    maps: tuple[MapPlan, ...]
    pieces: Pieces
    tasks: tuple[Task, ...]
    memory: Memory
    flops: int
    """Arithmetic of the whole run, in operations (a multiply-add is two)."""
    seconds: float
    """Time of the whole run on one thread, from nominal speeds."""
    output_bytes: int
    """Features before compression, in bytes."""
    notes: tuple[str, ...] = ()
    """What was decided for the user, in sentences."""

    def shape(self, image: int) -> tuple[int, int]:
        """Return height and width of an image, in pixels."""
        return int(self.collection.heights[image]), int(self.collection.widths[image])

    def unreadable(self) -> dict[int, Failure]:
        """Return the images that failed when they were scanned."""
        away = self.collection.unavailable
        return {image: Failure(image, why, image in away) for image, why in self.collection.unreadable.items()}

    @property
    def batch(self) -> int:
        """Images per batch."""
        return self.pieces.batch

    @property
    def block(self) -> tuple[int, int] | None:
        """Input pixels (y, x) per block of a large image; None when no image needs blocks."""
        return self.pieces.block
