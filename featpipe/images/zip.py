"""The members of a ``.zip``, from its directory alone, and their bytes, unpacked in memory as far as they are read."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO, cast

from featpipe.images.members import MOST_BYTES, Member, find_label, may_hold_label
from featpipe.images.ranges import Part, Ranges, Seekable, open_part
from featpipe.images.refusal import Refused

_MOST_MEMBERS = 1_500_000
"""zipfile takes half a kilobyte for each."""
_MOST_DIRECTORY = 256 * 2**20
_MOST_UNPACKED = 2**30
"""Of one deflated member, in bytes: it is unpacked in memory."""
_MOST_RATIO = 250
"""Of unpacked to packed bytes where a member is larger than ``_SMALL``; pixels of one colour reach 1000."""
_SMALL = 16 * 2**20
_ENTRY = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3I2H")
_PIECE = 256 * 2**10
_DAMAGED = "is damaged in the archive (its checksum differs)"


def list_zip(ranges: Ranges) -> Iterator[Member]:
    """Yield the members of a zip archive in its directory's order, also those that cannot be read.

    Raises
    ------
    Refused
        If it is no zip archive, its directory is damaged, or it exceeds a limit.
    """
    try:
        with zipfile.ZipFile(cast("BinaryIO", _Directory(ranges))) as archive:
            infos, end = archive.infolist(), archive.start_dir
    except (Refused, MemoryError):
        raise
    except Exception as error:  # zipfile raises what it likes on damaged directories
        raise Refused(f"is not a readable .zip ({str(error)[:200] or type(error).__name__})") from None
    ends = _ends(infos, end)
    for i, info in enumerate(infos):
        if info.is_dir():
            continue
        member = Member(
            info.filename, info.header_offset, info.file_size, info.compress_size,
            info.compress_type, info.CRC, _unfit(info, ends[i]),
        )  # fmt: skip
        if may_hold_label(member.name, member.size) and not member.why:
            with open_zipped(ranges, member.start, member.size, member.packed, member.method, member.crc) as file:
                member = member._replace(label=find_label(member.name, file.read()))
        yield member


def _ends(infos: list[zipfile.ZipInfo], end: int) -> list[int]:
    """Return where the next member, or the directory, begins after each member."""
    order = sorted(range(len(infos)), key=lambda i: infos[i].header_offset)
    ends = [end] * len(infos)
    for i, following in pairwise(order):
        ends[i] = min(infos[following].header_offset, end)
    return ends


def _unfit(info: zipfile.ZipInfo, end: int) -> str:
    """Return why a member cannot be read, or nothing."""
    if info.flag_bits & 0x41:
        return "is encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link, and links in archives are not followed"
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return f"is packed by method {info.compress_type}; stored and deflated members are read"
    stored = info.compress_type == zipfile.ZIP_STORED
    if stored and info.file_size != info.compress_size:
        return f"is stored, but is said to have {info.compress_size:,} bytes and {info.file_size:,} unpacked"
    if info.header_offset < 0 or info.header_offset + _LOCAL.size + info.compress_size > end:
        return "overlaps what follows it in the archive"
    most = MOST_BYTES if stored else _MOST_UNPACKED
    if info.file_size > most:
        return f"has {info.file_size:,} bytes, more than {most:,}"
    if info.file_size > max(_SMALL, _MOST_RATIO * info.compress_size):
        return f"unpacks {info.compress_size:,} bytes to {info.file_size:,}, more than {_MOST_RATIO} for one"
    return ""


def open_zipped(
    ranges: Ranges, start: int, size: int, packed: int, method: int, crc: int, *, head: bool = False
) -> BinaryIO:
    """Open a member as a seekable file; numbers are those of its ``Member``.

    Raises
    ------
    Refused
        If the header before its bytes is not what the directory says. Reading it raises the same if it unpacks to more
        bytes, or to others.
    """
    header = ranges.read_at(start, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise Refused("is not where the archive's directory says")
    *_, name, extra = _LOCAL.unpack(header)
    begin = start + _LOCAL.size + name + extra
    if begin + packed > ranges.mark.size:
        raise Refused("is cut off where the archive ends")
    if method == zipfile.ZIP_STORED:
        file = open_part(ranges, begin, size, head=head)
        if isinstance(file, io.BytesIO) and zlib.crc32(file.getbuffer()) != crc:
            raise Refused(_DAMAGED)
        return file
    unpacked = _Unpacked(open_part(ranges, begin, packed, head=head), size, crc)
    return cast("BinaryIO", io.BufferedReader(unpacked, _PIECE if not head else io.DEFAULT_BUFFER_SIZE))


class _Directory(Part):
    """The archive, of which zipfile may read only so much at once, whatever the archive asks for."""

    def __init__(self, ranges: Ranges) -> None:
        super().__init__(ranges, 0, ranges.mark.size)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._length - self.tell(), 0)
        if (left if size is None or size < 0 else min(size, left)) > _MOST_DIRECTORY:
            raise Refused(f"has a directory of more than {_MOST_DIRECTORY:,} bytes. Make several of it")
        found = super().read(size)
        if found.count(_ENTRY) > _MOST_MEMBERS:
            raise Refused(f"holds more than {_MOST_MEMBERS:,} members. Make several of it, or a .tar")
        return found


class _Unpacked(Seekable):
    """A deflated member; what has been read of it is kept, and it is checked when it is read to its end."""

    def __init__(self, packed: BinaryIO, size: int, crc: int) -> None:
        super().__init__(size)
        self._packed, self._size, self._crc = packed, size, crc
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._known = bytearray()

    def readinto(self, buffer: Any, /) -> int:
        stop = min(self._at + len(buffer), self._size)
        while len(self._known) < stop:
            self._unpack()
        found = self._known[self._at : stop]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _unpack(self) -> None:
        """Unpack a piece more; never more bytes than the directory tells, and those it tells."""
        waiting = self._inflate.unconsumed_tail or self._packed.read(_PIECE)
        try:
            more = self._inflate.decompress(waiting, min(_PIECE, self._size + 1 - len(self._known)))
        except zlib.error as error:
            raise Refused(f"is damaged in the archive ({error})") from None
        self._known += more
        if len(self._known) > self._size:
            raise Refused(f"unpacks to more than the {self._size:,} bytes that the archive tells")
        ended = self._inflate.eof or (not more and not waiting)
        if ended and len(self._known) < self._size:
            raise Refused(f"unpacks to {len(self._known):,} bytes, not the {self._size:,} that the archive tells")
        if len(self._known) == self._size and zlib.crc32(self._known) != self._crc:
            raise Refused(_DAMAGED)
