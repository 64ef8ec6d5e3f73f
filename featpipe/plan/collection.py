"""The facts about a collection of images that planning rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Collection:
    """A frozen list of images: where each is, what it is labelled, how large it will be.

    Sizes are those of the image that the chain sees: after EXIF orientation, ``region`` and ``size``.
    """

    kind: Literal["files", "npy", "zarr", "array"]
    """How pixels are read."""
    root: str
    """Directory that ``paths`` of files are relative to, or the path of the array."""
    paths: tuple[str, ...]
    """One name per image, POSIX-style; for an array ``"0"``, ``"1"``, ... unless it carries names."""
    labels: npt.NDArray[np.int64]
    """(n,) class of each image as an index into ``classes``, -1 for none."""
    classes: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    """(n,) split of each image as an index into ``split_names``, -1 for none."""
    split_names: tuple[str, ...]
    heights: npt.NDArray[np.int64]
    """(n,) in pixels; 0 where ``unreadable`` says that the image has no size."""
    widths: npt.NDArray[np.int64]
    channels: tuple[str, ...]
    """Name of each channel the chain sees: ("gray",), ("red", "green", "blue"), or ("0", "1", ...)."""
    decoded_bytes: npt.NDArray[np.int64]
    """(n,) most memory that decoding one whole image takes beside its float32 result, in bytes."""
    regions: bool
    """Whether a block can be read without reading the whole image; it then takes its share of ``decoded_bytes``."""
    digest: str
    """SHA-256 over what identifies the input: paths, sizes and times of the files, or the array's."""
    axes: str = ""
    """What the axes of an array mean ("nyxc", ...), a dot for one of length 1 that is left out; empty for files."""
    region_bytes: int = 0
    """Most memory that reading any part takes besides, in bytes: the chunks that hold it."""
    dtype: str = "uint8"
    """Of an array's samples, or the commonest of files."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Images whose header could not be read, and why; they keep their row."""
    origin: tuple[int, int] = (0, 0)
    """Row and column, in the whole image, of the first pixel that the chain sees; zeros where parts are resized."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def uniform(self) -> bool:
        """Whether all readable images have one shape."""
        seen = self.heights > 0
        return bool(seen.any()) and len(np.unique(self.heights[seen])) == 1 and len(np.unique(self.widths[seen])) == 1

    @property
    def shape(self) -> tuple[int, int]:
        """Largest height and width, in pixels; the shape of every image when ``uniform``."""
        return int(self.heights.max(initial=0)), int(self.widths.max(initial=0))
