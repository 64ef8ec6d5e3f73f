"""A few images of a collection, opened again by their names to be looked at; the others are neither read nor scanned.

Only what ``images.path`` leads to is opened, by the decoders and within the limits of a run, and a lower one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import ImageError, SourceError
from featpipe.geometry.axis import Span
from featpipe.images import arrays, folders
from featpipe.images.decode import decode, read_header
from featpipe.images.header import Decoded
from featpipe.images.listing import Listing
from featpipe.images.media import Medium, open_medium, opener
from featpipe.images.places import find_local, find_remote
from featpipe.images.reader import Reader, open_reader
from featpipe.images.refusal import Refused, image_error
from featpipe.images.region import Spans, region_shape
from featpipe.images.scan import scan
from featpipe.images.values import prepare
from featpipe.objects import is_url
from featpipe.plan.collection import Collection
from featpipe.reading.files import exists, is_file
from featpipe.spec.pipeline import Images

Float32 = npt.NDArray[np.float32]
MOST_PIXELS = 24_000_000
"""Of an image that is decoded whole, only to be looked at."""


class Glance:
    """Opens images of a source by name.

    Parameters
    ----------
    images : Images
        Its ``path`` is absolute.
    most_pixels : int
        Larger images are refused, but for their parts.
    """

    def __init__(self, images: Images, most_pixels: int = MOST_PIXELS) -> None:
        self.allowed = images.max_pixels
        self.images = images.model_copy(update={"max_pixels": min(images.max_pixels, most_pixels)})

    def why_not(self) -> str:
        """Return why no image can be opened, in words; nothing where they can."""
        try:
            _ = self._rows
        except (SourceError, OSError) as error:
            return str(error)
        return ""

    def read(self, name: str, part: Spans | None = None) -> Float32:
        """Return an image, or some rows and columns of it, as the chain sees it.

        Parameters
        ----------
        name : str
            Of its row in a store.
        part : (Span, Span), optional
            In pixels as the chain sees them, where images are not resized.

        Returns
        -------
        (y, x, c) float32

        Raises
        ------
        ImageError
            If it is not there, cannot be read, or is too large.
        """
        row = self._row(name)
        try:
            if self._collection is not None:
                return self._read_array(row, part)
            self._check_size(row, self.images, part)
            options = self.images if part is None else self.images.model_copy(update={"size": None})
            return prepare(decode(opener(self._medium, row), self.images, part), options)
        except Refused as refused:
            raise image_error(name, refused) from refused

    def look(self, name: str) -> Decoded:
        """Return an image as it is in its file, upright, whatever the pipeline would make of it.

        Raises
        ------
        ImageError
            If it is not there, cannot be read, or is too large.
        """
        plain: Mapping[str, Any] = {"color": "keep", "size": None, "region": None, "alpha": "drop"}
        row = self._row(name)
        try:
            if self._reader is not None:
                self._check_array(None)
                return self._reader.read_raw(row)
            options = self.images.model_copy(update=plain)
            self._check_size(row, options, None)
            return decode(opener(self._medium, row), options)
        except Refused as refused:
            raise image_error(name, refused) from refused

    # -- inside -------------------------------------------------------------------------------------------------------

    @cached_property
    def _collection(self) -> Collection | None:
        """The images as parts of one array, if they are."""
        path = self.images.path
        kind = path.rstrip("/").rpartition(".")[2].lower()
        if is_url(path):
            return scan(self.images) if kind == "zarr" else None
        if folders.is_glob(Path(path)):
            return None
        if arrays.is_zarr(Path(path)) or (kind == "npy" and is_file(path)):
            return scan(self.images)
        return None

    @cached_property
    def _listing(self) -> Listing:
        if is_url(self.images.path):
            return find_remote(self.images)
        path = Path(self.images.path)
        if not folders.is_glob(path) and not exists(path):
            raise folders.missing(path)
        return find_local(self.images)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each name, as stores write it; of an image that is named twice, the first."""
        paths = self._listing.paths if self._collection is None else self._collection.paths
        rows: dict[str, int] = {}
        for row, path in enumerate(paths):
            rows.setdefault(path.encode(errors="replace").decode(), row)
        return rows

    @cached_property
    def _medium(self) -> Medium:
        return open_medium(self._listing)

    @cached_property
    def _reader(self) -> Reader | None:
        return None if self._collection is None else open_reader(self.images, self._collection)

    def _row(self, name: str) -> int:
        try:
            row = self._rows.get(name)
        except OSError as error:
            raise image_error(name, f"its source cannot be read ({error.strerror})") from error
        if row is None:
            raise image_error(name, "is not there any more")
        if self._collection is None and row in self._listing.missing:
            raise image_error(name, self._listing.missing[row])
        return row

    def _check_size(self, row: int, images: Images, part: Spans | None) -> None:
        """Refuse what is too large, by the limit of the pipeline or, in other words, by the lower one of a glance."""
        own = images.model_copy(update={"max_pixels": self.allowed})
        header = read_header(opener(self._medium, row, head=True), own)
        if not header.by_parts(images.orientation):
            self._check_area(header.height, header.width)
        elif part is None:
            self._check_area(*region_shape(images, header.shape(images.orientation)))

    def _check_area(self, height: int, width: int) -> None:
        if height * width > self.images.max_pixels:
            raise Refused(f"has {height}×{width} pixels, too many to be decoded only for a look")

    def _check_array(self, part: Spans | None) -> None:
        collection, reader = self._collection, self._reader
        assert collection is not None
        assert reader is not None
        if part is None:
            array, axes = reader.array, collection.axes
            self._check_area(int(array.shape[axes.index("y")]), int(array.shape[axes.index("x")]))

    def _read_array(self, row: int, part: Spans | None) -> Float32:
        self._check_array(part)
        assert self._reader is not None
        if part is None:
            return self._reader.read_image(row)
        return self._reader.read(row, *part)


def middle(length: int, most: int) -> Span:
    """Return the middle of an axis, at most so many pixels of it.

    Examples
    --------
    >>> middle(100, 20), middle(10, 20)
    (Span(start=40, stop=60), Span(start=0, stop=10))
    """
    start = max(0, (length - most) // 2)
    return Span(start, min(length, start + most))


__all__ = ["MOST_PIXELS", "Glance", "ImageError", "middle"]
