"""The oriented bands of the steerable pyramid, from their formula in the frequency domain."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from featpipe.kernels.bank import Kernel, Labels

Float64 = npt.NDArray[np.float64]


def steerable_kernels(order: int = 3, levels: int = 1, size: int = 32) -> list[Kernel]:
    """Return the steerable pyramid's bands: raised cosines two octaves wide in radius, cos^order in angle.

    Parameters
    ----------
    order : int
        N: the bands are cos^N(θ - π b / (N + 1)) in angle, b = 0..N, and even or odd as N is.
    levels : int
        The band of level l peaks at π / 2^(l + 1) radians per sample.
    size : int
        Edge of level 0's kernels, in samples, even; level l's is size · 2^l.

    Returns
    -------
    list of Kernel
        Weights (size · 2^l, size · 2^l), the bands of level 0 first; labels ``level`` and ``orientation``, the
        direction across the band's stripes in degrees from +x (right) towards +y (down). Each has sum 0.

    Notes
    -----
    Correlating with a kernel of edge n, wrapped around, equals the pyramid of an n × n image but that nothing is
    subsampled and that the power spectra of all levels, of the finest high pass and of the last low pass add up to 1:
    the coefficients of pyrtools' ``SteerablePyramidFreq`` are 4^l times every 2^l-th response. In larger images
    what a kernel lacks at its margin matters: for size 32 up to 3e-3 of its peak.

    References
    ----------
    Simoncelli and Freeman 1995, The steerable pyramid: a flexible architecture for multi-scale derivative computation,
    ICIP; formulae of Portilla and Simoncelli 2000, A parametric texture model based on joint statistics of complex
    wavelet coefficients, International Journal of Computer Vision 40(1); as pyrtools'
    SteerablePyramidFreq.
    """
    count = order + 1
    gain = 2.0**order * math.factorial(order) / math.sqrt(count * math.factorial(2 * order))
    kernels = []
    for level in range(levels):
        edge = size * 2**level
        frequencies = np.fft.fftfreq(edge, 0.5)  # in units of π: -1 to 1
        y, x = np.meshgrid(frequencies, frequencies, indexing="ij")
        band = _radial_band(np.hypot(y, x), level)
        angle = np.arctan2(y, x)
        for turn in range(count):
            spectrum = gain * band * np.cos(angle - math.pi * turn / count) ** order * (-1j) ** order
            # The conjugate spectrum is that of the mirrored response, as a correlation wants it.
            weights = np.fft.fftshift(np.fft.ifft2(spectrum.conj()).real)
            labels: Labels = {"bank": "steerable", "level": level, "orientation": 180.0 * turn / count}
            kernels.append(Kernel(weights, labels))
    return kernels


def _radial_band(radius: Float64, level: int) -> Float64:
    """Return a level's band: from π / 2^(level + 2) up to π / 2^level; ``radius`` in units of π."""
    with np.errstate(divide="ignore"):
        octaves = np.log2(radius)
    rising = np.clip(octaves + level + 2, 0, 1)
    falling = np.clip(octaves + level + 1, 0, 1)
    # Both are exact at their ends, where π / 2 is not.
    high = np.where(rising > 0, np.sin(np.pi / 2 * rising), 0)
    return np.where(falling < 1, high * np.cos(np.pi / 2 * falling), 0)
