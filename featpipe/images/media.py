"""Where the bytes of an image come from: a file, an object, a member of an archive, a row of a table."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, Literal, Protocol

from featpipe.images.decode import Opener
from featpipe.images.ranges import (
    AT_ONCE,
    Mark,
    ObjectRanges,
    Ranges,
    find_ranges,
    get_bytes,
    object_refusal,
    open_file,
    open_images,
    open_part,
)
from featpipe.images.refusal import Refused
from featpipe.images.tables import Table, open_table
from featpipe.images.zip import open_zipped
from featpipe.objects import is_url, parse_url
from featpipe.plan.collection import Places

MediumKind = Literal["files", "objects", "tar", "zip", "parquet"]


class Located(Protocol):
    """What tells where the bytes are: a `Collection`, or a `Listing` of one."""

    @property
    def kind(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def paths(self) -> Sequence[str]: ...
    @property
    def odd_names(self) -> Mapping[int, str]: ...
    @property
    def places(self) -> Places | None: ...


class Medium(Protocol):
    """Opens the bytes of images by their row in a collection; for many threads at once."""

    def open(self, row: int, *, head: bool = False) -> BinaryIO:
        """Open one image as a seekable file; raises ``Refused`` or ``OSError``.

        Reading it is repeated where it fails for a moment, and gives all the bytes there are. What fails even so raises
        ``Unavailable``, or ``OSError``, from whatever reads it.

        With ``head``, little will be read of it, from the beginning.
        """
        ...


def opener(medium: Medium, row: int, *, head: bool = False) -> Opener:
    """Return what opens one image."""
    return partial(medium.open, row, head=head)


def open_medium(located: Located) -> Medium:
    """Return what opens the images of a collection. No file is opened yet."""
    match located.kind:
        case "objects":
            return _Objects(located)
        case "tar" | "zip":
            return _Members(located)
        case "parquet":
            return _Rows(located)
    return _Files(located)


def names_of(located: Located, row: int) -> str:
    """Return an image's name as the file system knows it."""
    return located.odd_names.get(row) or located.paths[row]


@dataclass(frozen=True, eq=False)
class _Files:
    located: Located

    def open(self, row: int, *, head: bool = False) -> BinaryIO:  # noqa: ARG002
        return open_file(f"{self.located.root}/{names_of(self.located, row)}")


class _Objects:
    """Objects that are images; their sizes are the places' numbers."""

    def __init__(self, located: Located) -> None:
        self._located = located
        self._scheme = parse_url(located.root).scheme
        self._store = open_images(located.root)

    def open(self, row: int, *, head: bool = False) -> BinaryIO:
        name = self._located.paths[row]
        size = _numbers(self._located, row)[0]
        if size > AT_ONCE or head:
            return open_part(ObjectRanges(self._store, self._scheme, name, Mark(size, "")), 0, size, head=head)
        try:
            return io.BytesIO(get_bytes(self._store, name, size))
        except Exception as error:  # obstore's errors and OSError
            raise object_refusal(error, self._scheme) from None


@dataclass(eq=False)
class _Holders:
    """The archives or tables of a collection, opened on first use."""

    located: Located
    opened: dict[int, Ranges] = field(default_factory=dict)
    store: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ranges(self, index: int) -> Ranges:
        with self.lock:
            if index not in self.opened:
                self.opened[index] = self._find(index)
            return self.opened[index]

    def _find(self, index: int) -> Ranges:
        assert self.located.places is not None
        holder = self.located.places.holders[index]
        if self.store is None and is_url(self.located.root):
            self.store = open_images(self.located.root)
        found = find_ranges(self.located.root, holder.name, self.store)
        if found.mark != (holder.size, holder.tag):
            raise Refused(f"cannot be read: {holder.name} has changed since it was scanned")
        return found


class _Members:
    """Members of archives; the numbers are archive, start, size, packed size, method, checksum."""

    def __init__(self, located: Located) -> None:
        self._located = located
        self._holders = _Holders(located)

    def open(self, row: int, *, head: bool = False) -> BinaryIO:
        holder, start, *numbers = _numbers(self._located, row)
        ranges = self._holders.ranges(holder)
        if self._located.kind == "tar":
            return open_part(ranges, start, numbers[0], head=head)
        size, packed, method, crc = numbers
        return open_zipped(ranges, start, size, packed, method, crc, head=head)


class _Rows:
    """Rows of tables; the numbers are file, row group, row in it. A thread keeps its place in its last row group."""

    def __init__(self, located: Located) -> None:
        self._located = located
        self._holders = _Holders(located)
        self._kept = threading.local()

    def open(self, row: int, *, head: bool = False) -> BinaryIO:  # noqa: ARG002
        holder, group, at = _numbers(self._located, row)
        if getattr(self._kept, "place", None) != (holder, group):
            self._kept.place = self._kept.rows = None  # lets the old ones go before the new come
            self._kept.rows = self._table(holder).read_images(group)
            self._kept.place = (holder, group)
        content = self._kept.rows.read(at)
        if content is None:
            raise Refused("has no bytes in the table")
        return io.BytesIO(content)

    def _table(self, holder: int) -> Table:
        """Return a table, opened by this thread."""
        if getattr(self._kept, "holder", None) != holder:
            assert self._located.places is not None
            self._kept.table = open_table(self._holders.ranges(holder), self._located.places.column)
            self._kept.holder = holder
        table: Table = self._kept.table
        return table


def _numbers(located: Located, row: int) -> list[int]:
    assert located.places is not None
    numbers: list[int] = located.places.numbers[row].tolist()
    return numbers
