"""What the images that a TIFF's tiles may hold say of their own size, before a codec believes them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

from featpipe.images.jpeg import frame_shape
from featpipe.images.refusal import Refused

Shape = tuple[int, int]

_SIZ = b"\xff\x4f\xff\x51"
_JPEG, _PNG, _JPEG2000, _WEBP = (6, 7, 33007, 34892), (34933,), (33003, 33004, 33005, 34712), (34927, 50001)


def check_claim(page: Any, data: bytes, rows: int, columns: int) -> None:
    """Refuse a tile whose own header says that it is larger than a tile; its codec would make room for all of it.

    Parameters
    ----------
    page : tifffile.TiffPage
    data : bytes
        The tile, encoded.
    rows, columns : int
        Of a tile, in pixels.
    """
    look = _LOOKS.get(int(page.compression))
    if look is None:
        return
    height, width = look(data)
    if height * width > 4 * rows * columns:  # some encoders round up
        raise Refused(f"not a readable TIFF (a tile of {rows}×{columns} pixels holds one of {height}×{width})")


def _jpeg(data: bytes) -> Shape:
    return frame_shape(io.BytesIO(data))


def _png(data: bytes) -> Shape:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg2000(data: bytes) -> Shape:
    """Read the SIZ marker (ITU-T T.800, A.5.1): the reference grid."""
    at = data.find(_SIZ)
    if at < 0:
        raise Refused("not a readable TIFF (a tile is no JPEG 2000 image)")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    return bottom - top, right - left


def _webp(data: bytes) -> Shape:
    """Read the first chunk (RFC 9649): extended, lossless or lossy."""
    match data[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case _:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return height, width


_LOOKS: dict[int, Callable[[bytes], Shape]] = {
    code: look
    for codes, look in ((_JPEG, _jpeg), (_PNG, _png), (_JPEG2000, _jpeg2000), (_WEBP, _webp))
    for code in codes
}
