"""Where a store lies: a directory, or a prefix of an object store.

All of featpipe's own reading and writing of stores goes through these few steps. Each key is written whole or not at
all, and whoever reads it meets the old content or the new.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from featpipe.errors import Problem, StoreError, WriteError
from featpipe.objects import is_url
from featpipe.store.interpreter import check_interpreter

TEMPORARY = ".partial"
"""Ending of files being written, as zarr's own."""
BESIDE = ".run"
"""Ending of the directory beside a store for what is no part of it: the lock and receipts of a run that is on, and the
history of all runs."""
Part = bytes | memoryview


class Place(Protocol):
    """Keys, POSIX-style, and their content."""

    @property
    def beside(self) -> Place:
        """The place beside this one for what is no part of the store."""
        ...

    def read(self, key: str) -> bytes | None:
        """Return the content of a key; None where there is none."""
        ...

    def write(self, key: str, parts: Iterable[Part], *, again: bool = False) -> None:
        """Write a key whole or not at all; the latter does not matter of what would be written ``again``."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write a key unless it is there; return whether this call did."""
        ...

    def append(self, key: str, content: bytes) -> None:
        """Add to a key; a crash may cut what was added last."""
        ...

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield every key below ``prefix`` with its size in bytes."""
        ...

    def remove(self, keys: Iterable[str]) -> None:
        """Remove keys; those that are not there do not matter."""
        ...

    def modified(self, key: str) -> float | None:
        """Return when a key was written, in seconds since 1970; None where there is none."""
        ...

    def age(self, key: str) -> float | None:
        """Return the seconds since a key was written, by the place's own clock; None where there is none."""
        ...

    def touch(self, key: str, content: bytes) -> None:
        """Make a key, whose content this is, as young as if it had just been written."""
        ...

    def tidy(self) -> None:
        """Remove empty directories, this one included."""
        ...

    def open_zarr(self, *, read_only: bool = True) -> Any:
        """Return the place as a store of zarr-python."""
        ...


def open_place(path: str | os.PathLike[str], *, fsync: bool = False) -> Place:
    """Return the place that a path or a URL names.

    Parameters
    ----------
    path : str or path
    fsync : bool
        Whether what is written must have reached the disk before it counts, so that it outlives a power failure.

    Raises
    ------
    StoreError
        If the address is malformed, or this Python cannot read stores.
    """
    check_interpreter()
    if isinstance(path, str) and is_url(path):
        from featpipe.store.cloud import ObjectPlace

        return ObjectPlace(path)
    return LocalPlace(Path(path), fsync=fsync)


class LocalPlace:
    """A directory; may be used by many threads, and sent to other processes."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self.fsync = fsync

    def __str__(self) -> str:
        return str(self.path)

    @property
    def beside(self) -> LocalPlace:
        path = self.path if self.path.name not in ("", "..") else Path(os.path.abspath(self.path))  # noqa: PTH100
        return LocalPlace(path.parent / (path.name + BESIDE), fsync=self.fsync)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.path / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StoreError(Problem(str(self.path / key), f"cannot be read: {error.strerror or error}.")) from None

    def write(self, key: str, parts: Iterable[Part], *, again: bool = False) -> None:
        path = self.path / key
        with told(path), _making(path) if again and not self.fsync else self._replacing(path) as file:
            for part in parts:
                file.write(part)
                del part  # the next comes while nobody holds on to this one

    def create(self, key: str, content: bytes) -> bool:
        path = self.path / key
        with told(path):
            while True:
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with path.open("xb") as file:
                        file.write(content)
                except FileExistsError:
                    return False
                except FileNotFoundError:
                    continue  # whoever left last has removed the directory
                return True

    def append(self, key: str, content: bytes) -> None:
        path = self.path / key
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(content)
                if self.fsync:
                    file.flush()
                    os.fsync(file.fileno())

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        yield from _walk(str(self.path / prefix) if prefix else str(self.path), f"{prefix}/" if prefix else "")

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            with told(self.path / key), suppress(FileNotFoundError):
                (self.path / key).unlink()

    def modified(self, key: str) -> float | None:
        try:
            return (self.path / key).stat().st_mtime
        except FileNotFoundError:
            return None

    def age(self, key: str) -> float | None:
        probe = self.path / f"{uuid.uuid4().hex}{TEMPORARY}"
        try:
            probe.touch()
            written = self.modified(key)
            return None if written is None else probe.stat().st_mtime - written
        except FileNotFoundError:
            return None
        except OSError:  # who may only look has no clock but the own
            written = self.modified(key)
            return None if written is None else time.time() - written
        finally:
            with suppress(OSError):
                probe.unlink()

    def touch(self, key: str, content: bytes) -> None:
        del content  # a full disk lets us touch, not write
        with told(self.path / key):
            os.utime(self.path / key)

    def tidy(self) -> None:
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()

    def open_zarr(self, *, read_only: bool = True) -> Any:
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=read_only)

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file that takes the place of ``path`` when all has been written, and vanishes if that fails."""
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
        try:
            with _making(temporary) as file:
                yield file
                if self.fsync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
            if self.fsync:
                _sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _making(path: Path) -> BinaryIO:
    """Open a file for writing, its directory made if need be."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(Problem(folder, f"cannot be listed: {error.strerror or error}.")) from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


def _sync_folder(folder: Path) -> None:
    """Let the names in a directory reach the disk, where the system knows how."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the system says no with into words."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> WriteError:
    """Return the error for a store that the system does not let us write."""
    reason = error.strerror or str(error)
    change = "Check the permissions and the free space there, or set store.path to another place."
    return WriteError(Problem(str(path), f"cannot be written: {reason}.", change), errno=error.errno)


def free_bytes(place: Place) -> int | None:
    """Return what is free where a store lies, in bytes; None where nobody can tell."""
    if not isinstance(place, LocalPlace):
        return None
    folder = next((folder for folder in (place.path, *place.path.absolute().parents) if folder.exists()), None)
    return shutil.disk_usage(folder).free if folder is not None else None
