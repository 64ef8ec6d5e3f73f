"""TIFF files, by tifffile: integers of any depth, floats, any number of channels, whole or in part."""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO

import numpy as np

from featpipe.geometry.axis import Span
from featpipe.images.header import ORIENTATION, Decoded, Header, Opened, white
from featpipe.images.jpeg import cmyk_to_rgb
from featpipe.images.refusal import Refused
from featpipe.images.tiffpages import choose_pages, list_directories
from featpipe.images.tifftiles import Spans, check_tiles, has_parts, part_bytes, read_part, reads_whole, tiling, unit

_SAMPLES = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3}
_PREMULTIPLIED, _ALPHA = 1, 2
_MOST_SAMPLES = 4096


def open_tiff(file: BinaryIO) -> Opened:
    """Read the tags of the one full-size image; an OME-TIFF's channels may each have a page."""
    from tifffile import TiffFile

    directories = list_directories(file)
    file.seek(0)
    tiff = TiffFile(file)  # closing it would not close the file, which is all that it holds
    pages = choose_pages(tiff, directories)
    header = _header(tiff.pages[pages[0]])
    if len(pages) > 1:
        header = _join(header, tiff, pages)
    whole = Span(0, header.height), Span(0, header.width)
    part = partial(_decode, tiff, pages)
    return Opened(header, partial(part, whole), decode_part=part if header.parts else None)


def _join(header: Header, tiff: Any, pages: list[int]) -> Header:
    """Return the header of an image whose channels are pages, which must be alike."""
    if header.stored > 1 or _photometric(tiff.pages[pages[0]]) not in {"MINISBLACK", "MINISWHITE"}:
        raise Refused(f"has {len(pages)} pages of several samples; channels are read as samples or as pages. Split it")
    most = header.part_bytes
    for index in pages[1:]:
        other = _header(tiff.pages[index])
        if other._replace(part_bytes=0) != header._replace(part_bytes=0):
            raise Refused(f"has {len(pages)} pages that differ in size or samples. Split it")
        most = max(most, other.part_bytes)
    many = len(pages)
    return header._replace(channels=many, stored=many, scratch=many * header.scratch, part_bytes=most)


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
        raise Refused(f"is a volume of {page.imagedepth} planes; it may have one")
    if name in {"SEPARATED", "PALETTE"} and page.dtype != np.uint8 and (name == "SEPARATED" or page.dtype.kind != "u"):
        raise Refused(f"is a {name} TIFF of {page.dtype} samples; uint8 is read")
    tiling(page)
    stored = page.samplesperpixel
    if stored > _MOST_SAMPLES:
        raise Refused(f"has {stored:,} samples per pixel; at most {_MOST_SAMPLES:,} are read")
    colours = 3 if name in {"SEPARATED", "PALETTE"} else stored - (_alpha(page) is not None)
    check_tiles(page)
    if stored < _SAMPLES[name]:
        raise Refused(f"not a readable TIFF ({stored} samples per pixel in {name})")
    dtype = "uint8" if name == "PALETTE" else page.dtype.name
    turned = page.tags.valueof(ORIENTATION, 1)
    orientation = int(turned) if turned in range(1, 9) else 1
    alpha = _alpha(page) is not None
    full = 255.0 if dtype == "uint8" and name == "PALETTE" else _full(page)
    # A strip as large as the image, undone differences, and a copy without alpha
    scratch = 3 * stored * np.dtype(dtype).itemsize
    return Header(
        "TIFF", page.imagelength, page.imagewidth, colours, stored, dtype, scratch, full, alpha, orientation,
        unit(page), has_parts(page), part_bytes(page),
    )  # fmt: skip


def _full(page: Any) -> float:
    """Return the value of white: 12-bit samples in 16-bit numbers reach 4095 only."""
    return float(2 ** int(page.bitspersample) - 1) if page.dtype.kind == "u" else white(page.dtype)


def _decode(tiff: Any, pages: list[int], part: Spans) -> Decoded:
    """Decode at full depth; WhiteIsZero is inverted, palettes and CMYK become 8-bit RGB, alpha is told apart."""
    if len(pages) == 1:
        page = tiff.pages[pages[0]]
        return _convert(page, _samples(page, part))
    one = None
    for channel, index in enumerate(pages):
        page = tiff.pages[index]
        found = _convert(page, _samples(page, part))
        if one is None:
            one = found._replace(samples=np.empty((*found.samples.shape[:2], len(pages)), found.samples.dtype))
        one.samples[..., channel] = found.samples[..., 0]
    assert one is not None
    return one


def _samples(page: Any, part: Spans) -> Any:
    """Return a part of a page, (y, x, samples), as it is stored."""
    check_tiles(page)
    if not reads_whole(page):
        return read_part(page, *part)
    # libjpeg would fill what a cut strip lacks
    if any(a + n > page.parent.filehandle.size for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise Refused("not a readable TIFF (truncated)")
    planes = page.asarray(squeeze=False, maxworkers=1)[:, 0]
    return planes[0] if planes.shape[0] == 1 else np.moveaxis(planes[..., 0], 0, -1)


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
