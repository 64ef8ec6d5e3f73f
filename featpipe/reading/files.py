"""Files read whole: every read is repeated where it fails for a moment, and goes on until all is there."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Any

from featpipe.reading.retry import ShortReadError, retry

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)

_PREADV: Callable[..., int] | None = getattr(os, "preadv", None)
"""Reads into memory that is there already; Windows has none."""
_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP})


_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class IrregularFileError(OSError):
    """A named pipe, a device or a socket, which are never read: they may block for ever, or never end."""

    def __init__(self, path: str, mode: int) -> None:
        super().__init__(errno.EINVAL, irregular_text(mode), path)

    def __str__(self) -> str:
        return str(self.strerror)


class ChangedFileError(OSError):
    """A file that was replaced or written to while it was read."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "has changed while it was read", path)


class SteadyFile(io.RawIOBase):
    """A regular file, for one thread to read and seek in.

    Reads return all the bytes they are asked for, fewer at the file's end only. Where one fails for a moment, the file
    is opened anew.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError
        If it cannot be opened, or is no regular file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = -1
        self._at = self._there = 0
        self.found = retry(self._open)

    def _open(self) -> os.stat_result:
        """Open the file, and return what the system tells of it; nothing but a regular file is touched."""
        self._release()
        known = os.stat(self.path)  # noqa: PTH116 - a third of pathlib's time
        if not stat.S_ISREG(known.st_mode):
            check_regular(self.path, known)
        self._file = os.open(self.path, _FLAGS)
        self._there = 0
        found = os.fstat(self._file)  # it may have been replaced between
        if not stat.S_ISREG(found.st_mode):
            check_regular(self.path, found)
        return found

    @property
    def size(self) -> int:
        """Bytes that the file had when it was opened."""
        return self.found.st_size

    def read_at(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, or those that there are up to the file's end."""
        length = min(length, self.found.st_size - start)
        if length <= 0:
            return b""
        parts = [retry(partial(self._read_some, start, length))]
        done = len(parts[0]) or length
        while done < length:
            part = retry(partial(self._read_some, start + done, length - done))
            if not part:
                break
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_rows(self, start: int, stride: int, out: Any) -> bool:
        """Fill the rows of a contiguous array, the first from ``start``, each other one ``stride`` bytes further.

        Returns
        -------
        bool
            Whether all was there; else the file ends before.
        """
        content = memoryview(out).cast("B")
        length = content.nbytes // len(out)
        for i in range(len(out)):
            row = content[i * length : (i + 1) * length]
            at = start + i * stride
            done = 0
            if _PREADV is not None and self._file >= 0:
                try:
                    done = _PREADV(self._file, (row,), at)
                except OSError:  # comes again below, and is dealt with there
                    done = 0
            if done < length:
                part = self.read_at(at + done, length - done)
                if len(part) < length - done:
                    return False
                row[done:] = part
        return True

    def _read_some(self, start: int, length: int) -> bytes:
        """Return some bytes; none only where the file really ends, as of one that was cut meanwhile."""
        if self._file < 0 and mark_of(self._open()) != mark_of(self.found):
            raise ChangedFileError(self.path)
        try:
            if self._there != start:
                os.lseek(self._file, start, os.SEEK_SET)
            part = os.read(self._file, length)
            self._there = start + len(part)
            if not part and os.fstat(self._file).st_size > start:
                raise ShortReadError(f"a read ended at byte {start:,} of {self.size:,}")
        except OSError:
            self._release()  # a handle may be what has gone stale
            raise
        return part

    def _release(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)

    # -- as a file of Python -------------------------------------------------------------------------------------------

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + (0, self._at, self.size)[whence]
        if at < 0:
            raise OSError(errno.EINVAL, "seeks before the beginning")
        self._at = at
        return at

    def read(self, size: int | None = -1, /) -> bytes:
        part = self.read_at(self._at, self.found.st_size if size is None or size < 0 else size)
        self._at += len(part)
        return part

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._release()
        super().close()


def mark_of(found: os.stat_result) -> tuple[int, int]:
    """Return size and time of change of a file, in bytes and ns."""
    return found.st_size, found.st_mtime_ns


def check_regular(path: str, found: os.stat_result) -> None:
    """Refuse what is no regular file."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise IrregularFileError(path, found.st_mode)


def irregular_text(mode: int) -> str:
    """Say what is no regular file.

    Parameters
    ----------
    mode : int
        As `os.stat` tells it.

    Examples
    --------
    >>> irregular_text(stat.S_IFIFO)
    'is a named pipe, not a file'
    """
    kind = next((name for test, name in _KINDS if test(mode)), "something else")
    return f"is {kind}, not a file"


def read_small(path: str, most: int) -> bytes | None:
    """Return the content of a regular file by as few calls as can be; None of a larger one, or of what is no file."""
    return retry(partial(_read_small, path, most))


def _read_small(path: str, most: int) -> bytes | None:
    known = os.stat(path)  # noqa: PTH116
    if known.st_size > most or not stat.S_ISREG(known.st_mode):
        return None
    file = os.open(path, _FLAGS)
    try:
        content = os.read(file, known.st_size)
        while len(content) < known.st_size:
            more = os.read(file, known.st_size - len(content))
            if not more and os.fstat(file).st_size <= len(content):
                break
            if not more:
                raise ShortReadError(f"a read ended at byte {len(content):,} of {known.st_size:,}")
            content += more
    finally:
        os.close(file)
    return content


def read_file(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Return the content of a regular file, at most so many bytes of it."""
    with SteadyFile(os.fspath(path)) as file:
        return file.read(most)


def open_buffered(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for libraries that read it bit by bit."""
    return io.BufferedReader(SteadyFile(os.fspath(path)))


def stat_file(path: str | os.PathLike[str]) -> os.stat_result:
    """Return what the system tells of a file."""
    return retry(lambda: os.stat(path))  # noqa: PTH116


def exists(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is something at a path; raise ``OSError`` where that cannot be found out."""
    return _mode(path) != 0


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a directory; raise ``OSError`` where that cannot be found out."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a regular file; raise ``OSError`` where that cannot be found out."""
    return stat.S_ISREG(_mode(path))


def _mode(path: str | os.PathLike[str]) -> int:
    """Return the mode of what is at a path; 0 where there is nothing."""
    try:
        return stat_file(path).st_mode
    except ValueError:  # a name that no file can have
        return 0
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        raise


def list_folder(path: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory."""

    def scan() -> list[os.DirEntry[str]]:
        with os.scandir(path) as listing:
            return list(listing)

    return retry(scan)
