"""Tasks that cut patches: some images each, whose maps are computed up to where the bank will be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.chain.execute import run_schedule, whole_schedule
from featpipe.errors import ImageError, UnavailableError
from featpipe.geometry.axis import Span
from featpipe.images.reader import Reader
from featpipe.plan.fitting import FitRequest
from featpipe.plan.model import Failure, Plan
from featpipe.plan.program import ROOT
from featpipe.plan.schedule import make_schedule

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
TASK_IMAGES = 256
"""Images of a task."""


@dataclass(frozen=True, eq=False)
class Cut:
    """What a task has cut."""

    task: int
    patches: Float32
    """(m, y, x, c)."""
    which: Int64
    """(m,): their places in the list of patches."""
    images: int
    failures: tuple[Failure, ...]
    """Images that gave none, and why."""
    contents: dict[int, str]
    """The content of the images that were read whole."""


@dataclass(eq=False)
class PatchWork:
    """Cuts patches out of maps; a job for `featpipe.graph`."""

    plan: Plan
    request: FitRequest
    reader: Reader
    sources: Int64
    """(m, 4): image, row, column and first feature of every patch."""

    def __post_init__(self) -> None:
        order = np.argsort(self.sources[:, 0], kind="stable")
        images, first = np.unique(self.sources[order, 0], return_index=True)
        self.of_image = dict(zip(images.tolist(), np.split(order, first[1:]), strict=True))
        self.images = images.tolist()

    @property
    def tasks(self) -> range:
        """The tasks' numbers."""
        return range(-(-len(self.images) // TASK_IMAGES))

    def run(self, index: int) -> Cut:
        """Cut the patches of one task's images."""
        images = self.images[index * TASK_IMAGES : (index + 1) * TASK_IMAGES]
        found: list[Float32] = []
        which: list[Int64] = []
        failures: list[Failure] = []
        contents: dict[int, str] = {}
        for image in images:
            try:
                found.append(self._cut(image, self.sources[self.of_image[image], 1:], contents))
                which.append(self.of_image[image])
            except UnavailableError as error:  # nothing will be learned
                failures.append(Failure(image, str(error), unavailable=True))
                break
            except ImageError as error:
                failures.append(Failure(image, str(error)))
        size, channels = self.request.bank.size, self.request.channels
        patches = np.concatenate(found) if found else np.empty((0, size, size, channels), np.float32)
        places = np.concatenate(which) if which else np.empty(0, np.int64)
        return Cut(index, patches, places, len(images), tuple(failures), contents)

    def _cut(self, image: int, places: Int64, contents: dict[int, str]) -> Float32:
        """Return an image's patches: of its whole map, or, where it is large, of what each patch needs of it."""
        large = self.plan.block is not None or self.plan.pieces.stream[0] > 0
        if large:
            found = [self._compute(image, (int(y), int(x)), contents) for y, x, _ in places]
        else:
            whole = self._compute(image, None, contents)
            found = [self._patch(whole, (int(y), int(x))) for y, x, _ in places]
        depth = self.request.channels
        return np.stack([one[..., first : first + depth] for one, first in zip(found, places[:, 2], strict=True)])

    def _compute(self, image: int, place: tuple[int, int] | None, contents: dict[int, str]) -> Float32:
        """Return a map whole, or one patch of it."""
        node, program, shape = self.request.node, self.plan.program, self.plan.shape(image)
        if place is not None:
            spans = [Span(first, first + size) for first, size in zip(place, self.request.extent, strict=True)]
            want = (spans[0], spans[1])
            if node == ROOT:
                return self._patch(self.reader.read(image, *want, contents), (0, 0))
            schedule = make_schedule(program, shape, {node: want})
        elif node == ROOT:
            return self.reader.read_image(image, contents)
        else:
            schedule = whole_schedule(program, shape, frozenset({node}))
        pixels = self.reader.read(image, *schedule.needs[ROOT], contents)
        ((_, values),) = run_schedule(program, schedule, {ROOT: pixels[None]})
        made: Float32 = values[0]
        return made if place is None else self._patch(made, (0, 0))

    def _patch(self, values: Float32, place: tuple[int, int]) -> Float32:
        (y, x), (step_y, step_x), (height, width) = place, self.request.dilation, self.request.extent
        return values[y : y + height : step_y, x : x + width : step_x]
