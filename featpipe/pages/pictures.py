"""Small pictures of images and of responses, as PNG data that a page carries in itself."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bytes = npt.NDArray[np.uint8]
EDGE = 160
"""Longest edge of a thumbnail, in pixels."""
ENDS = (0.5, 99.5)
"""Percentiles between which colours change: a few outliers would leave all else one colour."""


def thumbnail(image: Floats, edge: int = EDGE) -> str:
    """Return an image as a PNG data URI.

    Parameters
    ----------
    image : (y, x, c)
        One channel, or the first of several, is gray; three are red, green and blue. Values in [0, 1] or [0, 255] are
        shown as they are, others stretched.
    edge : int
        Longest edge, in pixels; smaller images keep their size.
    """
    shown = image if image.shape[2] == 3 else image[..., :1]
    rgb = np.repeat(_bytes(shown), 3 // shown.shape[2], axis=2)
    return _data(_shrunk(rgb, edge))


def response(values: Floats, low: float, high: float, edge: int = EDGE) -> str:
    """Return (y, x) responses in colours as a PNG data URI: those of `scale` between ``low`` and ``high``.

    What is no finite number is transparent.
    """
    span = high - low
    with np.errstate(invalid="ignore"):
        place = (values.astype(np.float64) - low) / span if span > 0 else np.full(values.shape, 0.5)
    finite = np.isfinite(values)
    index = np.clip(np.where(finite, place, 0.0) * 255 + 0.5, 0, 255).astype(np.uint8)
    rgb = colours(diverging=low < 0 < high)[index]
    alpha = np.where(finite, 255, 0).astype(np.uint8)[..., None]
    return _data(_shrunk(np.concatenate([rgb, alpha], axis=2), edge))


def scale(samples: Floats) -> tuple[float, float]:
    """Return the values that the ends of a colour scale stand for; around 0, as far below as above."""
    finite = samples[np.isfinite(samples)].astype(np.float64)
    if not finite.size:
        return 0.0, 0.0
    low, high = (float(value) for value in np.percentile(finite, ENDS))
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    return low, high


def bar(low: float, high: float) -> str:
    """Return the colours between two values as a PNG data URI, 128 pixels wide."""
    ramp = colours(diverging=low < 0 < high)[np.linspace(0, 255, 128).astype(np.uint8)]
    return _data(np.repeat(ramp[None], 2, axis=0))


def matrix(shares: Floats) -> str:
    """Return a square of shares, 0 to 1, as a PNG data URI, a cell a few pixels wide; more is darker."""
    shown = colours(diverging=False)[np.clip((1 - shares) * 255, 0, 255).astype(np.uint8)]
    edge = max(1, 480 // len(shares))
    return _data(shown.repeat(edge, axis=0).repeat(edge, axis=1))


@cache
def colours(*, diverging: bool) -> Bytes:
    """Return 256 colours, (256, 3): from dark to light, or from blue through light gray to red.

    Sources: D. A. Green, A colour scheme for the display of astronomical intensity images, 2011 (start 0.5, -0.75
    rotations, hue 1); K. Moreland, Diverging color maps for scientific visualization, 2009.
    """
    table = _diverging() if diverging else _cubehelix()
    return np.round(np.clip(table, 0, 1) * 255).astype(np.uint8)


def _cubehelix() -> npt.NDArray[np.float64]:
    grey = np.linspace(0.05, 0.97, 256)
    angle = 2 * np.pi * (0.5 / 3 + 1 - 0.75 * grey)
    amplitude = grey * (1 - grey) / 2
    weights = np.array([[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]])
    wave = weights @ np.stack([np.cos(angle), np.sin(angle)])
    colour: npt.NDArray[np.float64] = (grey + amplitude * wave).T
    return colour


def _diverging() -> npt.NDArray[np.float64]:
    """Moreland's interpolation in Msh, polar coordinates of CIELAB: cool, light, warm."""
    cool, warm = (80.0, 1.08, -1.1), (80.0, 1.08, 0.5)
    middle = 88.0
    half = np.linspace(0, 1, 128)
    sides = []
    for end, spin in ((cool, -1.0), (warm, 1.0)):
        m, s, h = end
        # The hue turns away a little as colour fades, so that the steps look equal
        turn = spin * s * np.sqrt(middle**2 - m**2) / (m * np.sin(s))
        msh = np.stack([m + (middle - m) * half, s * (1 - half), h + turn * half])
        sides.append(_from_msh(msh))
    return np.concatenate([sides[0], sides[1][::-1]])


def _from_msh(msh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return sRGB of Msh: by CIELAB and XYZ, white D65."""
    m, s, h = msh
    lightness, a, b = m * np.cos(s), m * np.sin(s) * np.cos(h), m * np.sin(s) * np.sin(h)
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array([[0.9505], [1.0], [1.089]])
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.204, 1.057]])
    linear = np.clip(to_rgb @ xyz, 0, 1)
    bright = 1.055 * linear ** (1 / 2.4) - 0.055
    encoded: npt.NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, bright)
    return encoded.T


def _bytes(image: Floats) -> Bytes:
    """Return an image's values as 8 bits."""
    values = np.nan_to_num(image.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= 0 and 0.25 < high <= 1:
        values = values * 255
    elif not (low >= 0 and 64 < high <= 255):
        low, high = (float(value) for value in np.percentile(values, ENDS))
        values = (values - low) * (255 / (high - low)) if high > low else values * 0
    shown: Bytes = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return shown


def _shrunk(pixels: Bytes, edge: int) -> Bytes:
    from PIL import Image

    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest <= edge:
        return pixels
    size = (max(1, round(width * edge / longest)), max(1, round(height * edge / longest)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _data(pixels: Bytes) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
