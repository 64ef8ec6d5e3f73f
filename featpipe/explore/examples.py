"""Images to begin with, drawn by arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.floating]
UInt8 = npt.NDArray[np.uint8]
EDGE = 512
"""Of an example, in pixels."""
NAMES = ("scene", "gratings", "shapes", "chirp", "noise")
"""Of the examples, the first one to begin with."""


def draw(name: str) -> UInt8:
    """Draw an example.

    Parameters
    ----------
    name : str
        One of ``NAMES``.

    Returns
    -------
    (512, 512, 3) or (512, 512) uint8
    """
    y, x = np.mgrid[:EDGE, :EDGE].astype(np.float64)
    pictures = {"scene": _scene, "gratings": _gratings, "shapes": _shapes, "chirp": _chirp, "noise": _noise}
    return np.asarray(np.clip(np.rint(255 * pictures[name](y, x)), 0, 255), np.uint8)


def _inside(distance: Float64) -> Float64:
    """Return how far a pixel lies inside an outline, from a signed distance in pixels: smooth over one pixel."""
    return np.asarray(np.clip(0.5 - distance, 0, 1))


def _disc(y: Float64, x: Float64, cy: float, cx: float, radius: float) -> Float64:
    return _inside(np.hypot(y - cy, x - cx) - radius)


def _box(y: Float64, x: Float64, span: tuple[float, float, float, float], turn: float = 0.0) -> Float64:
    """Return a rectangle (y0, x0, y1, x1), turned about its centre by degrees."""
    cy, cx = (span[0] + span[2]) / 2, (span[1] + span[3]) / 2
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    v, u = c * (y - cy) - s * (x - cx), s * (y - cy) + c * (x - cx)
    return _inside(np.maximum(np.abs(v) - (span[2] - span[0]) / 2, np.abs(u) - (span[3] - span[1]) / 2))


def _paint(canvas: Float64, mask: Float64, colour: tuple[float, float, float], texture: Float64 | float = 1.0) -> None:
    paint = np.multiply.outer(np.broadcast_to(np.asarray(texture, np.float64), mask.shape), np.array(colour))
    canvas += mask[..., None] * (paint - canvas)


def _scene(y: Float64, x: Float64) -> Float64:
    """Draw a house between trees under a sun: edges of all directions, textures fine and coarse, smooth shades."""
    rng = np.random.default_rng(7)
    sky = y[..., None] / EDGE
    canvas: Float64 = (1 - sky) * np.array([0.36, 0.60, 0.88]) + sky * np.array([0.95, 0.90, 0.82])
    _paint(canvas, _disc(y, x, 92, 408, 44), (1.0, 0.86, 0.42))
    for cy, cx, r in ((96, 110, 26), (88, 146, 34), (100, 184, 24), (66, 300, 18), (62, 324, 24), (70, 346, 16)):
        _paint(canvas, _disc(y, x, cy, cx, r), (0.97, 0.97, 0.98))
    hill = _inside((330 + 34 * np.sin(x / 78) + 16 * np.sin(x / 31 + 1)) - y)
    _paint(canvas, hill, (0.42, 0.58, 0.36), 0.9 + 0.1 * np.sin(x / 5 + y / 9))
    grass = 0.82 + 0.30 * (rng.random((EDGE, EDGE)) - 0.5) + 0.12 * np.sin(x / 2.6 + 3 * np.sin(y / 17))
    _paint(canvas, _inside(402 - y), (0.36, 0.55, 0.24), grass)
    rows, shift = y // 16, ((y // 16) % 2) * 15
    brick = np.where(
        (y % 16 < 2.2) | ((x + shift) % 30 < 2.2), 1.28, 1.0 + 0.12 * np.sin(rows * 3.1 + (x + shift) // 30 * 5.3)
    )
    _paint(canvas, _box(y, x, (248, 150, 428, 352)), (0.66, 0.34, 0.27), brick)
    roof = _inside(np.maximum((146 - y) * 0.62 + np.abs(x - 251) * 0.62, y - 252))
    _paint(canvas, roof, (0.34, 0.27, 0.33), 0.9 + 0.25 * (np.sin(y / 2.3) > 0.2))
    _paint(canvas, _box(y, x, (178, 296, 232, 320)), (0.55, 0.30, 0.26), brick)
    for left in (178, 276):
        _paint(canvas, _box(y, x, (284, left, 340, left + 50)), (0.93, 0.92, 0.87))
        _paint(canvas, _box(y, x, (289, left + 5, 335, left + 45)), (0.20, 0.30, 0.42), 1 + (y - x % 50) / 400)
        _paint(canvas, _box(y, x, (310, left + 5, 313, left + 45)), (0.93, 0.92, 0.87))
        _paint(canvas, _box(y, x, (289, left + 23.5, 335, left + 26.5)), (0.93, 0.92, 0.87))
    _paint(canvas, _box(y, x, (356, 228, 428, 274)), (0.28, 0.42, 0.40), 1 + 0.16 * np.sin(x * 0.9))
    _paint(canvas, _disc(y, x, 394, 266, 3), (0.95, 0.85, 0.5))
    leaves = 0.78 + 0.62 * (rng.random((EDGE // 4, EDGE // 4)).repeat(4, 0).repeat(4, 1) - 0.4)
    for cx, top, r in ((72, 250, 46), (440, 236, 54)):
        _paint(canvas, _box(y, x, (top, cx - 8, 436, cx + 8)), (0.36, 0.26, 0.18), 0.9 + 0.2 * np.sin(x * 1.7))
        for dy, dx in ((0, 0), (22, -26), (22, 26), (-24, 6)):
            _paint(canvas, _disc(y, x, top + dy, cx + dx, r * 0.72), (0.24, 0.44, 0.21), leaves)
    for left in range(6, 512, 22):
        if not 150 < left < 344:
            _paint(canvas, _box(y, x, (420, left, 478, left + 9)), (0.90, 0.87, 0.80))
    for top in (432, 460):
        _paint(canvas, _box(y, x, (top, 0, top + 5, 150)), (0.84, 0.80, 0.72))
        _paint(canvas, _box(y, x, (top, 352, top + 5, 512)), (0.84, 0.80, 0.72))
    return canvas


def _gratings(y: Float64, x: Float64) -> Float64:
    """Draw a table of waves: periods from left to right, directions from top to bottom."""
    picture = np.full_like(y, 0.5)
    for row in range(4):
        for column, period in enumerate((32, 16, 8, 4)):
            angle = np.deg2rad(45 * row)
            wave = np.cos(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
            r = np.hypot(y - 64 - 128 * row, x - 64 - 128 * column)
            picture += 0.48 * wave * np.clip((58 - r) / 8, 0, 1)
    return picture


def _shapes(y: Float64, x: Float64) -> Float64:
    """Draw plain bright and dark shapes with edges, corners and blobs."""
    picture = np.full_like(y, 0.25)
    for mask, value in (
        (_box(y, x, (60, 60, 200, 200)), 0.9),
        (_disc(y, x, 130, 380, 80), 0.75),
        (_disc(y, x, 130, 380, 38), 0.1),
        (_box(y, x, (310, 70, 450, 210), 30), 0.6),
        (_inside(np.maximum((310 - y) * 0.5 + np.abs(x - 380) * 0.87, y - 450)), 1.0),
        (_box(y, x, (250, 30, 253, 480)), 0.95),
        (_box(y, x, (480, 30, 486, 480), 3), 0.0),
    ):
        picture += mask * (value - picture)
    return picture


def _chirp(y: Float64, x: Float64) -> Float64:
    """Draw rings that narrow from the centre to half a cycle per pixel at the edge."""
    r = np.hypot(y - EDGE / 2, x - EDGE / 2)
    picture: Float64 = 0.5 + 0.48 * np.cos(np.pi * r**2 / (2 * EDGE / 2)) * (r < EDGE / 2)
    return picture


def _noise(y: Float64, x: Float64) -> Float64:
    """Draw noise whose power falls with the square of the frequency, as that of photographs does."""
    rng = np.random.default_rng(3)
    frequency = np.hypot(np.fft.fftfreq(EDGE)[:, None], np.fft.rfftfreq(EDGE)[None])
    frequency[0, 0] = 1
    picture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(y.shape)) / frequency, s=x.shape)
    return np.asarray(0.5 + picture / (6 * picture.std()))
