"""The part of an image that ``images.region`` asks for."""

from __future__ import annotations

from featpipe.geometry.axis import Span
from featpipe.images.refusal import Refused
from featpipe.spec.pipeline import Images

Spans = tuple[Span, Span]


def region_spans(images: Images, shape: tuple[int, int]) -> Spans:
    """Return the rows and columns of an upright image that are used: all of them unless ``region`` says otherwise.

    Parameters
    ----------
    images : Images
    shape : (y, x)
        Of the whole image, in pixels.

    Raises
    ------
    Refused
        If the region is not within the image.
    """
    region = images.region
    if region is None:
        return Span(0, shape[0]), Span(0, shape[1])
    y, x = Span(*(region.y or (0, shape[0]))), Span(*(region.x or (0, shape[1])))
    if y.stop > shape[0] or x.stop > shape[1]:
        where = f"rows {y.start} to {y.stop}, columns {x.start} to {x.stop}"
        raise Refused(f"is {shape[0]}×{shape[1]} pixels, and images.region is not within it ({where})")
    return y, x


def region_shape(images: Images, shape: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the part of an image that is used, in pixels; raise ``Refused`` if it is not in it."""
    y, x = region_spans(images, shape)
    return y.length, x.length


def part_spans(images: Images, shape: tuple[int, int], part: Spans | None) -> Spans:
    """Return rows and columns of the whole image for a part of the region, or for all of it."""
    y, x = region_spans(images, shape)
    if part is None:
        return y, x
    return shift(part[0], y.start), shift(part[1], x.start)


def shift(span: Span, by: int) -> Span:
    """Return a span ``by`` samples further on."""
    return Span(span.start + by, span.stop + by)


def region_origin(images: Images) -> tuple[int, int]:
    """Return row and column of a region's first pixel in the whole image; zeros where it is resized or absent."""
    region = images.region
    if region is None or images.size is not None:
        return 0, 0
    return (region.y or (0,))[0], (region.x or (0,))[0]
