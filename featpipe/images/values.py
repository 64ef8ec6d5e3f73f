"""From a file's own numbers to the float32 channels that the chain sees: alpha, values, colour, size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.images.header import Decoded
from featpipe.images.refusal import Refused
from featpipe.images.resize import resize, resizing_bytes
from featpipe.spec.pipeline import Images

Float32 = npt.NDArray[np.float32]


def prepare(decoded: Decoded, images: Images) -> Float32:
    """Return the image that the chain sees.

    Parameters
    ----------
    decoded : Decoded
        Upright, in the file's own numbers.
    images : Images

    Returns
    -------
    (y, x, c) float32, C-contiguous

    Raises
    ------
    Refused
        If it holds NaN or infinity, or does not suit ``color`` or ``size``.
    """
    image = recolour(to_float(decoded, images), images.color)
    return image if images.size is None else resize(image, (images.size[0], images.size[1]), images.fit)


def to_float(decoded: Decoded, images: Images) -> Float32:
    """Blend alpha and scale the values; integers are divided once, in float32."""
    samples = decoded.samples
    # float64 beyond float32 becomes infinite, and is refused below
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.array(samples, dtype=np.float32, order="C")
    if decoded.alpha is not None and images.alpha == "white":
        _blend(out, decoded)
    if samples.dtype.kind in "iu" and images.values == "unit":
        out /= np.float32(decoded.full)
    if samples.dtype.kind == "f":
        bad = out.size - int(np.count_nonzero(np.isfinite(out)))
        if bad:
            raise Refused(f"holds {bad:,} values that are NaN or infinite in float32")
    return out


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


def preparing_bytes(shape: tuple[int, int, int], images: Images, *, blended: bool = False) -> int:
    """Return a bound of the memory that ``prepare`` takes, its result included but not its input, in bytes.

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
    scaled = pixels * (4 * channels + channels + (4 if blended else 0))  # a byte each to look for NaN
    mixed = 4 * pixels * (channels + left + 1) if left != channels else 0
    size = (height, width) if images.size is None else (images.size[0], images.size[1])
    fitted = 4 * pixels * left + resizing_bytes(height, width, size, left) if size != (height, width) else 0
    return max(scaled, mixed, fitted)
