"""Gaussians, their derivatives and differences, sampled as SciPy samples them.

Correlating with these kernels, outer products of one-dimensional ones and their sums, equals the passes of
`scipy.ndimage` under every boundary mode. SciPy divides the sampled Gaussian φ by its sum and multiplies it by the
polynomial of the derivative: smoothing has sum 1 and a first derivative 0, but a second derivative only nearly 0, and
with a sigma below 1 or a small ``truncate`` not even that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

FARTHEST = 2.0**31
"""No kernel reaches this far, in samples; keeps whatever a user may ask for within the whole numbers."""
NARROWEST = 0.02
"""Sigma below which, in float64, every sample of a Gaussian but its centre is 0."""


def gaussian_radius(sigma: float, truncate: float) -> int:
    """Return how far a kernel reaches from its centre, in samples, as in ``scipy.ndimage.gaussian_filter``.

    Parameters
    ----------
    sigma : float
        Standard deviation, in samples.
    truncate : float
        Radius, in sigmas.
    """
    return int(min(truncate * sigma + 0.5, FARTHEST)) if sigma >= NARROWEST else 0


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> Float64:
    """Return a Gaussian of sum 1.

    Parameters
    ----------
    sigma : float
        Standard deviation, in samples.
    truncate : float
        Radius, in sigmas.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64
        With r of `gaussian_radius`.

    References
    ----------
    ``scipy.ndimage.gaussian_filter``.
    """
    row = _row(sigma, truncate, 0)
    return np.outer(row, row)


def gradient_kernels(sigma: float, truncate: float = 4.0) -> tuple[Float64, Float64]:
    """Return the first derivatives of a Gaussian along y and along x, positive where the values rise.

    Parameters
    ----------
    sigma : float
        Standard deviation, in samples.
    truncate : float
        Radius, in sigmas; at least one sample.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64, twice

    References
    ----------
    ``scipy.ndimage.gaussian_filter`` with order (1, 0) and (0, 1); the modulus of both is
    ``scipy.ndimage.gaussian_gradient_magnitude``.
    """
    along_y = np.outer(_row(sigma, truncate, 1), _row(sigma, truncate, 0))
    return along_y, along_y.T.copy()


def derivative_kernel(sigma: float, orders: tuple[int, int], truncate: float = 4.0) -> Float64:
    """Return a Gaussian's derivative.

    Parameters
    ----------
    sigma : float
        Standard deviation, in samples. Responses are not normalised for scale; that takes a factor of sigma^order.
    orders : (int, int)
        Of the derivative along y and along x, each 0 to 2.
    truncate : float
        Radius, in sigmas; at least one sample unless both orders are 0.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64

    References
    ----------
    Koenderink and van Doorn 1987, Representation of local geometry in the visual system; as
    ``scipy.ndimage.gaussian_filter(image, sigma, order=orders)``.
    """
    return np.outer(_row(sigma, truncate, orders[0]), _row(sigma, truncate, orders[1]))


def log_kernel(sigma: float, truncate: float = 4.0) -> Float64:
    """Return the Laplacian of a Gaussian: negative in the centre, so bright blobs answer negatively.

    Parameters
    ----------
    sigma : float
        Standard deviation, in samples. The response is not normalised for scale; that takes a factor of sigma².
    truncate : float
        Radius, in sigmas; at least one sample.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64

    References
    ----------
    Marr and Hildreth 1980, Theory of edge detection; as ``scipy.ndimage.gaussian_laplace``.
    """
    along_y = np.outer(_row(sigma, truncate, 2), _row(sigma, truncate, 0))
    return along_y + along_y.T


def dog_kernel(sigma: float, ratio: float = 1.6, truncate: float = 4.0) -> Float64:
    """Return a Gaussian less a wider one, each cut off at its own radius.

    Parameters
    ----------
    sigma : float
        Standard deviation of the narrower, in samples.
    ratio : float
        The wider's sigma over the narrower's.
    truncate : float
        Radius of each, in its own sigmas.

    Returns
    -------
    (2 r + 1, 2 r + 1) float64
        With the wider's r; positive in the centre.

    References
    ----------
    Marr and Hildreth 1980, Theory of edge detection (ratio 1.6); as ``skimage.filters.difference_of_gaussians``.
    """
    kernel = -gaussian_kernel(ratio * sigma, truncate)
    margin = gaussian_radius(ratio * sigma, truncate) - gaussian_radius(sigma, truncate)
    inner = slice(margin, len(kernel) - margin)
    kernel[inner, inner] += gaussian_kernel(sigma, truncate)
    return kernel


def _row(sigma: float, truncate: float, order: int) -> Float64:
    """Return the taps that, correlated, give the derivative of this order of the smoothed signal; of one tap, 0."""
    radius = gaussian_radius(sigma, truncate)
    if radius == 0:
        return np.full(1, 1.0 if order == 0 else 0.0)
    x = np.arange(-radius, radius + 1.0)
    phi = np.exp(-0.5 * (x / sigma) ** 2)
    phi /= phi.sum()
    match order:
        case 0:
            return phi
        case 1:
            return x / sigma**2 * phi
        case _:
            return (x**2 / sigma**2 - 1) / sigma**2 * phi
