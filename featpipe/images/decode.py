"""One image file to pixels: which decoder reads it, and which way up it is.

Decoders were chosen for what they keep and tell: libjpeg-turbo through simplejpeg (which raises what others leave as
libjpeg's warnings: damaged data, made up), libpng through imagecodecs (Pillow and imageio make 16-bit colour PNGs 8-bit
without a word, and take 3 to 10 times as long for small JPEGs), tifffile for scientific TIFFs, and Pillow's own plugins
for BMP and WebP. A file's first bytes choose, so that nothing else is ever tried on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import numpy as np

from featpipe.images.header import Decoded, Format, Header, Opened, sniff
from featpipe.images.jpeg import open_jpeg
from featpipe.images.pillow import open_bmp, open_webp
from featpipe.images.png import open_png
from featpipe.images.ranges import open_file
from featpipe.images.refusal import Refused, Unavailable, explain
from featpipe.images.region import Spans, part_spans, region_shape
from featpipe.images.tiff import open_tiff
from featpipe.reading.retry import failures, is_transient
from featpipe.spec.pipeline import Images

T = TypeVar("T")
MOST_PARTS = 1000
"""How many times ``max_pixels`` a file may hold that is read by parts."""

for _name in ("imagecodecs", "tifffile"):
    # What matters of a file's flaws is raised; the rest would go to stderr, for want of a handler
    logging.getLogger(_name).addHandler(logging.NullHandler())


DECODERS = {"JPEG": "simplejpeg", "PNG": "imagecodecs", "TIFF": "tifffile", "BMP": "Pillow", "WebP": "Pillow"}
"""Who reads what, told with what they could not read."""
_CODECS: dict[Format, Callable[[BinaryIO], Opened]] = {
    "JPEG": open_jpeg,
    "PNG": open_png,
    "TIFF": open_tiff,
    "BMP": open_bmp,
    "WebP": open_webp,
}
Opener = Callable[[], BinaryIO]
"""Opens the bytes of an image, wherever they are."""


def read_header(path: str | Opener, images: Images) -> Header:
    """Return what the head of an image file tells of the pixels that ``decode`` will give, or raise ``Refused``."""
    return _visit(path, images, lambda opened: opened.header)


def decode(path: str | Opener, images: Images, part: Spans | None = None) -> Decoded:
    """Decode the region of one image that ``images`` asks for, or a part of it, or raise ``Refused``.

    It is turned as ``images.orientation`` says. With ``color: gray`` and ``luma: stored``, only the luma is decoded of
    files that store it.

    Parameters
    ----------
    path : str or Opener
        Of a file, or what opens the bytes.
    images : Images
    part : (Span, Span), optional
        Rows and columns of the region; where the file can only be decoded whole, the rest is thrown away.
    """

    def pixels(opened: Opened) -> Decoded:
        header = opened.header
        shape = header.shape(images.orientation)
        wanted = part_spans(images, shape, part)
        whole = (wanted[0].length, wanted[1].length) == shape
        if not whole and opened.decode_part is not None and header.by_parts(images.orientation):
            return opened.decode_part(wanted)
        decoded = opened.decode()
        upright = turn(decoded, header.orientation) if images.orientation == "apply" else decoded
        return upright if whole else _cut(upright, wanted)

    return _visit(path, images, pixels)


def _cut(decoded: Decoded, part: Spans) -> Decoded:
    rows, columns = slice(*part[0]), slice(*part[1])
    alpha = None if decoded.alpha is None else decoded.alpha[rows, columns]
    return decoded._replace(samples=decoded.samples[rows, columns], alpha=alpha)


def _visit(path: str | Opener, images: Images, use: Callable[[Opened], T]) -> T:
    """Open a file, check its header, and hand it to ``use``; whatever goes wrong becomes ``Refused``."""
    found: Format | None = None
    given_up = failures()
    try:
        with open_file(path) if isinstance(path, str) else path() as file:
            head = file.read(12)
            found = sniff(head)
            if found is None:
                raise Refused("not a JPEG, PNG, TIFF, BMP or WebP image" if head else "is empty (0 bytes)")
            opened = _CODECS[found](file)
            _check_size(opened.header, images)
            result = use(_with_luma(opened) if images.color == "gray" and images.luma == "stored" else opened)
    except (MemoryError, Unavailable):
        raise
    except Exception as error:  # decoders raise what they like on damaged files
        _check_reached(given_up, error)
        raise explain(error, found or "image", DECODERS.get(found or "", "")) from error
    _check_reached(given_up, None)
    return result


def _check_reached(given_up: int, error: Exception | None) -> None:
    """Refuse what was made although a read failed: some decoders swallow errors, or call them damage."""
    if failures() > given_up and not (error is not None and is_transient(error)):
        raise Unavailable("could not be reached (a read failed while it was decoded)") from error


def _with_luma(opened: Opened) -> Opened:
    """Return the file as one of gray, where it stores that beside its colours."""
    if opened.decode_luma is None:
        return opened
    return Opened(opened.header._replace(channels=1, stored=1), opened.decode_luma)


def _check_size(header: Header, images: Images) -> None:
    """Refuse what is too large to be decoded at once: the image, or of one read by parts, a tile or the region."""
    height, width = header.height, header.width
    if height < 1 or width < 1:
        raise Refused(f"has no pixels ({height}×{width})")
    _check_area("a tile of ", header.tile or (1, 1), 1, images.max_pixels)
    if not header.by_parts(images.orientation) or (images.size is not None and images.region is None):
        refuse_many_pixels(header, images)
        return
    _check_area("", (height, width), MOST_PARTS, images.max_pixels)
    if images.region is not None and images.size is not None:
        _check_area("a region of ", region_shape(images, header.shape(images.orientation)), 1, images.max_pixels)


def refuse_many_pixels(header: Header, images: Images) -> None:
    """Raise ``Refused`` if an image is too large to be decoded whole."""
    _check_area("", (header.height, header.width), 1, images.max_pixels)


def _check_area(what: str, shape: tuple[int, int], times: int, max_pixels: int) -> None:
    area = shape[0] * shape[1]
    if area > times * max_pixels:
        limit = f"{f'{times:,} × ' if times > 1 else ''}images.max_pixels = {max_pixels:,}"
        raise Refused(f"has {what}{shape[0]}×{shape[1]} = {area:,} pixels, more than {limit}")


def turn(decoded: Decoded, orientation: int) -> Decoded:
    """Turn pixels upright as EXIF orientation 1 to 8 says (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return decoded
    alpha = None if decoded.alpha is None else _turn(decoded.alpha, orientation)
    return decoded._replace(samples=_turn(decoded.samples, orientation), alpha=alpha)


def _turn(pixels: Any, orientation: int) -> Any:
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    flip_y, flip_x = orientation in {3, 4, 7, 8}, orientation in {2, 3, 6, 7}
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def decoding_bytes(header: Header, file_bytes: int) -> int:
    """Return a bound of the memory that decoding takes, the decoded pixels and the file's own bytes included."""
    pixel = header.scratch + header.stored * np.dtype(header.dtype).itemsize
    if header.stored - header.alpha > header.channels:
        pixel += 20  # CMYK, through Pillow
    return file_bytes + header.height * header.width * pixel
