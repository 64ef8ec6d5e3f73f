"""The pages of a TIFF file, listed within limits before tifffile looks at any, and which of them make the image.

A file can claim pages without end, pages that follow each other in a circle, and tags of billions of numbers. What
is too much for this module never comes to tifffile, which would try to read it.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, NamedTuple

from featpipe.images.omexml import channel_pages
from featpipe.images.refusal import Refused

REDUCED, MASK = 1, 4
_MOST_PAGES = 4096
_MOST_NUMBERS = 2**21
"""In the tags of one page: offsets and byte counts of a million tiles."""
_MOST_IN_ALL = 2**24
_TAG_COST = 64
"""Numbers that take as long to read as a tag does."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT = {1, 2, 7}
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255


class Directory(NamedTuple):
    """One page as the chain of pages tells of it."""

    kind: int
    """Bits of NewSubfileType: a reduced image, one page of several, a mask."""
    numbers: int
    """In its tags."""

    @property
    def full(self) -> bool:
        """Whether it is an image of full size."""
        return not self.kind & (REDUCED | MASK)


class _Format(NamedTuple):
    """How classic TIFF and BigTIFF differ."""

    order: str
    entries: str
    tag: str
    offset: str
    start: int


def list_directories(file: BinaryIO) -> list[Directory]:
    """Follow the chain of pages (TIFF 6.0, section 2) without reading what their tags point to.

    Raises
    ------
    Refused
        If the chain does not end, or there are more pages or numbers than can be meant.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in {b"+\0", b"\0+"}
    form = _Format(order, order + "Q", order + "HHQ8s", order + "Q", 8) if big else _classic(order)
    found: list[Directory] = []
    seen: set[int] = set()
    spent = 0
    try:
        (at,) = struct.unpack_from(form.offset, head, form.start)
        while at:
            if at in seen:
                raise Refused("not a readable TIFF (its pages follow each other in a circle)")
            if len(found) == _MOST_PAGES:
                raise Refused(
                    f"has more than {_MOST_PAGES:,} pages; it may have one. Split it, or make it an .npy stack"
                )
            seen.add(at)
            directory, tags, at = _read_directory(file, at, form)
            spent += directory.numbers + _TAG_COST * tags
            if directory.numbers > _MOST_NUMBERS or spent > _MOST_IN_ALL:
                numbers = f"more than {_MOST_NUMBERS // 2:,} tiles or strips in a page"
                raise Refused(f"is a TIFF of {numbers}, or too many in all. Rewrite it with larger tiles")
            found.append(directory)
    except struct.error as error:  # what comes after a good page does not matter, as elsewhere
        if not found:
            raise Refused("not a readable TIFF (truncated)") from error
    return found


def _classic(order: str) -> _Format:
    return _Format(order, order + "H", order + "HHI4s", order + "I", 4)


def _read_directory(file: BinaryIO, at: int, form: _Format) -> tuple[Directory, int, int]:
    """Return a page, how many tags it has, and where the next one is."""
    file.seek(at)
    (tags,) = struct.unpack(form.entries, file.read(struct.calcsize(form.entries)))
    if tags > 4096:
        raise Refused(f"not a readable TIFF ({tags:,} tags in a page)")
    body = file.read(tags * struct.calcsize(form.tag))
    kind = older = numbers = 0
    for code, dtype, count, value in struct.iter_unpack(form.tag, body):
        numbers += 0 if dtype in _TEXT else count
        if count == 1 and code in {_NEW_SUBFILE_TYPE, _SUBFILE_TYPE}:
            number = int.from_bytes(value[: _SIZES.get(dtype, 1)], "little" if form.order == "<" else "big")
            kind, older = (number, older) if code == _NEW_SUBFILE_TYPE else (kind, number)
    if len(body) < tags * struct.calcsize(form.tag):
        raise struct.error("cut off")
    (after,) = struct.unpack(form.offset, file.read(struct.calcsize(form.offset)))
    return Directory(kind or {2: REDUCED, 3: 2}.get(older, 0), numbers), tags, after


def choose_pages(tiff: Any, directories: list[Directory]) -> list[int]:
    """Return the indices of the pages that make the one image: one, or one for each channel of an OME-TIFF.

    Smaller copies and masks beside it do not count, nor what a slide scanner puts beside its slide.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    directories : list of Directory
        Of the same file.
    """
    full = [index for index, directory in enumerate(directories) if directory.full]
    if not full:
        raise Refused("not a readable TIFF (no full-size page)")
    first = tiff.pages.first
    if first.is_ome:
        channels = channel_pages(first.description, len(full))
        if channels is not None:
            if not set(channels) <= set(full):
                raise Refused(f"not a readable OME-TIFF (it lists pages that are not among its {len(full)})")
            return channels
    if first.is_svs and full[0] == 0:  # its thumbnail, lower levels, label and macro image follow
        return [0]
    if len(full) > 1:
        raise Refused(f"has {len(directories)} pages; it may have one. Split it, or make it an .npy stack")
    frames = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if frames > 1:
        raise Refused(f"has {frames} frames; it may have one. Split it, or make it an .npy stack")
    return full
