"""JPEG files: their markers, and their pixels by libjpeg-turbo."""

from __future__ import annotations

import re
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.images.header import Decoded, Header, Opened, exif_orientation
from featpipe.images.refusal import Refused

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL, _PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC9}), frozenset({0xC2, 0xCA})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9), 0xFF})
_SCAN, _END, _JFIF, _EXIF, _ADOBE = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE
_READ = _FRAMES | {_SCAN, _JFIF, _EXIF, _ADOBE}


class _Markers(NamedTuple):
    """What the markers up to the first scan tell; payloads without their lengths."""

    process: int
    """Marker of the frame, which says how the samples are coded."""
    frame: bytes
    scan: bytes
    start: int
    """Of the scan, in bytes from the start of the file."""
    orientation: int
    jfif: bool
    adobe: bytes


def open_jpeg(file: BinaryIO) -> Opened:
    """Read the markers up to the first scan (ITU-T T.81, annex B)."""
    markers = _walk(file)
    frame = markers.frame
    if len(frame) < 6:
        raise Refused("not a readable JPEG (no frame header)")
    bits, components = frame[0], frame[5]
    if bits != 8 or components not in {1, 3, 4}:
        raise Refused(f"is a JPEG of {bits} bits and {components} components; 8 bits and 1, 3 or 4 are read")
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    channels = 1 if components == 1 else 3
    # Where a component comes in several scans, libjpeg keeps the coefficients of all, 2 bytes each
    one_scan = markers.process in _SEQUENTIAL and markers.scan[:1] == frame[5:6]
    header = Header(
        "JPEG", height, width, channels, components, "uint8", 1 if one_scan else 8, orientation=markers.orientation
    )
    luma = partial(_decode_luma, file, header, markers) if components == 3 and _stores_luma(markers) else None
    return Opened(header, partial(_decode, file, header, markers), luma)


def frame_shape(file: BinaryIO) -> tuple[int, int]:
    """Return height and width that a JPEG's frame header gives, in pixels; height 0 where a later marker tells it."""
    frame = _walk(file).frame
    return int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")


def _walk(file: BinaryIO) -> _Markers:
    file.seek(2)
    process, frame, orientation, jfif, adobe = 0, b"", 1, False, b""
    while True:
        marker, length = _next_marker(file)
        if marker not in _READ:
            file.seek(length, 1)
            continue
        payload = file.read(length)
        if marker == _SCAN:
            return _Markers(process, frame, payload, file.tell(), orientation, jfif, adobe)
        if marker in _FRAMES and not frame:
            process, frame = marker, payload
        elif marker == _JFIF:
            jfif = jfif or (length >= 14 and payload.startswith(b"JFIF\0"))
        elif marker == _EXIF and orientation == 1:
            orientation = exif_orientation(payload) if payload.startswith(b"Exif\0\0") else 1
        elif marker == _ADOBE and payload.startswith(b"Adobe"):
            adobe = payload


def _next_marker(file: BinaryIO) -> tuple[int, int]:
    """Return the next marker and how many bytes follow its length; fill bytes and garbage before it are passed over."""
    head = file.read(4)
    while len(head) == 4 and (head[0] != 0xFF or head[1] in _ALONE):
        head = head[1:] + file.read(1)
    length = (head[2] << 8 | head[3]) - 2 if len(head) == 4 else -1
    if length < 0 or head[1] == _END:
        raise Refused("not a readable JPEG (truncated)")
    return head[1], length


def _stores_luma(markers: _Markers) -> bool:
    """Tell whether three components are Y, Cb and Cr, by libjpeg's rule (default_decompress_parms in jdapimin.c)."""
    if markers.process not in _SEQUENTIAL | _PROGRESSIVE:
        return False
    if not markers.jfif and len(markers.adobe) >= 12:
        return markers.adobe[11] != 0
    return markers.jfif or markers.frame[6::3] != b"RGB"


def _decode(file: BinaryIO, header: Header, markers: _Markers) -> Decoded:
    """Decode to 8-bit gray or RGB."""
    data = _read_whole(file, markers)
    samples = _decode_strictly(data, {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.stored])
    if header.stored == 4:
        samples = cmyk_to_rgb(255 - samples if markers.adobe else samples)
    return Decoded(samples.reshape(header.height, header.width, header.channels), 255.0)


def _decode_luma(file: BinaryIO, header: Header, markers: _Markers) -> Decoded:
    """Decode Y alone: Cb and Cr are passed over, neither transformed nor enlarged."""
    samples = _decode_strictly(_read_whole(file, markers), "GRAY")
    return Decoded(samples.reshape(header.height, header.width, 1), 255.0)


def _decode_strictly(data: bytes, colours: str) -> npt.NDArray[np.uint8]:
    """Decode, and refuse what libjpeg would only warn of: damaged data, for which it makes up pixels."""
    import simplejpeg

    try:
        samples: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        if not _is_padding(data, str(error)):
            raise
        samples = simplejpeg.decode_jpeg(data, colours, strict=False)
    return samples


def _is_padding(data: bytes, warning: str) -> bool:
    """Tell whether a warning is of zeros before the end, which some cameras write."""
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    end = data.rfind(b"\xff\xd9")
    return found is not None and not any(data[max(end - int(found[1]), 0) : end])


def _read_whole(file: BinaryIO, markers: _Markers) -> bytes:
    """Return all bytes of a file, which must hold the end-of-image marker: libjpeg fills what it lacks with gray.

    Within scans, a 0xFF of the data is followed by a zero, so that the marker cannot be mistaken.
    """
    file.seek(0)
    data = file.read()
    if data.rfind(b"\xff\xd9", markers.start) < 0:
        raise Refused("not a readable JPEG (truncated)")
    return data


def cmyk_to_rgb(samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert (y, x, 4) 8-bit ink to (y, x, 3) RGB as Pillow does, without a colour profile."""
    from PIL import Image

    height, width = samples.shape[:2]
    image = Image.frombytes("CMYK", (width, height), np.ascontiguousarray(samples).tobytes())
    return np.asarray(image.convert("RGB"))
