"""The classic kernels: 3×3 stencils known by name, and the box and binomial smoothing of any size.

All weights are for cross-correlation. The pairs give the derivative along y (down) and along x (right), positive where
the values rise, so that they equal ``skimage.filters.sobel(image, axis=0)`` and ``axis=1`` in sign and scale; their
modulus is √2 times ``skimage.filters.sobel(image)``, which divides by the number of axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Rows = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Stencil:
    """A 3×3 kernel: what it does, who says so, and its weights, row by row."""

    summary: str
    source: str
    rows: Rows


@dataclass(frozen=True)
class Derivatives:
    """A pair of 3×3 kernels: [-1 0 1] along one axis, ``smooth`` along the other."""

    summary: str
    source: str
    smooth: tuple[float, float, float]


CLASSICS: Mapping[str, Stencil | Derivatives] = {
    "identity": Stencil(
        "The input itself, on the samples that a 3×3 kernel reaches.",
        "scipy.ndimage.correlate with a unit impulse.",
        ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    ),
    "sobel": Derivatives(
        "First derivatives along y and x, smoothed by [1 2 1]/4 across; modulus gives the gradient magnitude.",
        "Sobel and Feldman 1968; as skimage.filters.sobel, a quarter of scipy.ndimage.sobel.",
        (1 / 4, 2 / 4, 1 / 4),
    ),
    "scharr": Derivatives(
        "First derivatives along y and x, smoothed by [3 10 3]/16 across: more isotropic than Sobel's.",
        "Scharr 2000, Optimale Operatoren in der Digitalen Bildverarbeitung; as skimage.filters.scharr.",
        (3 / 16, 10 / 16, 3 / 16),
    ),
    "prewitt": Derivatives(
        "First derivatives along y and x, smoothed by [1 1 1]/3 across.",
        "Prewitt 1970, Object enhancement; as skimage.filters.prewitt, a third of scipy.ndimage.prewitt.",
        (1 / 3, 1 / 3, 1 / 3),
    ),
    "laplacian": Stencil(
        "Sum of the second differences along y and x (4 neighbours).",
        "scipy.ndimage.laplace.",
        ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    ),
    "outline": Stencil(
        "8 times the centre less its 8 neighbours: edges of any direction, and single points.",
        "Gonzalez and Woods, Digital Image Processing, the Laplacian with diagonal terms.",
        ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    ),
    "sharpen": Stencil(
        "The input less its 4-neighbour Laplacian.",
        "Gonzalez and Woods, Digital Image Processing, sharpening with the Laplacian.",
        ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    ),
    "emboss": Stencil(
        "A relief lit from the upper left: the input plus its derivative along the diagonal.",
        "Common to image editors, e.g. GIMP's convolution matrix.",
        ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
    ),
}
"""Every classic bank, in the order in which they are listed."""


def classic_kernels(name: str) -> dict[str, Float64]:
    """Return the kernels of a classic bank.

    Parameters
    ----------
    name : str
        A key of `CLASSICS`.

    Returns
    -------
    dict of str to (3, 3) float64
        Component to weights: ``y`` and ``x`` of a pair, or one kernel whose component is ``""``.

    Examples
    --------
    >>> classic_kernels("sobel")["x"]
    array([[-0.25,  0.  ,  0.25],
           [-0.5 ,  0.  ,  0.5 ],
           [-0.25,  0.  ,  0.25]])
    """
    known = CLASSICS[name]
    if isinstance(known, Stencil):
        return {"": np.array(known.rows, np.float64)}
    along_y = np.outer([-1.0, 0.0, 1.0], known.smooth)
    return {"y": along_y, "x": along_y.T.copy()}


def box_kernel(size: int) -> Float64:
    """Return the mean of a square.

    Parameters
    ----------
    size : int
        Edge, in samples. An even square reaches one sample further up and left than down and right.

    Returns
    -------
    (size, size) float64
        Of sum 1.

    References
    ----------
    ``scipy.ndimage.uniform_filter``.
    """
    return np.full((size, size), 1 / size**2)


def binomial_kernel(size: int) -> Float64:
    """Return a row of Pascal's triangle along y times the same along x.

    Parameters
    ----------
    size : int
        Edge, in samples; the standard deviation is √(size - 1) / 2 samples.

    Returns
    -------
    (size, size) float64
        Of sum 1.

    References
    ----------
    Burt and Adelson 1983, The Laplacian pyramid as a compact image code: size 5, [1 4 6 4 1]/16.

    Examples
    --------
    >>> binomial_kernel(3) * 16
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    # Python divides whole numbers of any length correctly, where floats would overflow from size 1031 on.
    row = np.array([math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)])
    return np.outer(row, row)
