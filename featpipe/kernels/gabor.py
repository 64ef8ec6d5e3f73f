"""Gabor filters as scikit-image makes them: a round Gaussian times a plane wave, an even and an odd kernel each."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from featpipe.kernels.gaussian import FARTHEST

Float64 = npt.NDArray[np.float64]

WIDEST_BAND = 64.0
"""Octaves from which on the bandwidth makes no difference in float64."""


def spread_orientations(count: int) -> Iterator[float]:
    """Yield ``count`` angles evenly over 180°, from 0, in degrees.

    Examples
    --------
    >>> list(spread_orientations(4))
    [0.0, 45.0, 90.0, 135.0]
    """
    return (180.0 * k / count for k in range(count))


def gabor_sigma(frequency: float, bandwidth: float) -> float:
    """Return the standard deviation of a Gabor filter's Gaussian, in samples.

    Parameters
    ----------
    frequency : float
        Of the wave, in cycles per sample.
    bandwidth : float
        Between the half-response frequencies, in octaves.

    References
    ----------
    Petkov and Kruizinga 1997, Computational models of visual neurons specialised in the detection of periodic and
    aperiodic oriented visual stimuli: σ f = √(ln 2 / 2) / π · (2ᵇ + 1) / (2ᵇ - 1).

    Examples
    --------
    >>> round(gabor_sigma(0.1, 1.0), 3)
    5.622
    """
    octaves: float = 2.0 ** min(bandwidth, WIDEST_BAND)
    if octaves == 1:
        return math.inf
    return 1.0 / math.pi * math.sqrt(math.log(2) / 2.0) * (octaves + 1) / (octaves - 1) / frequency


def gabor_radius(frequency: float, orientation: float, bandwidth: float = 1.0, n_stds: float = 3.0) -> int:
    """Return how far a Gabor kernel reaches from its centre along y and x, in samples.

    The parameters are those of `gabor_kernels`. As in scikit-image the window is cut along the wave's axes: that of a
    diagonal filter reaches ``n_stds / √2`` standard deviations.
    """
    angle = math.radians(orientation)
    reach = min(n_stds * gabor_sigma(frequency, bandwidth), FARTHEST)
    return math.ceil(max(abs(reach * math.cos(angle)), abs(reach * math.sin(angle)), 1))


def gabor_kernels(
    frequency: float, orientation: float, bandwidth: float = 1.0, n_stds: float = 3.0
) -> tuple[Float64, Float64]:
    """Return the even and the odd kernel of a Gabor filter.

    Parameters
    ----------
    frequency : float
        Of the wave, in cycles per sample.
    orientation : float
        Direction in which the wave travels, across its stripes, in degrees from +x (right) towards +y (down).
    bandwidth : float
        In octaves.
    n_stds : float
        Radius, in standard deviations of the Gaussian.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64, twice
        With r of `gabor_radius`. As scikit-image's, the even kernel keeps a small response to constant input.

    Notes
    -----
    ``skimage.filters.gabor`` convolves and featpipe correlates, so these are the real and imaginary part of
    scikit-image's kernel turned by 180°: the even one is the same, the odd one is negated. Responses equal
    scikit-image's, sign included.

    References
    ----------
    Daugman 1985, Uncertainty relation for resolution in space, spatial frequency, and orientation optimized by
    two-dimensional visual cortical filters; as ``skimage.filters.gabor``.
    """
    angle = math.radians(orientation)
    sigma = gabor_sigma(frequency, bandwidth)
    radius = gabor_radius(frequency, orientation, bandwidth, n_stds)
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    envelope = np.exp(-0.5 * (along**2 + across**2) / sigma**2) / (2 * np.pi * sigma**2)
    wave = 2 * np.pi * frequency * along
    return envelope * np.cos(wave), -envelope * np.sin(wave)
