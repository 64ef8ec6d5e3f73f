"""Sizes, times and headers of many image files."""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from featpipe.errors import SourceError
from featpipe.images.decode import read_header
from featpipe.images.header import Header
from featpipe.images.media import Medium, opener
from featpipe.images.refusal import MOST_PROBLEMS, Refused, source_error, source_problem, told_error
from featpipe.reading.files import irregular_text, stat_file
from featpipe.reading.retry import is_transient
from featpipe.spec.pipeline import Images

_SLOW = 1e-4
"""Seconds a file from which several are read at once; where the disk is faster, threads only wait for each other."""


class FileFact(NamedTuple):
    """What the file system knows of one file."""

    bytes: int
    time: int
    """Of the last change, in ns."""
    missing: str = ""
    """Why it cannot be read."""


def stat_files(root: Path, names: Iterable[str], *, confined: bool) -> dict[str, FileFact]:
    """Look at every file once, without opening it.

    Parameters
    ----------
    root : Path
    names : iterable of str
        Relative to ``root``; repeated names are looked at once.
    confined : bool
        Whether a symbolic link that leads out of ``root`` is an error.
    """
    base = str(root)
    guard = _Guard(base) if confined else None
    facts = {}
    for name in dict.fromkeys(names):
        path = f"{base}/{name}"
        if guard is not None:
            guard.check(name, path)
        try:
            found = stat_file(path)
        except OSError as error:
            if is_transient(error):
                # What it was is not known, so nothing can be said of features that are there already
                raise source_error("path", f"{name} could not be reached ({told_error(error)}).", cause=error) from None
            why = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
            facts[name] = FileFact(-1, -1, why)
            continue
        kind = found.st_mode
        why = "" if stat.S_ISREG(kind) else irregular_text(kind)
        facts[name] = FileFact(found.st_size, found.st_mtime_ns, why)
    if guard is not None and guard.escaping:
        what = "is a link out of the manifest's directory."
        raise SourceError([source_problem("path", f"{name} {what}") for name in guard.escaping[:MOST_PROBLEMS]])
    return facts


class _Guard:
    """Finds files that really lie elsewhere; resolves every folder once."""

    def __init__(self, base: str) -> None:
        self.base = os.path.realpath(base)
        self.folders: dict[str, bool] = {}
        self.escaping: list[str] = []

    def check(self, name: str, path: str) -> None:
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder not in self.folders:
            self.folders[folder] = self._inside(folder)
        linked = os.path.islink(path)  # noqa: PTH114
        if not (self._inside(path) if linked else self.folders[folder]):
            self.escaping.append(name)

    def _inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self.base or real.startswith(self.base.rstrip(os.sep) + os.sep)


def probe_headers(
    medium: Medium, rows: Sequence[int], images: Images, *, threads: int = 4, together: int = 16
) -> dict[int, Header | Refused]:
    """Read the header of every image, or why it cannot be read; where they come slowly, threads hide their latency.

    Parameters
    ----------
    medium : Medium
    rows : sequence of int
    images : Images
    threads : int
    together : int
        Rows that one thread reads after one another, where there are many threads.
    """

    def probe(row: int) -> Header | Refused:
        try:
            return read_header(opener(medium, row, head=True), images)
        except Refused as refused:
            return refused.with_traceback(None)

    def probe_part(part: Sequence[int]) -> list[Header | Refused]:
        return [probe(row) for row in part]

    first, several = (256, 256) if threads <= 4 else (0, together)
    parts = [rows[:first], *(rows[i : i + several] for i in range(first, len(rows), several))]
    start = time.perf_counter()
    found = [probe_part(part) for part in parts[:1]]
    if threads == 1 or (first and time.perf_counter() - start < _SLOW * len(parts[0])):
        found += map(probe_part, parts[1:])
    else:
        with ThreadPoolExecutor(threads) as pool:
            found += pool.map(probe_part, parts[1:])
    return dict(zip(rows, itertools.chain(*found), strict=True))
