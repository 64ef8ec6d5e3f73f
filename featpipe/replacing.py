"""Files that take another's place when they are whole, under names that nobody else gives."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".partial"
"""Ending of files being written, as zarr's own."""


def temporary_name() -> str:
    """Return a name that nobody else gives, in any process on any machine."""
    return uuid.uuid4().hex + TEMPORARY


def real(path: Path) -> Path:
    """Return where a path leads, links followed; one that leads round in circles, as it is."""
    return Path(os.path.realpath(path))


@contextmanager
def replacing(file: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the name of a file or directory that becomes ``file`` when all is written, and vanishes if that fails.

    Where ``file`` is a link, what it leads to is replaced. Devices and pipes are written to where they are.
    """
    path = Path(file)
    if path.is_symlink():
        path = real(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    temporary = path.with_name(f".{temporary_name()}")
    try:
        yield temporary
        _move(temporary, path)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
        raise


def _move(temporary: Path, path: Path) -> None:
    """Let a file or directory take the place of what is there."""
    if not path.is_dir() or not temporary.is_dir():
        temporary.replace(path)
        return
    old = path.with_name(temporary.name + ".old")  # a directory cannot be replaced in one step
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)
