"""Where a store lies: a directory, or a prefix of an object store.

All of featpipe's own reading and writing of stores goes through these few steps. Each key is written whole or not at
all, and whoever reads it meets the old content or the new. What is written through a fence is not written at all once
another run has entered.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol

from featpipe.errors import Problem, StoreError
from featpipe.objects import is_url
from featpipe.reading.files import IrregularFileError, read_file
from featpipe.replacing import TEMPORARY, temporary_name
from featpipe.store import folders
from featpipe.store.alive import is_unlocked, lock_file
from featpipe.store.folders import cannot_write, told
from featpipe.store.interpreter import check_interpreter

if TYPE_CHECKING:
    from featpipe.store.fence import Fence

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
        """Return the content of a key; None where there is none, or a device or pipe in its place."""
        ...

    def enter(self, fence: Fence) -> Place:
        """Shut out the writers of earlier generations, and return the place as those of this one write it."""
        ...

    def leave(self, fence: Fence) -> None:
        """Shut out the writers of a generation that has ended."""
        ...

    def write(self, key: str, parts: Iterable[Part]) -> None:
        """Write a key whole or not at all."""
        ...

    def claim(self, key: str, content: Callable[[Mapping[str, Any]], bytes]) -> IO[bytes] | None:
        """Write a key unless it is there, and hold it until what is returned is closed; None if it was there.

        ``content`` is given what `is_abandoned` must know to tell whether it is held.
        """
        ...

    def is_abandoned(self, key: str, signs: Mapping[str, Any]) -> bool:
        """Return whether a key is known to be held no more by a process of this system."""
        ...

    def append(self, key: str, content: bytes) -> None:
        """Add to a key that is there; a crash may cut what was added last."""
        ...

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield every key below ``prefix`` with its size in bytes."""
        ...

    def names(self) -> list[str]:
        """Return the keys that lie in no folder."""
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

    def touch(self, key: str) -> None:
        """Make a key as young as if it had just been written."""
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
    """A directory; may be used by many threads, and sent to other processes.

    Behind a fence, files are made in a directory of the fence's generation and renamed into place, and what is removed
    is renamed into it first. Who takes the lock over does away with that directory: from then on no such rename finds
    its source or its target, however long a writer has slept between any two steps.

    Parameters
    ----------
    path : Path
    fsync : bool
        Whether what is written must have reached the disk before it counts.
    fence : Fence, optional
    drafts : Path, optional
        The directory of the fence's generation.
    """

    def __init__(
        self, path: Path, *, fsync: bool = False, fence: Fence | None = None, drafts: Path | None = None
    ) -> None:
        self.path = path
        self.fsync = fsync
        self.fence = fence
        self.drafts = drafts

    def __str__(self) -> str:
        return str(self.path)

    @property
    def beside(self) -> LocalPlace:
        path = self.path if self.path.name not in ("", "..") else Path(os.path.abspath(self.path))  # noqa: PTH100
        return LocalPlace(path.parent / (path.name + BESIDE), fsync=self.fsync, fence=self.fence, drafts=self.drafts)

    def enter(self, fence: Fence) -> LocalPlace:
        for folder in (self.beside.path, self.path):
            folders.clear_drafts(folder, lambda generation, _token: generation < fence.generation)
        drafts = self.beside.path / folders.drafts_name(fence)
        with told(drafts):
            drafts.mkdir(parents=True, exist_ok=True)
            if not folders.renames(drafts, self.path):  # the store is mounted by itself
                drafts.rmdir()
                drafts = self.path / drafts.name
                drafts.mkdir()
        return LocalPlace(self.path, fsync=self.fsync, fence=fence, drafts=drafts)

    def leave(self, fence: Fence) -> None:
        for folder in (self.beside.path, self.path):
            folders.clear_drafts(
                folder, lambda generation, token: (generation, token) == (fence.generation, fence.token)
            )

    def read(self, key: str) -> bytes | None:
        try:
            return read_file(self.path / key)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, IrregularFileError):
            return None
        except OSError as error:
            raise StoreError(Problem(str(self.path / key), f"cannot be read: {error.strerror or error}.")) from None

    def write(self, key: str, parts: Iterable[Part]) -> None:
        path = self.path / key
        with self._told(path), self._replacing(path) as file:
            for part in parts:
                file.write(part)
                del part  # the next comes while nobody holds on to this one

    def claim(self, key: str, content: Callable[[Mapping[str, Any]], bytes]) -> IO[bytes] | None:
        path = self.path / key
        with told(path):
            while True:
                folders.make_folder(path.parent, sync=self.fsync)
                try:
                    file = path.open("xb")
                except FileExistsError:
                    return None
                except FileNotFoundError:
                    continue  # whoever left last has removed the directory
                try:
                    file.write(content(lock_file(file)))
                    file.flush()
                except BaseException:
                    with suppress(OSError):
                        path.unlink()
                        file.close()
                    raise
                return file

    def is_abandoned(self, key: str, signs: Mapping[str, Any]) -> bool:
        return is_unlocked(self.path / key, signs)

    def append(self, key: str, content: bytes) -> None:
        path = self.path / key
        with self._told(path), open(os.open(path, os.O_WRONLY | os.O_APPEND), "ab") as file:  # noqa: PTH123
            file.write(content)
            if self.fsync:
                file.flush()
                os.fsync(file.fileno())

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        yield from folders.walk(str(self.path / prefix) if prefix else str(self.path), f"{prefix}/" if prefix else "")

    def names(self) -> list[str]:
        try:
            with os.scandir(self.path) as listing:
                return [entry.name for entry in listing if entry.is_file(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(Problem(str(self.path), f"cannot be listed: {error.strerror or error}.")) from None

    def remove(self, keys: Iterable[str]) -> None:
        parents = set()
        for key in keys:
            path = self.path / key
            parents.add(path.parent)
            with self._told(path):
                if self.drafts is None:
                    path.unlink(missing_ok=True)
                    continue
                removed = self.drafts / temporary_name()
                try:
                    path.rename(removed)
                except FileNotFoundError:
                    if not self.drafts.exists():
                        raise
                    continue
                removed.unlink(missing_ok=True)
        for folder in parents if self.fsync else ():
            with suppress(FileNotFoundError):
                folders.sync_folder(folder)

    def modified(self, key: str) -> float | None:
        try:
            return (self.path / key).stat().st_mtime
        except FileNotFoundError:
            return None

    def age(self, key: str) -> float | None:
        written = self.modified(key)
        if written is None:
            return None
        probe = self.path / temporary_name()
        try:
            with probe.open("xb") as file:
                return os.fstat(file.fileno()).st_mtime - written
        except OSError:  # who may only look has no clock but the own
            return time.time() - written
        finally:
            with suppress(OSError):
                probe.unlink()

    def touch(self, key: str) -> None:
        with told(self.path / key):  # a full disk lets us touch, not write
            os.utime(self.path / key)

    def tidy(self) -> None:
        for folder, _, _ in os.walk(self.path, topdown=False):
            if not folder.endswith(TEMPORARY):  # somebody's drafts
                with suppress(OSError):
                    Path(folder).rmdir()

    def open_zarr(self, *, read_only: bool = True) -> Any:
        from featpipe.store.regular import RegularStore

        return RegularStore(self.path, read_only=read_only)

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file that takes the place of ``path`` when all has been written, and vanishes if that fails."""
        temporary = (self.drafts or path.parent) / temporary_name()
        try:
            with (
                temporary.open("wb")
                if self.drafts is not None
                else folders.open_new(temporary, sync=self.fsync) as file
            ):
                yield file
                if self.fsync:
                    file.flush()
                    os.fsync(file.fileno())
            folders.move(temporary, path, sync=self.fsync)
            if self.fsync:
                folders.sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    @contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        """Turn what the system says no with into words; first of all, that the lock has been lost."""
        try:
            yield
        except OSError as error:
            if self.fence is not None and not self.fence.holds():
                raise self.fence.error() from None
            raise cannot_write(path, error) from error


def free_bytes(place: Place) -> int | None:
    """Return what is free where a store lies, in bytes; None where nobody can tell."""
    if not isinstance(place, LocalPlace):
        return None
    folder = next((folder for folder in (place.path, *place.path.absolute().parents) if folder.exists()), None)
    return shutil.disk_usage(folder).free if folder is not None else None
