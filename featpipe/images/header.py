"""What the head of an image file tells without its pixels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import Span

Format = Literal["JPEG", "PNG", "TIFF", "BMP", "WebP"]
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".svs", ".bmp", ".webp"})
"""Of the files that make up a directory's collection, in lower case."""
ORIENTATION = 0x0112
"""The EXIF and TIFF tag."""


class Header(NamedTuple):
    """Facts of one image file; the size is the stored one, before orientation."""

    format: Format
    height: int
    width: int
    channels: int
    """After palette and CMYK became RGB, and without alpha."""
    stored: int
    """Samples per pixel as they come from the decoder."""
    dtype: str
    scratch: int
    """Most bytes per pixel that the decoder holds beside the pixels it returns."""
    full: float = 255.0
    """The value of white."""
    alpha: bool = False
    orientation: int = 1
    tile: tuple[int, int] | None = None
    """Height and width of what is decoded at once, in pixels; None for the whole image."""
    parts: bool = False
    """Whether it pays to read a part alone."""
    part_bytes: int = 0
    """Most memory that reading any part takes beside its pixels."""

    def shape(self, orientation: str) -> tuple[int, int]:
        """Return height and width in pixels, turned where ``orientation`` is ``apply``."""
        turned = orientation == "apply" and self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)

    def by_parts(self, orientation: str) -> bool:
        """Return whether a part of the upright image can be read without the rest of the file."""
        return self.parts and (orientation == "ignore" or self.orientation == 1)


class Decoded(NamedTuple):
    """Pixels in the file's own numbers."""

    samples: npt.NDArray[np.generic]
    """(y, x, c), colour only."""
    full: float
    """The value of white: the largest of an integer type, 1 for bool and floats."""
    alpha: npt.NDArray[np.generic] | None = None
    """(y, x) opacity."""
    opaque: float = 1.0
    """The value of full opacity."""
    premultiplied: bool = False
    """Whether the colours were multiplied by the opacity already."""


class Opened(NamedTuple):
    """A file whose header has been read; it must stay open while its pixels are decoded."""

    header: Header
    decode: Callable[[], Decoded]
    decode_luma: Callable[[], Decoded] | None = None
    """Decode gray alone, where the file stores it beside the colours."""
    decode_part: Callable[[tuple[Span, Span]], Decoded] | None = None
    """Decode some rows and columns of the stored image alone."""


def white(dtype: np.dtype[Any]) -> float:
    """Return the largest value of an integer type, 1 for bool and floats."""
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def sniff(head: bytes) -> Format | None:
    """Tell the format from a file's first 12 bytes; only these formats are ever decoded."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return None


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that an EXIF block gives; 1 when it gives none or is damaged.

    Read here because Pillow parses the whole block, and warns of every flaw in it.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), tiff, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
