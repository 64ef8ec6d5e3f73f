"""Parts of files and of objects as seekable files; nothing stays open between reads, so that threads share them."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, NamedTuple, Protocol, cast

from featpipe.images.refusal import Refused, Unavailable, explain
from featpipe.objects import explain as explain_service
from featpipe.objects import is_url, open_objects, parse_url
from featpipe.reading.files import SteadyFile, check_regular, read_small, stat_file
from featpipe.reading.retry import ShortReadError, is_transient, retry

AT_ONCE = 16 * 2**20
"""Parts up to this size, in bytes, are read whole; larger ones piece by piece."""
_FILE_AT_ONCE = 64 * 2**10
"""Files up to this size, in bytes, are read whole, by as few calls as can be: around each, threads take turns."""
_PIECE = 2**20
_HEAD = 64 * 2**10
_RETRIES = 3
"""Of obstore itself for one request; what they do not mend is tried again as other reads are."""
_CHANGED = "has changed since it was scanned"


class Mark(NamedTuple):
    """Size of a file or object in bytes, and what changes with its content: the time in ns, or its entity tag."""

    size: int
    tag: int | str


class Ranges(Protocol):
    """What can be read from anywhere."""

    @property
    def mark(self) -> Mark: ...

    ahead: ClassVar[int]
    """Bytes to read at once where little is asked for: as many as take no longer than one."""

    def read_at(self, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start``, fewer at the end only; raises ``Refused``."""
        ...


@dataclass(frozen=True)
class FileRanges:
    """A file of this machine."""

    path: str
    mark: Mark
    ahead: ClassVar[int] = 4096

    def read_at(self, start: int, length: int) -> bytes:
        try:
            with SteadyFile(self.path) as file:
                if _mark(file.found) != self.mark:
                    raise Refused(f"cannot be read: {os.path.basename(self.path)} {_CHANGED}")  # noqa: PTH119
                return file.read_at(start, length)
        except OSError as error:
            raise explain(error) from error


@dataclass(frozen=True)
class ObjectRanges:
    """An object of a store."""

    objects: Any
    scheme: str
    name: str
    mark: Mark
    ahead: ClassVar[int] = 2**20

    def read_at(self, start: int, length: int) -> bytes:
        stop = min(start + length, self.mark.size)
        if stop <= start:
            return b""
        options: dict[str, Any] = {"range": (start, stop)}
        if isinstance(self.mark.tag, str) and self.mark.tag:
            options["if_match"] = self.mark.tag
        try:
            return get_bytes(self.objects, self.name, stop - start, options)
        except Exception as error:  # obstore's errors and OSError
            raise object_refusal(error, self.scheme) from None


def get_bytes(objects: Any, name: str, length: int, options: Any = None) -> bytes:
    """Return all of an object's bytes, or of a range of them; raises obstore's errors and ``OSError``."""

    def read() -> bytes:
        found: bytes = objects.get(name, options=options).bytes().to_bytes()
        if len(found) < length:
            raise ShortReadError(f"a read gave {len(found):,} of {length:,} bytes")
        return found

    return retry(read)


def object_refusal(error: Exception, scheme: str) -> Refused:
    """Return the refusal of one image that an exception of obstore means."""
    if type(error).__name__ in {"PreconditionError", "NotModifiedError"}:
        return Refused(_CHANGED)
    if isinstance(error, ShortReadError):
        return Unavailable(f"could not be reached ({error.strerror})")
    what = explain_service(error, scheme)[0]
    return Unavailable(what) if is_transient(error) else Refused(what)


def find_ranges(root: str, name: str, store: Any = None) -> Ranges:
    """Look at one file below a directory or an address.

    Parameters
    ----------
    root : str
        A directory, or the address of an object store.
    name : str
        Relative to it.
    store : ObjectStore, optional
        Opened at ``root`` already.

    Raises
    ------
    Refused
        If there is none, or it is no regular file.
    """
    if not is_url(root):
        path = f"{root}/{name}"
        try:
            found = stat_file(path)
            check_regular(path, found)
        except OSError as error:
            raise explain(error) from error
        return FileRanges(path, _mark(found))
    store = store or open_images(root)
    scheme = parse_url(root).scheme
    try:
        about = retry(lambda: store.head(name))
    except Exception as error:  # obstore's errors and OSError
        raise object_refusal(error, scheme) from None
    return ObjectRanges(store, scheme, name, object_mark(about))


def open_images(url: str) -> Any:
    """Open the place in an object store that ``images.path`` names."""
    return open_objects(url, ("images", "path"), retries=_RETRIES)


def object_mark(about: Any) -> Mark:
    """Return what obstore tells of an object."""
    return Mark(int(about["size"]), str(about["e_tag"] or about["last_modified"].isoformat()))


def _mark(found: os.stat_result) -> Mark:
    return Mark(found.st_size, found.st_mtime_ns)


class Seekable(io.RawIOBase):
    """So many bytes, of which those at ``_at`` are read next."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + (0, self._at, self._length)[whence]
        if at < 0:
            raise OSError("seeks before the beginning")
        self._at = at
        return at


class Part(Seekable):
    """A stretch of something, as a file to read and seek in."""

    def __init__(self, ranges: Ranges, start: int, length: int) -> None:
        super().__init__(length)
        self._ranges, self._start = ranges, start

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._length - self._at, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        found = self._ranges.read_at(self._start + self._at, wanted) if wanted else b""
        self._at += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def open_part(ranges: Ranges, start: int, length: int, *, head: bool = False) -> BinaryIO:
    """Open a stretch as a file: in memory if it is small, else read as it is asked for.

    Parameters
    ----------
    ranges : Ranges
    start, length : int
        In bytes.
    head : bool
        Little will be read, from the beginning.
    """
    if length <= (2 * _HEAD if head else AT_ONCE):
        return io.BytesIO(ranges.read_at(start, length))
    return cast("BinaryIO", io.BufferedReader(Part(ranges, start, length), _HEAD if head else _PIECE))


def open_file(path: str) -> BinaryIO:
    """Open a regular file; nothing else is touched, for it might block."""
    content = read_small(path, _FILE_AT_ONCE)
    if content is not None:
        return io.BytesIO(content)
    file = SteadyFile(path)
    if file.size > _FILE_AT_ONCE:
        return cast("BinaryIO", io.BufferedReader(file))
    with file:
        return io.BytesIO(file.read())
