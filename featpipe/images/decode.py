"""One image file to pixels: which decoder reads it, and which way up it is.

Decoders were chosen for what they keep: libjpeg-turbo and libpng through imagecodecs (Pillow and imageio make 16-bit
colour PNGs 8-bit without a word, and take 3 to 10 times as long for small JPEGs), tifffile for scientific TIFFs, and
Pillow's own plugins for BMP and WebP. A file's first bytes choose, so that nothing else is ever tried on it.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from featpipe.images import jpeg, pillow, png, tiff
from featpipe.images.header import Decoded, Format, Header, sniff
from featpipe.images.refusal import Refused, explain
from featpipe.spec.pipeline import Images

T = TypeVar("T")

for _name in ("imagecodecs", "tifffile"):
    # What matters of a file's flaws is raised; the rest would go to stderr, for want of a handler
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _Codec(NamedTuple):
    read_header: Callable[[BinaryIO], Header]
    decode: Callable[[BinaryIO], Decoded]
    scratch: int
    """Most bytes per pixel that the decoder holds beside the pixels it returns."""


_CODECS: dict[Format, _Codec] = {
    "JPEG": _Codec(jpeg.read_header, jpeg.decode, 8),  # a progressive one keeps its coefficients, 2 bytes each
    "PNG": _Codec(png.read_header, png.decode, 4),
    "TIFF": _Codec(tiff.read_header, tiff.decode, 0),
    "BMP": _Codec(pillow.read_bmp_header, pillow.decode_bmp, 12),
    "WebP": _Codec(pillow.read_webp_header, pillow.decode_webp, 24),
}


def read_header(path: Path | str, max_pixels: int) -> Header:
    """Return what the head of an image file tells, or raise ``Refused``."""
    return _visit(path, max_pixels, lambda _, header, __: header)


def decode(path: Path | str, images: Images) -> Decoded:
    """Decode one image file, turned as ``images.orientation`` says, or raise ``Refused``."""

    def pixels(codec: _Codec, header: Header, file: BinaryIO) -> Decoded:
        decoded = codec.decode(file)
        return turn(decoded, header.orientation) if images.orientation == "apply" else decoded

    return _visit(path, images.max_pixels, pixels)


def _visit(path: Path | str, max_pixels: int, use: Callable[[_Codec, Header, BinaryIO], T]) -> T:
    """Open a file, check its header, and hand it to ``use``; whatever goes wrong becomes ``Refused``."""
    found: Format | None = None
    try:
        path = Path(path)
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused("is a directory" if path.is_dir() else "is not a regular file")
        with path.open("rb") as file:
            head = file.read(12)
            found = sniff(head)
            if found is None:
                raise Refused("not a JPEG, PNG, TIFF, BMP or WebP image" if head else "is empty (0 bytes)")
            header = _CODECS[found].read_header(file)
            _check_size(header, max_pixels)
            return use(_CODECS[found], header, file)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged files
        raise explain(error, found or "image") from error


def _check_size(header: Header, max_pixels: int) -> None:
    height, width = header.height, header.width
    if height < 1 or width < 1:
        raise Refused(f"has no pixels ({height}×{width})")
    if height * width > max_pixels:
        raise Refused(f"has {height}×{width} = {height * width:,} pixels, more than images.max_pixels = {max_pixels:,}")


def turn(decoded: Decoded, orientation: int) -> Decoded:
    """Turn pixels upright as EXIF orientation 1 to 8 says (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return decoded
    alpha = None if decoded.alpha is None else _turn(decoded.alpha, orientation)
    return replace(decoded, samples=_turn(decoded.samples, orientation), alpha=alpha)


def _turn(pixels: Any, orientation: int) -> Any:
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    flip_y, flip_x = orientation in {3, 4, 7, 8}, orientation in {2, 3, 6, 7}
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def decoding_bytes(header: Header, file_bytes: int) -> int:
    """Return a bound of the memory that decoding takes, the decoded pixels and the file's own bytes included."""
    sample = header.stored * np.dtype(header.dtype).itemsize
    # TIFF: a strip as large as the image, undone differences, and a copy without alpha
    pixel = _CODECS[header.format].scratch + sample * (4 if header.format == "TIFF" else 1)
    if header.stored - header.alpha > header.channels:
        pixel += 20  # CMYK, through Pillow
    return file_bytes + header.height * header.width * pixel
