"""Bringing an image to a given size: crop, pad, stretch, or refuse.

::

    source 3×6 → 4×4       crop              pad               stretch
    ┌────────────┐      ┌───┬──────┬───┐   ┌──────┐ 0       ┌────────────┐
    │            │      │   │      │   │   ├──────┤         │            │
    │            │      │   │ kept │   │   │ all  │         │    all     │
    └────────────┘      └───┴──────┴───┘   ├──────┤         └────────────┘
                                           └──────┘ 0
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featpipe.images.refusal import Refused

Float32 = npt.NDArray[np.float32]
Fit = Literal["crop", "pad", "stretch", "error"]
_KEPT = 64 * 2**20
"""Larger arrays, in bytes, are not kept."""


class Scratch(threading.local):
    """Memory for what lies between, which each thread uses again: to touch new pages takes as long as to resize."""

    def __init__(self) -> None:
        self._floats = np.empty(0, np.float32)
        self._plane: Any = None

    def floats(self, shape: tuple[int, int, int]) -> Float32:
        """Return a (y, x, c) array, its channels one after the other in memory; it is the next one's too."""
        height, width, channels = shape
        count = height * width * channels
        values = self._floats
        if count > values.size:
            values = np.empty(count, np.float32)
            if values.nbytes <= _KEPT:
                self._floats = values
        return np.moveaxis(values[:count].reshape(channels, height, width), 0, -1)

    def pillow(self, plane: Float32) -> Any:
        """Return a (y, x) array as an image of Pillow's; it is the next one's too."""
        from PIL import Image

        plane = np.ascontiguousarray(plane)
        size = (plane.shape[1], plane.shape[0])
        if plane.nbytes > _KEPT:
            return Image.fromarray(plane)
        if self._plane is None or self._plane.size != size:
            self._plane = None
            self._plane = Image.new("F", size)
        self._plane.frombytes(plane)
        return self._plane


def scratch_bytes(height: int, width: int, channels: int) -> int:
    """Return what a thread's ``Scratch`` keeps after an image, in bytes."""
    parts = (4 * height * width * channels, 4 * height * width)
    return sum(part for part in parts if part <= _KEPT)


def resize(image: Float32, size: tuple[int, int], fit: Fit, scratch: Scratch) -> Float32:
    """Bring an image of another size to ``size``.

    Parameters
    ----------
    image : (y, x, c) float32
    size : (y, x) in pixels
    fit : {"crop", "pad", "stretch", "error"}
        crop keeps the largest centred part of the wanted proportions; pad shows all of the image, centred on zeros;
        stretch lets the proportions go. Smaller images are enlarged.
    scratch : Scratch

    Returns
    -------
    (y, x, c) float32
        By Pillow's bilinear filter, which averages over the shrunk area (so it does not alias).
    """
    height, width, _ = image.shape
    match fit:
        case "error":
            raise Refused(wrong_size((height, width), size))
        case "stretch":
            return _resample(image, size, (0.0, 0.0, height, width), scratch)
        case "pad":
            return _pad(image, size, scratch)
        case "crop":
            return _crop(image, size, scratch)


def _crop(image: Float32, size: tuple[int, int], scratch: Scratch) -> Float32:
    height, width, _ = image.shape
    # Nothing is resampled when the image reaches over the size on one axis and fits it on the other
    if (height == size[0] and width > size[1]) or (width == size[1] and height > size[0]):
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        return np.array(image[top : top + size[0], left : left + size[1]], order="C")
    shrink = min(height / size[0], width / size[1])
    tall, wide = min(size[0] * shrink, height), min(size[1] * shrink, width)
    top, left = (height - tall) / 2, (width - wide) / 2
    return _resample(image, size, (top, left, min(top + tall, height), min(left + wide, width)), scratch)


def _pad(image: Float32, size: tuple[int, int], scratch: Scratch) -> Float32:
    height, width, channels = image.shape
    grow = min(size[0] / height, size[1] / width)
    inner = (min(max(round(height * grow), 1), size[0]), min(max(round(width * grow), 1), size[1]))
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    out = np.zeros((*size, channels), np.float32)
    shown = image if inner == (height, width) else _resample(image, inner, (0.0, 0.0, height, width), scratch)
    out[top : top + inner[0], left : left + inner[1]] = shown
    return out


def _resample(
    image: Float32, size: tuple[int, int], box: tuple[float, float, float, float], scratch: Scratch
) -> Float32:
    """Resample the part ``box`` (top, left, bottom, right) to ``size``, channel by channel."""
    from PIL import Image

    top, left, bottom, right = box
    out = np.empty((*size, image.shape[2]), np.float32)
    shape = (size[1], size[0])
    for channel in range(image.shape[2]):
        plane = scratch.pillow(image[..., channel])
        out[..., channel] = np.asarray(plane.resize(shape, Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
    return out


def wrong_size(shape: Sequence[int], size: Sequence[int]) -> str:
    """Return what ``fit: error`` says of an image of another shape."""
    return f"is {shape[0]}×{shape[1]} pixels, not {size[0]}×{size[1]} as images.size with fit: error asks"


def resizing_bytes(height: int, width: int, size: tuple[int, int], channels: int) -> int:
    """Return a bound of the memory that ``resize`` takes, its result included but not its input, in bytes."""
    plane = height * width + height * size[1] + 3 * size[0] * size[1]
    return 4 * (plane + size[0] * size[1] * channels)
