"""BMP and WebP files, by Pillow's plugins themselves.

``Image.open`` would try every plugin it knows, and warn of large images by a limit of its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO

import numpy as np

from featpipe.images.header import Decoded, Format, Header, Opened, exif_orientation
from featpipe.images.refusal import Refused

_DTYPES = {"1": "bool", "L": "uint8", "P": "uint8", "RGB": "uint8", "RGBA": "uint8"}


def open_bmp(file: BinaryIO) -> Opened:
    """Read mode and size of a BMP; it decodes to bool, 8-bit gray, RGB or RGBA, palettes to RGB."""
    from PIL.BmpImagePlugin import BmpImageFile

    file.seek(0)
    image = BmpImageFile(file)
    return Opened(_header("BMP", image, 12), partial(_decode, image))


def open_webp(file: BinaryIO) -> Opened:
    """Read mode, size and EXIF orientation of a WebP; it decodes to 8-bit RGB or RGBA."""
    from PIL.WebPImagePlugin import WebPImageFile

    file.seek(0)
    image = WebPImageFile(file)
    return Opened(_header("WebP", image, 24), partial(_decode, image))


def _header(name: Format, image: Any, scratch: int) -> Header:
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise Refused(f"is an animation of {frames} frames; it may have one")
    if image.mode not in _DTYPES:
        raise Refused(f"is a {name} of mode {image.mode}; {', '.join(_DTYPES)} are read")
    channels = 1 if image.mode in {"1", "L"} else 3
    alpha = image.mode == "RGBA"
    full = 1.0 if image.mode == "1" else 255.0
    turned = exif_orientation(image.info.get("exif", b""))
    stored, dtype = channels + alpha, _DTYPES[image.mode]
    return Header(name, image.height, image.width, channels, stored, dtype, scratch, full, alpha, turned)


def _decode(image: Any) -> Decoded:
    pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    if pixels.ndim == 2:
        return Decoded(pixels[..., None], 1.0 if pixels.dtype == np.bool_ else 255.0)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return Decoded(pixels[..., :3], 255.0, alpha, 255.0)
