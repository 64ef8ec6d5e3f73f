"""TIFF files, by tifffile: integers of any depth, floats, any number of channels."""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO

import numpy as np

from featpipe.images.header import ORIENTATION, Decoded, Header, Opened, white
from featpipe.images.jpeg import cmyk_to_rgb
from featpipe.images.refusal import Refused

_SAMPLES = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3}
_REDUCED, _MASK = 1, 4
_PREMULTIPLIED, _ALPHA = 1, 2


def open_tiff(file: BinaryIO) -> Opened:
    """Read the tags of the one full-size page."""
    from tifffile import TiffFile

    file.seek(0)
    tiff = TiffFile(file)  # closing it would not close the file, which is all that it holds
    page = _page(tiff)
    return Opened(_header(page), partial(_decode, tiff, page))


def _page(tiff: Any) -> Any:
    """Return the one full-size page; smaller copies and masks beside it do not count, anything else does."""
    pages = tiff.pages
    images = []
    for page in pages:
        if not page.subfiletype & (_REDUCED | _MASK):
            images.append(page)
        if len(images) > 1:
            raise Refused(f"has {len(pages)} pages; one is read. Split it, or make it an .npy stack")
    if not images:
        raise Refused("not a readable TIFF (no full-size page)")
    frames = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if frames > 1:
        raise Refused(f"has {frames} frames; one is read. Split it, or make it an .npy stack")
    return images[0]


def _photometric(page: Any) -> str:
    return str(getattr(page.photometric, "name", page.photometric))


def _alpha(page: Any) -> int | None:
    """Return which sample is opacity."""
    base = page.samplesperpixel - len(page.extrasamples)
    return next((base + i for i, kind in enumerate(page.extrasamples) if kind in {_PREMULTIPLIED, _ALPHA}), None)


def _header(page: Any) -> Header:
    name = _photometric(page)
    if name not in _SAMPLES or (name == "YCBCR" and "JPEG" not in str(getattr(page.compression, "name", ""))):
        raise Refused(f"is a TIFF of photometric {name}; {', '.join(_SAMPLES)} are read (YCBCR if JPEG-compressed)")
    if page.dtype is None or page.dtype.kind not in "buif":
        raise Refused(f"is a TIFF of {page.dtype or 'unknown'} samples; integers and floats are read")
    if page.imagedepth != 1:
        raise Refused(f"is a volume of {page.imagedepth} planes; one is read")
    if name in {"SEPARATED", "PALETTE"} and page.dtype != np.uint8 and (name == "SEPARATED" or page.dtype.kind != "u"):
        raise Refused(f"is a {name} TIFF of {page.dtype} samples; uint8 is read")
    stored = page.samplesperpixel
    colours = 3 if name in {"SEPARATED", "PALETTE"} else stored - (_alpha(page) is not None)
    if stored < _SAMPLES[name]:
        raise Refused(f"not a readable TIFF ({stored} samples per pixel in {name})")
    dtype = "uint8" if name == "PALETTE" else page.dtype.name
    turned = page.tags.valueof(ORIENTATION, 1)
    orientation = int(turned) if turned in range(1, 9) else 1
    alpha = _alpha(page) is not None
    full = 255.0 if dtype == "uint8" and name == "PALETTE" else _full(page)
    # A strip as large as the image, undone differences, and a copy without alpha
    scratch = 3 * stored * np.dtype(dtype).itemsize
    return Header("TIFF", page.imagelength, page.imagewidth, colours, stored, dtype, scratch, full, alpha, orientation)


def _full(page: Any) -> float:
    """Return the value of white: 12-bit samples in 16-bit numbers reach 4095 only."""
    return float(2 ** int(page.bitspersample) - 1) if page.dtype.kind == "u" else white(page.dtype)


def _decode(tiff: Any, page: Any) -> Decoded:
    """Decode at full depth; WhiteIsZero is inverted, palettes and CMYK become 8-bit RGB, alpha is told apart."""
    # libjpeg would fill what a cut strip lacks
    if any(a + n > tiff.filehandle.size for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise Refused("not a readable TIFF (truncated)")
    planes = page.asarray(squeeze=False, maxworkers=1)[:, 0]
    pixels = planes[0] if planes.shape[0] == 1 else np.moveaxis(planes[..., 0], 0, -1)
    return _convert(page, pixels)


def _convert(page: Any, pixels: Any) -> Decoded:
    name, at = _photometric(page), _alpha(page)
    full = _full(page)
    alpha = None if at is None else pixels[..., at]
    premultiplied = at is not None and _PREMULTIPLIED in page.extrasamples
    if name == "PALETTE":
        colours = np.asarray(page.colormap)
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8).T
        return Decoded(colours[pixels[..., 0]], 255.0, alpha, full, premultiplied)
    if name == "SEPARATED":
        return Decoded(cmyk_to_rgb(pixels[..., :4]), 255.0, alpha, full, premultiplied)
    samples = pixels if at is None else np.delete(pixels, at, axis=-1)
    if name == "MINISWHITE":
        samples = _invert(samples, full)
    return Decoded(samples, full, alpha, full, premultiplied)


def _invert(samples: Any, full: float) -> Any:
    if samples.dtype.kind == "b":
        return ~samples
    if samples.dtype.kind == "u":
        return samples.dtype.type(int(full)) - samples
    raise Refused(f"is a WhiteIsZero TIFF of {samples.dtype} samples, whose white is unknown")
