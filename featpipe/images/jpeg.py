"""JPEG files: their markers, and their pixels by libjpeg-turbo."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from featpipe.images.header import Decoded, Header, exif_orientation
from featpipe.images.refusal import Refused

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_SCAN, _END, _EXIF, _ADOBE = 0xDA, 0xD9, 0xE1, 0xEE


def read_header(file: BinaryIO) -> Header:
    """Read the markers up to the first scan (ITU-T T.81, annex B)."""
    return _walk(file)[0]


def _walk(file: BinaryIO) -> tuple[Header, bool]:
    """Return the header, and whether an Adobe marker says that CMYK is stored inverted; stop at the first scan."""
    file.seek(2)
    frame, orientation, adobe = b"", 1, False
    while (marker := _next_marker(file)) != _SCAN:
        length = int.from_bytes(file.read(2), "big") - 2
        if marker == _END or length < 0:
            raise Refused("not a readable JPEG (truncated)")
        if marker in _FRAMES and not frame:
            frame = file.read(length)
        elif marker == _EXIF and orientation == 1:
            payload = file.read(length)
            orientation = exif_orientation(payload) if payload.startswith(b"Exif\0\0") else 1
        elif marker == _ADOBE:
            adobe = file.read(length).startswith(b"Adobe")
        else:
            file.seek(length, 1)
    if len(frame) < 6:
        raise Refused("not a readable JPEG (no frame header)")
    bits, components = frame[0], frame[5]
    if bits != 8 or components not in {1, 3, 4}:
        raise Refused(f"is a JPEG of {bits} bits and {components} components; 8 bits and 1, 3 or 4 are read")
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    channels = 1 if components == 1 else 3
    return Header("JPEG", height, width, channels, components, "uint8", orientation=orientation), adobe


def _next_marker(file: BinaryIO) -> int:
    while byte := file.read(1):
        if byte == b"\xff":
            while byte == b"\xff":
                byte = file.read(1)
            if byte and byte[0] not in _ALONE:
                return byte[0]
    raise Refused("not a readable JPEG (truncated)")


def decode(file: BinaryIO) -> Decoded:
    """Decode to 8-bit gray or RGB.

    libjpeg fills what a cut file lacks with gray, so the end-of-image marker must be there. (Within scans, a 0xFF of
    the data is followed by a zero, so that the marker cannot be mistaken.)
    """
    import imagecodecs

    header, inverted = _walk(file)
    scan = file.tell()
    file.seek(0)
    data = file.read()
    if data.find(b"\xff\xd9", scan) < 0:
        raise Refused("not a readable JPEG (truncated)")
    samples = imagecodecs.jpeg8_decode(data)
    if header.stored == 4:
        samples = cmyk_to_rgb(255 - samples if inverted else samples)
    return Decoded(samples.reshape(header.height, header.width, header.channels), 255.0)


def cmyk_to_rgb(samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert (y, x, 4) 8-bit ink to (y, x, 3) RGB as Pillow does, without a colour profile."""
    from PIL import Image

    height, width = samples.shape[:2]
    image = Image.frombytes("CMYK", (width, height), np.ascontiguousarray(samples).tobytes())
    return np.asarray(image.convert("RGB"))
