"""Reading images of a scanned collection, whole or in part, as the float32 that the chain sees."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import ImageError, Problem, UnavailableError
from featpipe.geometry.axis import Span
from featpipe.images import arrays
from featpipe.images.content import array_image_content, noting, samples_content, told_content
from featpipe.images.decode import decode
from featpipe.images.header import Decoded, white
from featpipe.images.media import Medium, open_medium, opener
from featpipe.images.refusal import Refused, explain, image_error
from featpipe.images.region import part_spans
from featpipe.images.resize import Scratch
from featpipe.images.values import prepare
from featpipe.plan.collection import Collection
from featpipe.spec.pipeline import Images

Float32 = npt.NDArray[np.float32]
Contents = dict[int, str]
"""Image to its content."""


class Reader:
    """Reads the images of a collection; for many threads at once, and pickled without its open files.

    A thread keeps the image it read a part of last, so that the blocks of a large file decode it once.
    """

    def __init__(self, images: Images, collection: Collection, array: Any = None) -> None:
        self.images = images
        self.collection = collection
        # For a part, which is only read where the image has its size already
        self._unsized = images.model_copy(update={"size": None})
        self._given = array
        self._opened: tuple[Any, int] | None = None
        self._source: Medium | None = None
        self._opening = threading.Lock()
        self._last = threading.local()
        self._scratch = Scratch()

    def __reduce__(self) -> tuple[type[Reader], tuple[Images, Collection, Any]]:
        return Reader, (self.images, self.collection, self._given)

    def read(self, index: int, y: Span, x: Span, contents: Contents | None = None) -> Float32:
        """Read rows ``y`` and columns ``x`` of one image.

        Parameters
        ----------
        index : int
        y, x : Span
            Within the image, in pixels as the chain sees it.
        contents : dict of int to str, optional
            Is given the content of the image, where all of it is read.

        Returns
        -------
        (y, x, c) float32, C-contiguous, the caller's own

        Raises
        ------
        ImageError
            If it cannot be read as asked, whatever the reason.
        """
        height, width = self._check(index)
        if not (0 <= y.start < y.stop <= height and 0 <= x.start < x.stop <= width):
            raise ValueError(f"rows {y} and columns {x} are not within the {height}×{width} pixels of image {index}")
        if (y.length, x.length) == (height, width):
            return self.read_image(index, contents)
        if self.collection.regions:
            return self._prepare(index, (y, x))
        kept = getattr(self._last, "image", None)
        if kept is None or kept[0] != index:
            self._last.image = None  # lets the old image go before the new one comes
            try:
                kept = (index, self._prepare(index, None))
            except ImageError as error:
                kept = (index, error)  # for all of its blocks: decoding a large image takes long
            self._last.image = kept
        if isinstance(kept[1], ImageError):
            raise type(kept[1])(kept[1].problems)
        return np.array(kept[1][y.start : y.stop, x.start : x.stop], order="C")

    def read_image(self, index: int, contents: Contents | None = None) -> Float32:
        """Read one image whole, (y, x, c) float32, as ``read`` does."""
        self._check(index)
        self._last.image = None
        return self._prepare(index, None, contents)

    def read_raw(self, index: int) -> Decoded:
        """Read one image whole, upright, but in its own numbers."""
        self._check(index)
        try:
            return self._load(index, None)
        except Refused as refused:
            raise image_error(self.collection.paths[index], refused) from refused

    @property
    def array(self) -> Any:
        """The array that the images are parts of; opened on first use."""
        return self._array()[0]

    def _check(self, index: int) -> tuple[int, int]:
        """Return the planned height and width of an image, in pixels; raise if it was unreadable from the first."""
        collection = self.collection
        if index in collection.unreadable:
            kind = UnavailableError if index in collection.unavailable else ImageError
            raise kind(Problem(collection.paths[index], collection.unreadable[index]))
        return int(collection.heights[index]), int(collection.widths[index])

    def _prepare(self, index: int, region: tuple[Span, Span] | None, contents: Contents | None = None) -> Float32:
        try:
            options = self.images if region is None else self._unsized
            image = prepare(self._load(index, region, contents), options, self._scratch)
            self._compare(index, image, region)
        except Refused as refused:
            raise image_error(self.collection.paths[index], refused) from refused
        return image

    def _compare(self, index: int, image: Float32, region: tuple[Span, Span] | None) -> None:
        """Refuse an image that is not what the plan was made for: the file may have changed, or its header lied."""
        collection = self.collection
        planned = (int(collection.heights[index]), int(collection.widths[index]), len(collection.channels))
        if region is not None:
            planned = (region[0].length, region[1].length, planned[2])
        if image.shape != planned:
            (height, width, channels), (tall, wide, many) = image.shape, planned
            was = f"not {tall}×{wide} of {many} as when it was scanned"
            raise Refused(f"is {height}×{width} pixels of {channels} channels now, {was}")

    def _load(self, index: int, region: tuple[Span, Span] | None, contents: Contents | None = None) -> Decoded:
        collection = self.collection
        if not collection.is_array:
            encoded = opener(self._medium(), index)
            if contents is not None and told_content(collection, index) is None:
                encoded = noting(encoded, partial(contents.__setitem__, index))
            return decode(encoded, self.images, region)
        array, several = self._array()
        axes = collection.axes
        shape = (int(array.shape[axes.index("y")]), int(array.shape[axes.index("x")]))
        rows, columns = (slice(*span) for span in part_spans(self.images, shape, region))
        at = {"n": index, "y": rows, "x": columns, "c": slice(None), ".": 0}
        try:
            if several > 1:
                slab = self._slab(array, index, several)
                samples = slab[tuple({**at, "n": index % several}[axis] for axis in axes)]
            else:
                samples = np.asarray(array[tuple(at[axis] for axis in axes)])
            if contents is not None and collection.kind == "npy":
                whole = (rows.stop - rows.start, columns.stop - columns.start) == shape and axes.find("n") < 1
                contents[index] = samples_content(samples) if whole else array_image_content(array, collection, index)
        except MemoryError:
            raise
        except Exception as error:  # damaged chunks fail in many ways
            raise explain(error, "part of the array") from error
        if "c" not in axes:
            samples = samples[..., None]
        elif not axes.endswith("c"):
            samples = np.moveaxis(samples, 0, -1)
        return Decoded(samples, white(samples.dtype))

    def _slab(self, array: Any, index: int, several: int) -> Any:
        """Return the images that share zarr chunks with one; a thread keeps them, as their chunks decode only whole."""
        start = index - index % several
        kept = getattr(self._last, "slab", None)
        if kept is None or kept[0] != start:
            self._last.slab = None
            kept = self._last.slab = (start, np.asarray(array[start : start + several]))
        return kept[1]

    def _medium(self) -> Medium:
        """Return what opens the images, made on first use."""
        if self._source is None:
            with self._opening:
                self._source = self._source or open_medium(self.collection)
        return self._source

    def _array(self) -> tuple[Any, int]:
        """Return the array, opened on first use, and how many images to read of it at once."""
        if self._opened is None:
            with self._opening:
                if self._opened is None:
                    array = self._open() if self._given is None else self._given
                    self._opened = (array, arrays.slab_images(array, self.collection.axes))
        return self._opened

    def _open(self) -> Any:
        root = self.collection.root
        return arrays.open_npy(root) if self.collection.kind == "npy" else arrays.open_zarr(root)


def open_reader(images: Images, collection: Collection, array: Any = None) -> Reader:
    """Return a reader of what ``scan(images)`` found.

    Parameters
    ----------
    images : Images
    collection : Collection
    array : array, optional
        The pixels of a collection of kind ``array``, which ``scan_array`` made.
    """
    return Reader(images, collection, array)
