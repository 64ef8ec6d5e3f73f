"""The members of a ``.tar``, from its headers alone: nothing is unpacked, no link is followed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

from featpipe.images.members import MOST_BYTES, MOST_MEMBERS, Member, find_label, may_hold_label
from featpipe.images.ranges import Part, Ranges
from featpipe.images.refusal import Refused

_LONGEST_HEADER = 2**20
"""Of one member, with all its extensions, in bytes; real ones have a few thousand."""
_MOST_READS = 200
"""Of one member's header; tarfile goes one level deeper for each extension."""


def list_tar(ranges: Ranges) -> Iterator[Member]:
    """Yield the members of a tar archive in their order, also those that cannot be read, but no directories.

    Raises
    ------
    Refused
        If it is no tar archive, is damaged between members, or exceeds a limit.
    """
    try:
        yield from _list(ranges)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # tarfile raises what it likes on damaged headers
        raise Refused(f"is not a readable .tar ({str(error)[:200] or type(error).__name__})") from None


def _list(ranges: Ranges) -> Iterator[Member]:
    whole = ranges.mark.size
    file = _Headers(io.BufferedReader(Part(ranges, 0, whole), ranges.ahead))
    archive = tarfile.open(fileobj=file, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115 - holds nothing
    last, count = -1, 0
    while (info := archive.next()) is not None:
        archive.members = []  # it would keep them all
        file.left, file.reads = _LONGEST_HEADER, _MOST_READS
        count += 1
        if info.offset <= last:
            raise Refused(f"is not a readable .tar (its headers lead back at byte {info.offset:,})")
        if count > MOST_MEMBERS:
            raise Refused(f"holds more than {MOST_MEMBERS:,} members. Make several of it")
        last = info.offset
        if not info.isdir():
            yield _member(info, whole, file)
        if archive.offset >= whole:  # its end is missing, and the last member's perhaps
            return
    file.seek(archive.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        what = f"is not a readable .tar (damaged at byte {archive.offset:,}, after {count:,} members)"
        raise Refused(what)


def _member(info: tarfile.TarInfo, whole: int, file: _Headers) -> Member:
    why = ""
    if info.issym() or info.islnk():
        why = "is a link, and links in archives are not followed"
    elif not info.isreg():
        why = "is not a regular file"
    elif info.issparse():
        why = "is a sparse member, which is not read"
    elif info.size > MOST_BYTES:
        why = f"has {info.size:,} bytes, more than {MOST_BYTES:,}"
    elif info.size < 0 or info.offset_data + info.size > whole:
        why = f"is cut off where the archive ends, at byte {whole:,}"
    label = ""
    if may_hold_label(info.name, info.size) and not why:
        file.seek(info.offset_data)
        label = find_label(info.name, file.read(info.size))
    return Member(info.name, info.offset_data, info.size, info.size, why=why, label=label)


class _Headers:
    """A file of which tarfile may read only so much a member, whatever the member's header asks for."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file: Any = file
        self.left, self.reads = _LONGEST_HEADER, _MOST_READS
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int) -> bytes:
        self.reads -= 1
        if not 0 <= size <= self.left or self.reads < 0:
            raise Refused(
                f"is not a readable .tar (a header of more than {_LONGEST_HEADER:,} bytes or of too many parts)"
            )
        self.left -= size
        found: bytes = self.file.read(size)
        return found
