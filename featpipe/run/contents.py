"""The content of a plan's images: as far as it is known without reading, and read where it must be known."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featpipe.images.arrays import open_npy
from featpipe.images.content import (
    UNKNOWN,
    array_image_content,
    content_bytes,
    read_content,
    told_content,
    tree_content,
)
from featpipe.images.media import open_medium
from featpipe.images.refusal import Refused, explain
from featpipe.objects import is_url
from featpipe.plan.collection import Collection
from featpipe.report.units import count_text
from featpipe.store.seen import Seen

Tell = Callable[[str], None]
_LOCAL, _REMOTE = 4, 32
"""Threads that read."""
_EVERY = 5.0
"""Seconds between two lines about how far it is."""


class Contents:
    """The content of every image of a collection, in its order.

    Parameters
    ----------
    collection : Collection
    seen : iterable of Seen
        Images whose content is known as long as they have the size and the time that they had.
    """

    def __init__(self, collection: Collection, seen: Iterable[Seen] = ()) -> None:
        self.collection = collection
        self.stamps = _stamps(collection)
        known = {(one.name, one.size, one.tag): one.content for one in seen}
        self.noted = {name for name, _, _ in known}
        """Images that were seen before, whatever their times were."""
        self.failed: dict[int, str] = {}
        """Images that could not be read for comparison, and why."""
        names = zip(collection.paths, self.stamps.tolist(), strict=True)
        self.rows: list[str | None] = [known.get((name, size, tag)) for name, (size, tag) in names]
        """Content of each image, None for one that is not known."""
        self.assumed = {row for row, content in enumerate(self.rows) if content is not None}
        """Images whose content is known by their times alone."""
        for row in range(len(collection)) if collection.kind in {"objects", "zarr"} else ():
            told = told_content(collection, row)
            self.rows[row] = self.rows[row] if told is None else told
        for row in collection.unreadable:
            self.rows[row] = UNKNOWN

    def differs(self, row: int, content: str) -> bool:
        """Tell whether an image cannot have a content, as it has another number of bytes."""
        size, was = int(self.collection.stamps[row, 0]), content_bytes(content)
        return not self.collection.is_array and size > 0 and was is not None and size != was

    def doubt(self, rows: Iterable[int]) -> None:
        """Forget the content of images that is known by their times alone."""
        for row in self.assumed.intersection(rows):
            self.rows[row] = None
        self.assumed.difference_update(rows)

    def note(self, contents: Mapping[int, str]) -> list[int]:
        """Take in the content of images that were read; return those of which another one was known."""
        changed = [
            row for row, content in contents.items() if self.rows[row] and content not in (UNKNOWN, self.rows[row])
        ]
        for row, content in contents.items():
            if not self.rows[row] or row in changed:
                self.rows[row] = content
        return changed

    def seen(self, rows: Iterable[int]) -> Iterator[Seen]:
        """Yield images whose content is known, as they are seen now."""
        for row in rows:
            content = self.rows[row]
            if content is not None:
                size, tag = self.stamps[row].tolist()
                yield Seen(self.collection.paths[row], size, tag, content)

    def final(self) -> list[str]:
        """Return the content of every image, empty where it is not known."""
        return [content or UNKNOWN for content in self.rows]

    def settle(self, rows: Iterable[int], tell: Tell, what: str) -> None:
        """Read images to know their content.

        Parameters
        ----------
        rows : iterable of int
            Those whose content is known already are not read.
        tell : callable
        what : str
            Is done, as ``comparing the content``.
        """
        wanted = [row for row in rows if self.rows[row] is None]
        if not wanted:
            return
        tell(f"{what} of {count_text(len(wanted), 'image')}")
        collection = self.collection
        with ThreadPoolExecutor(_REMOTE if is_url(collection.root) else _LOCAL) as pool:
            if collection.kind == "zarr":
                content = self._try(wanted[0], lambda _: tree_content(collection.root, pool.map))
                self.rows[:] = [UNKNOWN if row in collection.unreadable else content for row in range(len(collection))]
                return
            last, several = time.monotonic(), 256
            read = self._reading()
            for start in range(0, len(wanted), several):  # no more at once, so that Ctrl-C need not wait
                part = wanted[start : start + several]
                for row, content in zip(part, pool.map(lambda row: self._try(row, read), part), strict=True):
                    self.rows[row] = content
                if time.monotonic() - last > _EVERY:
                    last = time.monotonic()
                    tell(f"{what}: {start + len(part):,} of {len(wanted):,}")

    def _reading(self) -> Callable[[int], str]:
        if self.collection.kind == "npy":
            array = open_npy(Path(self.collection.root))
            return lambda row: array_image_content(array, self.collection, row)
        medium = open_medium(self.collection)
        return lambda row: read_content(medium, row)

    def _try(self, row: int, read: Callable[[int], str]) -> str:
        try:
            return read(row)
        except (OSError, Refused) as error:
            self.failed[row] = str(explain(error))
            return UNKNOWN


def _stamps(collection: Collection) -> npt.NDArray[np.int64]:
    """Return size and time of what holds each image, as numbers."""
    if not collection.is_array:
        return collection.stamps
    tag = int.from_bytes(hashlib.sha256(collection.source.encode()).digest()[:8], "little", signed=True)
    return np.tile(np.array([0, tag], np.int64), (len(collection), 1))
