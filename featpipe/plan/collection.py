"""The facts about a collection of images that planning rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class Holder(NamedTuple):
    """A file or object that holds several images, as it was when it was scanned."""

    name: str
    """Relative to the collection's root."""
    size: int
    """In bytes."""
    tag: int | str
    """What changes with its content: the time in ns, or its entity tag."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where the bytes of images lie that are no files of their own."""

    holders: tuple[Holder, ...]
    numbers: npt.NDArray[np.int64]
    """(n, k), a row per image, the first number an index into ``holders``; what the others mean depends on ``kind``."""
    column: str = ""
    """Of tables: which holds the bytes."""


@dataclass(frozen=True, eq=False)
class Collection:
    """A frozen list of images: where each is, what it is labelled, how large it will be.

    Sizes are those of the image that the chain sees: after EXIF orientation and after ``size``.
    """

    kind: Literal["files", "objects", "tar", "zip", "parquet", "npy", "zarr", "array"]
    """How pixels are read."""
    root: str
    """Directory, or address in an object store, that ``paths`` or holders are relative to, or the path of the array."""
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
    """What the axes of an array mean ("nyxc", ...); empty for files."""
    region_bytes: int = 0
    """Most memory that reading any part takes besides, in bytes: the chunks that hold it."""
    dtype: str = "uint8"
    """Of an array's samples, or the commonest of files."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Images whose header could not be read, and why; they keep their row."""
    places: Places | None = None
    """Where the images lie in archives, tables or object stores."""
    odd_names: dict[int, str] = field(default_factory=dict)
    """Names of files that are not UTF-8, as the system gives them; ``paths`` shows their odd bytes as ``\\xe9``."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def is_array(self) -> bool:
        """Whether the images are parts of one array, and not encoded one by one."""
        return self.kind in {"npy", "zarr", "array"}

    @property
    def uniform(self) -> bool:
        """Whether all readable images have one shape."""
        seen = self.heights > 0
        return bool(seen.any()) and len(np.unique(self.heights[seen])) == 1 and len(np.unique(self.widths[seen])) == 1

    @property
    def shape(self) -> tuple[int, int]:
        """Largest height and width, in pixels; the shape of every image when ``uniform``."""
        return int(self.heights.max(initial=0)), int(self.widths.max(initial=0))
