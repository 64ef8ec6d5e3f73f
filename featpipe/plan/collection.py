"""The facts about a collection of images that planning rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

MOST_PIXEL_BYTES = 64
"""That decoding takes of an image of which only the size is known, at least."""


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

    Sizes are those of the image that the chain sees: after EXIF orientation, ``region`` and ``size``.
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
    stamps: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    """(n, 2) what tells an image's content from another's: size and time of its file; zeros where ``source`` does."""
    source: str = ""
    """What tells the content of an array, or of whatever else holds all images, from another's."""
    found: bool = False
    """Whether images were found by looking, as those of a directory, so that their order means nothing."""
    axes: str = ""
    """What the axes of an array mean ("nyxc", ...), a dot for one of length 1 that is left out; empty for files."""
    region_bytes: int = 0
    """Most memory that reading any part takes besides, in bytes: the chunks that hold it."""
    dtype: str = "uint8"
    """Of an array's samples, or the commonest of files."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Images whose header could not be read, and why; they keep their row."""
    unavailable: frozenset[int] = frozenset()
    """Those of ``unreadable`` that could not be reached: nothing says that they are broken."""
    places: Places | None = None
    """Where the images lie in archives, tables or object stores."""
    odd_names: dict[int, str] = field(default_factory=dict)
    """Names of files that are not UTF-8, as the system gives them; ``paths`` shows their odd bytes as ``\\xe9``."""
    origin: tuple[int, int] = (0, 0)
    """Row and column, in the whole image, of the first pixel that the chain sees; zeros where parts are resized."""
    passed: str = ""
    """What other files there are beside the images, in words."""

    def __post_init__(self) -> None:
        if len(self.stamps) != len(self.paths):
            object.__setattr__(self, "stamps", np.zeros((len(self.paths), 2), np.int64))

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

    def with_sizes(self, sizes: Mapping[str, tuple[int, int]]) -> Collection:
        """Return the images with sizes that are known of some that could not be reached.

        These are no longer unreadable: whether they can be read is found out when they are.

        Parameters
        ----------
        sizes : mapping of str to (int, int)
            Name of an image to its height and width, in pixels; zeros where they are not known.
        """
        known = {i: sizes.get(self.paths[i], (0, 0)) for i in self.unavailable}
        known = {i: size for i, size in known.items() if min(size) > 0}
        if not known:
            return self
        heights, widths, decoded = self.heights.copy(), self.widths.copy(), self.decoded_bytes.copy()
        area = np.maximum(self.heights * self.widths, 1)
        most = float((self.decoded_bytes / area).max(initial=MOST_PIXEL_BYTES))
        for i, (height, width) in known.items():
            heights[i], widths[i], decoded[i] = height, width, int(most * height * width)
        return replace(
            self,
            heights=heights,
            widths=widths,
            decoded_bytes=decoded,
            unreadable={i: why for i, why in self.unreadable.items() if i not in known},
            unavailable=self.unavailable - known.keys(),
        )

    def reordered(self, order: npt.NDArray[np.int64]) -> Collection:
        """Return the same images in another order.

        Parameters
        ----------
        order : (n,) int
            Of each row, the image here that will stand there.
        """
        if np.array_equal(order, np.arange(len(self))):
            return self
        row = {int(image): i for i, image in enumerate(order)}
        places = self.places
        if places is not None:
            places = replace(places, numbers=places.numbers[order])
        return replace(
            self,
            paths=tuple(self.paths[i] for i in order),
            labels=self.labels[order],
            splits=self.splits[order],
            heights=self.heights[order],
            widths=self.widths[order],
            decoded_bytes=self.decoded_bytes[order],
            stamps=self.stamps[order],
            unreadable={row[image]: why for image, why in sorted(self.unreadable.items(), key=lambda one: row[one[0]])},
            unavailable=frozenset(row[image] for image in self.unavailable),
            places=places,
            odd_names={row[image]: name for image, name in self.odd_names.items()},
            digest=hashlib.sha256(self.digest.encode() + np.ascontiguousarray(order, np.int64).tobytes()).hexdigest(),
        )


def matched_rows(names: Sequence[str], before: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the row that each image had before, -1 for one that is new.

    A list may name an image several times: its first mention is the first there was, and so on.

    Parameters
    ----------
    names : sequence of str
        Of the images now, in their order.
    before : sequence of str
        Of the rows there are.

    Examples
    --------
    >>> matched_rows(["c", "b", "a", "b", "b"], ["a", "b", "b"]).tolist()
    [-1, 1, 0, 2, -1]
    """
    places: dict[str, list[int]] = {}
    for row in range(len(before) - 1, -1, -1):
        places.setdefault(before[row], []).append(row)
    found = (places.get(name) for name in names)
    return np.array([rows.pop() if rows else -1 for rows in found], np.int64)


def kept_order(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the order in which images that were there before come first, as they stood, and new ones after them.

    Rows of features that are there already stay where they are, whatever the names of new images, and whatever the
    order of the list that names them.

    Parameters
    ----------
    rows : (n,) int
        As `matched_rows` returns them.
    """
    return np.argsort(np.where(rows < 0, np.iinfo(np.int64).max, rows), kind="stable")
