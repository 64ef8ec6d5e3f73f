"""PNG files: their chunks, and their pixels by libpng at full depth."""

from __future__ import annotations

import struct
from functools import partial
from typing import BinaryIO

from featpipe.images.header import Decoded, Header, Opened, exif_orientation
from featpipe.images.refusal import Refused

_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
_HAS_ALPHA = {4, 6}


def open_png(file: BinaryIO) -> Opened:
    """Read the names of all chunks: EXIF may stand behind the pixels, and a cut file lacks its last chunk."""
    file.seek(8)
    head, orientation, alpha = b"", 1, False
    while True:
        start = file.read(8)
        if len(start) < 8:
            raise Refused("not a readable PNG (truncated)")
        length, name = struct.unpack(">I4s", start)
        if name == b"IEND":
            break
        data = file.read(length) if name in {b"IHDR", b"eXIf", b"acTL"} else b""
        if name == b"IHDR":
            head = data
        elif name == b"tRNS":
            alpha = True
        elif name == b"eXIf":
            orientation = exif_orientation(data)
        elif name == b"acTL" and data[:4] != b"\0\0\0\1":
            raise Refused(f"is an animation of {int.from_bytes(data[:4], 'big')} frames; it may have one")
        file.seek(length - len(data) + 4, 1)
    if len(head) != 13:
        raise Refused("not a readable PNG (no IHDR)")
    width, height, depth, colour = struct.unpack(">IIBB", head[:10])
    if colour not in _CHANNELS:
        raise Refused(f"not a readable PNG (colour type {colour})")
    channels = _CHANNELS[colour]
    stored = channels + (alpha or colour in _HAS_ALPHA)
    dtype = "uint16" if depth == 16 else "bool" if depth == 1 and colour == 0 else "uint8"
    full = {"uint16": 65535.0, "bool": 1.0}.get(dtype, 255.0)
    header = Header("PNG", height, width, channels, stored, dtype, 4, full, stored > channels, orientation)
    return Opened(header, partial(_decode, file, header))


def _decode(file: BinaryIO, header: Header) -> Decoded:
    """Decode to 1, 8 or 16 bits; palettes become RGB, 2 and 4 bits are spread over 8, transparency becomes alpha."""
    import imagecodecs

    file.seek(0)
    pixels = imagecodecs.png_decode(file.read()).reshape(header.height, header.width, header.stored)
    samples, alpha = pixels[..., : header.channels], None
    if header.alpha:
        alpha = pixels[..., header.channels]
    opaque = 65535.0 if header.dtype == "uint16" else 255.0
    if header.dtype == "bool":
        samples = samples != 0
    return Decoded(samples, header.full, alpha, opaque)
