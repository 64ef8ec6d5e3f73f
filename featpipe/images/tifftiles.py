"""Parts of a TIFF page: the tiles or strips that a part meets are read and decoded, one after another.

::

    ┌────┬────┬────┐
    │    │ ░░░│░   │      a part meets 4 of 6 tiles
    ├────┼────┼────┤
    │    │ ░░░│░   │
    └────┴────┴────┘
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import ceil_div
from featpipe.images.refusal import Refused
from featpipe.images.tiffcodecs import check_claim

Spans = tuple[Span, Span]

_JPEG = {6, 7, 33007, 34892}
_ENTRY_BYTES = 120
"""What offset and byte count of one tile take, as Python's numbers."""
_COPIES = 4
"""Of one tile while it is decoded: inflated, unpacked, in native byte order, differences undone."""


_FEWEST = 16
"""Tiles of which parts are read one by one."""


class Tiling(NamedTuple):
    """How a page is cut into tiles; strips are tiles as wide as the image."""

    rows: int
    """Of one tile, in pixels."""
    columns: int
    down: int
    """Tiles along y."""
    across: int
    planes: int
    """1, or one for each sample where these lie apart."""

    @property
    def total(self) -> int:
        return self.down * self.across * self.planes


def tiling(page: Any) -> Tiling:
    """Return how a page is cut; raise ``Refused`` where that is impossible."""
    names = ["imagelength", "imagewidth", "samplesperpixel"]
    names += ["tilelength", "tilewidth"] if page.is_tiled else ["rowsperstrip"]
    sizes = {name: getattr(page, name) for name in names}
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise Refused(f"not a readable TIFF ({name} is {size})")
    height, width = page.imagelength, page.imagewidth
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    return Tiling(rows, columns, ceil_div(height, rows), ceil_div(width, columns), planes)


def is_plain(page: Any) -> bool:
    """Tell whether a page's pixels lie in the file one after another, as they are."""
    written = bool(page.dataoffsets and page.dataoffsets[0] > 0 and page.databytecounts[0] > 0)
    native = page.predictor == 1 and page.fillorder == 1 and not page.is_subsampled
    return bool(written and native and page.is_contiguous)


def unit(page: Any) -> tuple[int, int]:
    """Return height and width of what is decoded at once, in pixels."""
    return (1, 1) if is_plain(page) else tiling(page)[:2]


def reads_whole(page: Any) -> bool:
    """Tell whether tifffile must read a page whole: its tiles are not what the tags say."""
    return bool(page.jpegheader is not None or page.is_stk or page.is_lsm)


def has_parts(page: Any) -> bool:
    """Tell whether it pays to read parts of a page.

    It does not where there are few tiles, or one strip: every part would decode them again.
    """
    rows, columns = unit(page)
    return not reads_whole(page) and bool(_FEWEST * rows * columns <= page.imagelength * page.imagewidth)


def part_bytes(page: Any) -> int:
    """Bound the memory that reading any part takes beside its pixels, in bytes: the table of tiles, and one tile."""
    table = _ENTRY_BYTES * len(page.dataoffsets)
    if is_plain(page):
        return table
    cut = tiling(page)
    samples = page.samplesperpixel // cut.planes
    tile = cut.rows * cut.columns * samples * int(page.dtype.itemsize)
    longest = min(max(page.databytecounts, default=0), page.parent.filehandle.size)
    return int(table + longest + _COPIES * tile)


def check_tiles(page: Any) -> None:
    """Refuse a page of fewer tiles or pixels than it must have; tifffile takes tiles that are not listed for empty."""
    needed = tiling(page).total
    if is_plain(page):
        ends = [page.dataoffsets[0] + page.nbytes, page.dataoffsets[-1] + page.databytecounts[-1]]
        if max(ends) > page.parent.filehandle.size:
            raise Refused("not a readable TIFF (truncated)")
        return
    listed = min(len(page.dataoffsets), len(page.databytecounts))
    if listed < needed:
        name = "tiles" if page.is_tiled else "strips"
        raise Refused(f"not a readable TIFF (it lists {listed:,} of {needed:,} {name})")


def read_part(page: Any, y: Span, x: Span) -> npt.NDArray[Any]:
    """Read rows ``y`` and columns ``x`` of a page, (y, x, samples), in the file's own numbers."""
    return _read_rows(page, y, x) if is_plain(page) else _read_tiles(page, y, x)


def _read_rows(page: Any, y: Span, x: Span) -> npt.NDArray[Any]:
    """Read pixels that lie one after another."""
    file = page.parent.filehandle
    planes, _, height, width, samples = page.shaped
    dtype = page.dtype.newbyteorder(page.parent.byteorder)
    pixel = samples * dtype.itemsize
    out = np.empty((y.length, x.length, planes, samples), page.dtype)
    rows, wide = (y.length, width) if x.length == width else (1, x.length)
    for plane in range(planes):
        for row in range(y.start, y.stop, rows):
            file.seek(page.dataoffsets[0] + ((plane * height + row) * width + x.start) * pixel)
            data = file.read(rows * wide * pixel)
            if len(data) < rows * wide * pixel:
                raise Refused("not a readable TIFF (truncated)")
            at = row - y.start
            out[at : at + rows, :, plane] = np.frombuffer(data, dtype).reshape(rows, wide, samples)
    return out.reshape(y.length, x.length, planes * samples)


def _read_tiles(page: Any, y: Span, x: Span) -> npt.NDArray[Any]:
    """Decode the tiles that a part meets, in the order in which they lie in the file."""
    cut = tiling(page)
    samples = page.samplesperpixel // cut.planes
    out = np.empty((y.length, x.length, page.samplesperpixel), page.dtype)
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG else {}
    for index in sorted(_met(cut, y, x), key=lambda index: page.dataoffsets[index]):
        data = _encoded(page, index)
        if data is not None:
            check_claim(page, data, cut.rows, cut.columns)
        tile, (plane, _, top, left, _), _ = page.decode(data, index, **tables)
        rows, columns = _common(y, top, cut.rows), _common(x, left, cut.columns)
        part = out[
            rows.start - y.start : rows.stop - y.start,
            columns.start - x.start : columns.stop - x.start,
            plane * samples : (plane + 1) * samples,
        ]
        if tile is None:  # never written: a sparse file
            part[...] = page.nodata
        else:
            part[...] = tile[0, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return out


def _met(cut: Tiling, y: Span, x: Span) -> Iterator[int]:
    """Yield the index of every tile that a part meets."""
    for plane in range(cut.planes):
        for row in range(y.start // cut.rows, ceil_div(y.stop, cut.rows)):
            for column in range(x.start // cut.columns, ceil_div(x.stop, cut.columns)):
                yield (plane * cut.down + row) * cut.across + column


def _common(span: Span, start: int, length: int) -> Span:
    return Span(max(span.start, start), min(span.stop, start + length))


def _encoded(page: Any, index: int) -> bytes | None:
    """Return a tile as it is stored, or None if it is not."""
    offset, length = page.dataoffsets[index], page.databytecounts[index]
    if offset <= 0 or length <= 0:
        return None
    file = page.parent.filehandle
    # libjpeg would fill what a cut tile lacks
    if offset + length > file.size:
        raise Refused("not a readable TIFF (truncated)")
    file.seek(offset)
    return bytes(file.read(length))
