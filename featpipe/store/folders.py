"""Directories and files of a store on this machine: made, moved, listed and cleared."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from featpipe.errors import Problem, StoreError, WriteError
from featpipe.replacing import TEMPORARY, temporary_name

if TYPE_CHECKING:
    from featpipe.store.fence import Fence

_DRAFTS = re.compile(rf"(\d{{8}})-(\w+){re.escape(TEMPORARY)}")
"""Directories in which the writers of one generation make their files."""
_CLEARINGS = 3
_UNNAMED = re.compile(rf"[0-9a-f]{{32}}{re.escape(TEMPORARY)}")
"""Those that somebody was removing."""


def open_new(path: Path, *, sync: bool) -> BinaryIO:
    """Open a file for writing, its directory made if need be."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        make_folder(path.parent, sync=sync)
        return path.open("wb")


def make_folder(folder: Path, *, sync: bool) -> None:
    """Make a directory and those above it; where asked to, let their names reach the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()] if sync else []
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def move(temporary: Path, path: Path, *, sync: bool) -> None:
    """Rename a file, the directory of its new name made if need be, and again should somebody tidy it away."""
    while True:
        try:
            temporary.replace(path)
        except FileNotFoundError:
            if not temporary.exists():
                raise
            make_folder(path.parent, sync=sync)
        else:
            return


def drafts_name(fence: Fence) -> str:
    """Return the name of the directory in which the writers of a fence make their files."""
    return f"{fence.generation:08}-{fence.token}{TEMPORARY}"


def clear_drafts(folder: Path, chosen: Callable[[int, str], bool]) -> None:
    """Remove directories of drafts: each loses its name first, in one step, and with it all that would be renamed."""
    with told(folder):
        for drafts in _subfolders(folder):
            found = _DRAFTS.fullmatch(drafts.name)
            if found is not None and not chosen(int(found[1]), found[2]):
                continue
            if found is None and not _UNNAMED.fullmatch(drafts.name):
                continue
            gone = folder / temporary_name()
            with suppress(FileNotFoundError):
                drafts.rename(gone)
            for _ in range(_CLEARINGS):  # over a network, who has it open may add to it still
                shutil.rmtree(gone, ignore_errors=True)
            if gone.exists():
                shutil.rmtree(gone)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.name.endswith(TEMPORARY) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def renames(drafts: Path, folder: Path) -> bool:
    """Return whether files can be renamed from one directory into another."""
    if not folder.exists():
        return True
    name = temporary_name()
    (drafts / name).touch()
    try:
        (drafts / name).rename(folder / name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    finally:
        for left in (drafts / name, folder / name):
            with suppress(OSError):
                left.unlink()
    return True


def walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield every file below a directory: its name after a prefix, and its size in bytes."""
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(Problem(folder, f"cannot be listed: {error.strerror or error}.")) from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


def sync_folder(folder: Path) -> None:
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
