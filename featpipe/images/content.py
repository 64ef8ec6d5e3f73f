"""The content of images: what tells one from another whatever their names and times are.

The content of an encoded image is the number and the CRC-32C of its bytes, as ``20480-9ae0daaf``; that of an image in a
``.npy`` the same of its samples as they lie in the file. A checksum runs over 12 GB/s (SHA-256 over 1 GB/s),
so it is taken of all that is read. It is there to notice what somebody has changed: of four
thousand million images that were edited and kept their number of bytes, it misses one. A zarr has one content for all
of its images, a digest of its files' names and contents; a large object, which is read in pieces, has its entity tag.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, BinaryIO, cast

import google_crc32c
import numpy as np
import numpy.typing as npt

from featpipe.images.decode import Opener
from featpipe.images.media import Medium
from featpipe.images.ranges import AT_ONCE
from featpipe.plan.collection import Collection
from featpipe.reading.files import SteadyFile, list_folder

Note = Callable[[str], None]
UNKNOWN = ""
"""Stands for the content of an image whose bytes could not be read."""
_PIECE = 4 * 2**20


class Content:
    """The content of bytes that come one piece after another."""

    def __init__(self) -> None:
        self.size, self._crc = 0, 0

    def add(self, piece: bytes) -> None:
        """Take in the next piece."""
        self.size += len(piece)
        self._crc = google_crc32c.extend(self._crc, piece)

    def add_rest(self, file: BinaryIO | SteadyFile) -> None:
        """Take in what is left of a file, piece by piece."""
        while piece := file.read(_PIECE):
            self.add(piece)

    def __str__(self) -> str:
        return f"{self.size}-{self._crc:08x}"


def content_of(encoded: bytes) -> str:
    """Return the content of an image's bytes.

    Examples
    --------
    >>> content_of(b"123456789")
    '9-e3069283'
    """
    whole = Content()
    whole.add(encoded)
    return str(whole)


def content_bytes(content: str) -> int | None:
    """Return how many bytes had this content; None where it does not tell."""
    size, dash, _ = content.partition("-")
    return int(size) if dash and size.isdigit() else None


def noting(opener: Opener, note: Note) -> Opener:
    """Return what opens the same bytes, and notes their content by the time they are closed."""

    def opened() -> BinaryIO:
        file = opener()
        if isinstance(file, io.BytesIO):
            note(content_of(file.getvalue()))
            return file
        return cast("BinaryIO", _Noting(file, note))

    return opened


class _Noting(io.RawIOBase):
    """A file whose content is taken while it is read; what nobody reads in its order is read when it is closed."""

    def __init__(self, file: BinaryIO, note: Note) -> None:
        super().__init__()
        self._file, self._note = file, note
        self._content = Content()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        at = self._file.tell()
        found = self._file.read(-1 if size is None else size)
        known = self._content.size
        if at <= known < at + len(found):
            self._content.add(found if at == known else found[known - at :])
        return found

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._file.seek(self._content.size)
            self._content.add_rest(self._file)
            self._note(str(self._content))
        except Exception:  # what cannot be read to its end has no content that is known
            self._note(UNKNOWN)
        finally:
            self._file.close()
            super().close()


def read_content(medium: Medium, row: int) -> str:
    """Read an image's bytes and return their content; raises ``Refused`` or ``OSError``."""
    with medium.open(row) as file:
        if isinstance(file, io.BytesIO):
            return content_of(file.getvalue())
        whole = Content()
        whole.add_rest(file)
        return str(whole)


def told_content(collection: Collection, row: int) -> str | None:
    """Return an image's content where the source tells it and nothing needs to be read; else None."""
    if collection.kind == "zarr" and "://" in collection.root:
        return f"objects-{collection.source[:24]}"
    if collection.kind != "objects" or collection.stamps[row, 0] <= AT_ONCE:
        return None
    size, tag = collection.stamps[row].tolist()
    return f"{size}-tag-{tag & (2**64 - 1):016x}"


def array_image_content(array: Any, collection: Collection, row: int) -> str:
    """Return the content of one image of a ``.npy``, read in pieces."""
    if collection.axes.startswith("n"):
        return _samples_content(lambda part: array[row, part], array.shape[1:], array.dtype.itemsize)
    return _samples_content(array.__getitem__, array.shape, array.dtype.itemsize)


def samples_content(image: npt.NDArray[Any]) -> str:
    """Return the content of an image of a ``.npy`` that has been read."""
    return _samples_content(image.__getitem__, image.shape, image.itemsize)


def _samples_content(read: Callable[[slice], Any], shape: tuple[int, ...], itemsize: int) -> str:
    rows = max(1, _PIECE // max(1, prod(shape[1:]) * itemsize))
    whole = Content()
    for start in range(0, shape[0], rows):
        whole.add(np.ascontiguousarray(read(slice(start, start + rows))).tobytes())
    return str(whole)


def tree_content(root: str, each: Callable[[Callable[[str], str], list[str]], Iterable[str]]) -> str:
    """Return the content of a local zarr: a digest of its files' names and contents.

    Parameters
    ----------
    root : str
    each : callable
        Maps a function over names, in order, as `map` does.
    """
    names = sorted(_files(root, ""))
    lines = (
        f"{name}\0{content}" for name, content in zip(names, each(lambda name: _file(root, name), names), strict=True)
    )
    return f"files-{hashlib.sha256(chr(10).join(lines).encode(errors='surrogateescape')).hexdigest()[:24]}"


def _files(folder: str, prefix: str) -> Iterator[str]:
    """Yield the names of all files below a directory; one that cannot be listed is an error, not empty."""
    for entry in list_folder(folder):
        if entry.is_dir():
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def _file(root: str, name: str) -> str:
    whole = Content()
    with SteadyFile(os.path.join(root, name)) as file:  # noqa: PTH118 - there may be a million
        whole.add_rest(file)
    return str(whole)
