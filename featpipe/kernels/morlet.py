"""Morlet wavelets as the scattering transform takes them: slanted Gabor filters mended to sum 0."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from featpipe.kernels.gaussian import FARTHEST

Float64 = npt.NDArray[np.float64]

SIGMA = 0.8
"""Of octave 0, across the stripes, in samples."""
FREQUENCY = 3 / 4 * math.pi
"""Of octave 0, in radians per sample."""


def morlet_radius(octave: int, orientations: int, truncate: float = 5.0) -> int:
    """Return how far the kernels of an octave reach from their centre, in samples, at every orientation.

    The parameters are those of `morlet_kernels`.
    """
    longest = max(1.0, orientations / 4)
    return int(min(truncate * SIGMA * 2.0**octave * longest + 0.5, FARTHEST))


def morlet_kernels(
    octave: int, orientation: float, orientations: int = 8, truncate: float = 5.0
) -> tuple[Float64, Float64]:
    """Return the even and the odd kernel of a Morlet wavelet.

    Parameters
    ----------
    octave : int
        j: sigma is 0.8 · 2ʲ samples across the stripes, the wave 3π/4 / 2ʲ radians per sample.
    orientation : float
        Direction in which the wave travels, across its stripes, in degrees from +x (right) towards +y (down).
    orientations : int
        L: the Gaussian is L/4 times as long along the stripes as across.
    truncate : float
        Radius, in standard deviations of the longer axis.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64, twice
        With r of `morlet_radius`. Both have sum 0.

    Notes
    -----
    Kymatio convolves and featpipe correlates, so these are the real and imaginary part of its wavelet turned by 180°.
    It divides by 2 · 3.1415 σ² where π is meant here: its wavelets are 1.00003 times these. Its angles go from
    180° / L to 180°, these from 0; with a real input the modulus at 0 and 180° is the same.

    References
    ----------
    Bruna and Mallat 2013, Invariant scattering convolution networks, IEEE Transactions on Pattern Analysis and Machine
    Intelligence 35(8); parameters as Kymatio's filter_bank (Andreux et al. 2020, Journal of Machine
    Learning Research 21).
    """
    sigma = SIGMA * 2.0**octave
    slant = 4 / orientations
    angle = math.radians(orientation)
    radius = morlet_radius(octave, orientations, truncate)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    envelope = np.exp(-0.5 * (along**2 + (slant * across) ** 2) / sigma**2) * slant / (2 * np.pi * sigma**2)
    wave = FREQUENCY / 2.0**octave * along
    even = envelope * np.cos(wave)
    even -= even.sum() / envelope.sum() * envelope
    return even, -envelope * np.sin(wave)
