"""From a file's own numbers to the float32 channels that the chain sees: alpha, values, colour, size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.geometry.grid import cut
from featpipe.images.header import Decoded
from featpipe.images.refusal import Refused
from featpipe.images.resize import Scratch, resize, resizing_bytes, scratch_bytes
from featpipe.spec.pipeline import Images

Float32 = npt.NDArray[np.float32]

_STRIP = 2**16
"""Pixels converted at once where channels are mixed, so that what lies between stays in the cache."""


def prepare(decoded: Decoded, images: Images, scratch: Scratch | None = None) -> Float32:
    """Return the image that the chain sees.

    Parameters
    ----------
    decoded : Decoded
        Upright, in the file's own numbers.
    images : Images
    scratch : Scratch, optional
        Memory to use again.

    Returns
    -------
    (y, x, c) float32, C-contiguous, the caller's own

    Raises
    ------
    Refused
        If it holds NaN or infinity, or does not suit ``color`` or ``size``.
    """
    height, width, channels = decoded.samples.shape
    size = (height, width) if images.size is None else (images.size[0], images.size[1])
    shape = (height, width, recoloured(channels, images.color))
    if size == (height, width):
        return _fill(np.empty(shape, np.float32), decoded, images)
    scratch = scratch or Scratch()
    return resize(_fill(scratch.floats(shape), decoded, images), size, images.fit, scratch)


def _fill(out: Float32, decoded: Decoded, images: Images) -> Float32:
    """Write an image in float32 and in the channels that ``color`` asks for."""
    height, width, channels = decoded.samples.shape
    if out.shape[2] == channels:
        bad = _convert(out, decoded, images)
    else:
        bad, rows = 0, min(max(_STRIP // width, 1), height)
        strip = np.empty((rows, width, channels), np.float32)
        for start, stop in cut(height, rows):
            part = strip[: stop - start]
            bad += _convert(part, _rows(decoded, start, stop), images)
            out[start:stop] = recolour(part, images.color)
    if bad:
        raise Refused(f"holds {bad:,} values that are NaN or infinite in float32")
    return out


def _rows(decoded: Decoded, start: int, stop: int) -> Decoded:
    alpha = None if decoded.alpha is None else decoded.alpha[start:stop]
    return decoded._replace(samples=decoded.samples[start:stop], alpha=alpha)


def _convert(out: Float32, decoded: Decoded, images: Images) -> int:
    """Blend alpha and scale the values; integers are divided once, in float32. Count what is not finite."""
    kind = decoded.samples.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite, and is counted
            out[...] = decoded.samples
    else:
        out[...] = decoded.samples
    if decoded.alpha is not None and images.alpha == "white":
        _blend(out, decoded)
    if kind in "iu" and images.values == "unit":
        out /= np.float32(decoded.full)
    return out.size - int(np.count_nonzero(np.isfinite(out))) if kind == "f" else 0


def _blend(out: Float32, decoded: Decoded) -> None:
    """Blend onto white, in place: C A + W (1 - A), or C + W (1 - A) where the colours were premultiplied."""
    assert decoded.alpha is not None
    opacity = decoded.alpha.astype(np.float32)[..., None]
    opacity /= np.float32(decoded.opaque)
    if not decoded.premultiplied:
        out *= opacity
    np.subtract(np.float32(1), opacity, out=opacity)
    opacity *= np.float32(decoded.full)
    out += opacity


def recolour(image: Any, color: str) -> Any:
    """Return (y, x, c) with the channels that ``color`` asks for.

    Gray is ITU-R BT.601 luma, 0.299 R + 0.587 G + 0.114 B, each product and sum rounded to float32 in this order.
    """
    channels = image.shape[2]
    if color == "keep" or (color == "gray" and channels == 1) or (color == "rgb" and channels == 3):
        return image
    if color == "rgb" and channels == 1:
        return np.repeat(image, 3, axis=2)
    if channels != 3:
        raise Refused(f"has {channels} channels; images.color: {color} needs 1 or 3")
    gray = image[..., 0] * np.float32(0.299)
    gray += image[..., 1] * np.float32(0.587)
    gray += image[..., 2] * np.float32(0.114)
    return gray[..., None]


def channel_names(channels: int) -> tuple[str, ...]:
    """Return the names of an image's channels.

    Examples
    --------
    >>> channel_names(3)
    ('red', 'green', 'blue')
    """
    return {1: ("gray",), 3: ("red", "green", "blue")}.get(channels) or tuple(map(str, range(channels)))


def recoloured(channels: int, color: str) -> int:
    """Return how many channels ``color`` leaves of ``channels``, or raise ``Refused``."""
    if color != "keep" and channels not in {1, 3}:
        raise Refused(f"has {channels} channels; images.color: {color} needs 1 or 3")
    return {"gray": 1, "rgb": 3}.get(color, channels)


def kept_bytes(shape: tuple[int, int, int], images: Images) -> int:
    """Return what a thread keeps of the memory that ``prepare`` took, for the next image, in bytes."""
    height, width, channels = shape
    if images.size is None or (height, width) == tuple(images.size):
        return 0
    return scratch_bytes(height, width, recoloured(channels, images.color))


def preparing_bytes(shape: tuple[int, int, int], images: Images, *, blended: bool = False) -> int:
    """Return a bound of the memory that ``prepare`` takes, in bytes, but for its input and what ``kept_bytes`` tells.

    Parameters
    ----------
    shape : (y, x, c)
        Of the image as it is decoded.
    images : Images
    blended : bool
        Whether transparency is blended onto white.
    """
    height, width, channels = shape
    pixels = height * width
    left = recoloured(channels, images.color)
    # What is converted at once: in float32, a byte each to look for NaN, the opacity, and the channels being mixed
    pixel = 5 * channels + (4 if blended else 0)
    if left == channels:
        converted = pixels * pixel
    else:
        converted = 4 * pixels * left + min(pixels, max(_STRIP, width)) * (pixel + 4 * (left + 1))
    if images.size is None or (height, width) == tuple(images.size):
        return converted
    fitted = 4 * pixels * left + resizing_bytes(height, width, (images.size[0], images.size[1]), left)
    return max(converted + 4 * pixels, fitted) - kept_bytes(shape, images)
