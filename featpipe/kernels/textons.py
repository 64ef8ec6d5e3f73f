"""The filters with which textures were first told apart by textons: Leung and Malik's, Schmid's, Varma and Zisserman's.

All are normalised as Varma and Zisserman do: less their mean, then divided by the sum of their absolute values, so that
responses do not see the mean brightness and have one range.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from featpipe.kernels.bank import Kernel, Labels

Float64 = npt.NDArray[np.float64]

TURNS = 6
"""Orientations of edges and bars."""
ELONGATION = 3.0
"""Sigma along an edge or bar over sigma across it."""
BLOB = 10.0
"""Sigma of the Gaussian and the Laplacian of Gaussian of the root filter set, in samples."""
RIPPLES = ((2, 1), (4, 1), (4, 2), (6, 1), (6, 2), (6, 3), (8, 1), (8, 2), (8, 3), (10, 1), (10, 2), (10, 3), (10, 4))
"""Sigma in samples and tau, the number of cycles within 2 sigma, of Schmid's filters."""
LM_FIRST = {"large": 1, "small": 0}
"""Sigma of the first edges and bars, as a power of √2."""


def lm_kernels(variant: str = "large", size: int = 49) -> list[Kernel]:
    """Return the Leung-Malik bank: 18 edges, 18 bars and, at each of 4 scales, a Gaussian and two Laplacians.

    Parameters
    ----------
    variant : str
        ``large``: edges and bars of sigma √2, 2 and 2√2 samples, Gaussians of √2, 2, 2√2 and 4; ``small``: all
        divided by √2. Laplacians have the Gaussians' sigmas and three times those.
    size : int
        Edge of the kernels, in samples; odd.

    Returns
    -------
    list of 48 Kernel
        Weights (size, size), in VGG's order.

    References
    ----------
    Leung and Malik 2001, Representing and recognizing the visual appearance of materials using three-dimensional
    textons, International Journal of Computer Vision 43(1); scales and normalisation as the Visual Geometry Group's
    makeLMfilters (LML; small: LMS), turned by 180° so that correlating gives its responses.
    """
    first = LM_FIRST[variant]
    sigmas = [2.0 ** (power / 2) for power in range(first, first + 4)]
    kernels = oriented_kernels("lm", sigmas[:3], size)
    for sigma in sigmas:
        kernels.append(_blob("lm", "gaussian", sigma, size))
        kernels += [_blob("lm", "log", factor * sigma, size) for factor in (1.0, 3.0)]
    return kernels


def rfs_kernels(sigmas: list[float], size: int = 49) -> list[Kernel]:
    """Return the root filter set: edges and bars at 6 orientations, a Gaussian and its Laplacian of sigma 10.

    Parameters
    ----------
    sigmas : list of float
        Standard deviations across edges and bars, in samples; 1, 2 and 4 in the paper.
    size : int
        Edge of the kernels, in samples; odd.

    Returns
    -------
    list of Kernel
        Weights (size, size), in VGG's order: 12 for each sigma, then 2.

    References
    ----------
    Varma and Zisserman 2005, A statistical approach to texture classification from single images, International
    Journal of Computer Vision 62(1-2); as the Visual Geometry Group's makeRFSfilters, turned by 180° so
    that correlating gives its responses.
    """
    return [*oriented_kernels("rfs", sigmas, size), *(_blob("rfs", kind, BLOB, size) for kind in ("gaussian", "log"))]


def schmid_kernels(size: int = 49) -> list[Kernel]:
    """Return Schmid's isotropic filters, cos(π τ r / σ) · exp(-r² / 2σ²).

    Parameters
    ----------
    size : int
        Edge of the kernels, in samples; odd.

    Returns
    -------
    list of 13 Kernel
        Weights (size, size).

    References
    ----------
    Schmid 2001, Constructing models for content-based image retrieval, CVPR; sigma, tau and normalisation as
    the Visual Geometry Group's makeSfilters.
    """
    half = size // 2
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    kernels = []
    for sigma, tau in RIPPLES:
        ripple = np.cos(np.pi * tau / sigma * radius) * np.exp(-0.5 * (radius / sigma) ** 2)
        kernels.append(Kernel(_normalise(ripple), {"bank": "schmid", "sigma": float(sigma), "tau": tau}))
    return kernels


def oriented_kernels(bank: str, sigmas: list[float], size: int) -> list[Kernel]:
    """Return first (edge) and second (bar) derivatives of Gaussians three times as long as they are wide.

    Parameters
    ----------
    bank : str
        For the labels.
    sigmas : list of float
        Across, in the derivative's direction, in samples.
    size : int
        Edge of the kernels, in samples; odd.

    Returns
    -------
    list of Kernel
        All edges, then all bars, (size, size); the label ``orientation`` is the derivative's direction in degrees
        from +x (right) towards +y (down). VGG's order begins at 90.
    """
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    kernels = []
    for kind in ("edge", "bar"):
        for sigma in sigmas:
            for turn in range(TURNS):
                angle = math.pi * turn / TURNS
                along = x * math.cos(angle) + y * math.sin(angle)
                across = x * math.sin(angle) - y * math.cos(angle)
                gaussian = np.exp(-0.5 * ((across / sigma) ** 2 + (along / (ELONGATION * sigma)) ** 2))
                # Positive where values rise along `across`: a first derivative is odd, and this is a correlation.
                shape = across if kind == "edge" else (across / sigma) ** 2 - 1
                direction = (90.0 + 180.0 * turn / TURNS) % 180.0
                labels: Labels = {"bank": bank, "kind": kind, "sigma": sigma, "orientation": direction}
                kernels.append(Kernel(_normalise(shape * gaussian), labels))
    return kernels


def _blob(bank: str, kind: str, sigma: float, size: int) -> Kernel:
    half = size // 2
    squares = np.arange(-half, half + 1.0) ** 2
    distances = np.add.outer(squares, squares) / sigma**2
    gaussian = np.exp(-0.5 * distances)
    weights = gaussian if kind == "gaussian" else (distances - 2) * gaussian
    return Kernel(_normalise(weights), {"bank": bank, "kind": kind, "sigma": sigma})


def _normalise(weights: Float64) -> Float64:
    centred: Float64 = weights - weights.mean()
    centred /= np.abs(centred).sum()
    return centred
