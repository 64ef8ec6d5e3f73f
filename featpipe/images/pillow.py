"""BMP and WebP files, by Pillow's plugins themselves.

``Image.open`` would try every plugin it knows, and warn of large images by a limit of its own.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from featpipe.images.header import Decoded, Format, Header, exif_orientation
from featpipe.images.refusal import Refused

_DTYPES = {"1": "bool", "L": "uint8", "P": "uint8", "RGB": "uint8", "RGBA": "uint8"}


def _open_bmp(file: BinaryIO) -> Any:
    from PIL.BmpImagePlugin import BmpImageFile

    return BmpImageFile(file)


def _open_webp(file: BinaryIO) -> Any:
    from PIL.WebPImagePlugin import WebPImageFile

    return WebPImageFile(file)


def read_bmp_header(file: BinaryIO) -> Header:
    """Read mode and size of a BMP."""
    file.seek(0)
    return _header("BMP", _open_bmp(file))


def read_webp_header(file: BinaryIO) -> Header:
    """Read mode, size and EXIF orientation of a WebP."""
    file.seek(0)
    return _header("WebP", _open_webp(file))


def decode_bmp(file: BinaryIO) -> Decoded:
    """Decode to bool, 8-bit gray, RGB or RGBA; palettes become RGB."""
    file.seek(0)
    return _decode(_open_bmp(file))


def decode_webp(file: BinaryIO) -> Decoded:
    """Decode to 8-bit RGB or RGBA."""
    file.seek(0)
    return _decode(_open_webp(file))


def _header(name: Format, image: Any) -> Header:
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise Refused(f"is an animation of {frames} frames; one is read")
    if image.mode not in _DTYPES:
        raise Refused(f"is a {name} of mode {image.mode}; {', '.join(_DTYPES)} are read")
    channels = 1 if image.mode in {"1", "L"} else 3
    alpha = image.mode == "RGBA"
    full = 1.0 if image.mode == "1" else 255.0
    turned = exif_orientation(image.info.get("exif", b""))
    return Header(name, image.height, image.width, channels, channels + alpha, _DTYPES[image.mode], full, alpha, turned)


def _decode(image: Any) -> Decoded:
    pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    if pixels.ndim == 2:
        return Decoded(pixels[..., None], 1.0 if pixels.dtype == np.bool_ else 255.0)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return Decoded(pixels[..., :3], 255.0, alpha, 255.0)
