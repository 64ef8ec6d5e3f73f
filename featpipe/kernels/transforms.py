"""Banks that are products of vectors: Laws' masks, the Haar wavelets, the discrete cosine transform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from featpipe.kernels.bank import Kernel

LAWS: dict[str, tuple[int, ...]] = {
    "L3": (1, 2, 1),
    "E3": (-1, 0, 1),
    "S3": (-1, 2, -1),
    "L5": (1, 4, 6, 4, 1),
    "E5": (-1, -2, 0, 2, 1),
    "S5": (-1, 0, 2, 0, -1),
    "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1),
}
"""Laws' vectors: level, edge, spot, wave, ripple."""


def laws_kernels(vectors: Sequence[str]) -> list[Kernel]:
    """Return every vector along y times every vector along x.

    Parameters
    ----------
    vectors : sequence of str
        Keys of `LAWS`.

    Returns
    -------
    list of Kernel
        Weights (3, 3) or (5, 5), as they stand in the paper: whole numbers. The label ``pair`` names both vectors
        in alphabetical order; where the second of them is the one along y, ``transposed`` is ``yes``.

    References
    ----------
    Laws 1980, Textured image segmentation, University of Southern California, report USCIPI 940; and Rapid texture
    identification, Proceedings of SPIE 238.

    Examples
    --------
    >>> kernels = laws_kernels(["L5", "E5"])
    >>> [(kernel.labels["pair"], kernel.labels["transposed"]) for kernel in kernels]
    [('L5L5', 'no'), ('E5L5', 'yes'), ('E5L5', 'no'), ('E5E5', 'no')]
    """
    return [
        Kernel(
            np.outer(LAWS[down], LAWS[along]).astype(np.float64),
            {"bank": "laws", "pair": "".join(sorted((down, along))), "transposed": "yes" if down > along else "no"},
        )
        for down in vectors
        for along in vectors
    ]


def haar_kernels() -> list[Kernel]:
    """Return the Haar kernels: low and high pass along y times low and high pass along x.

    Returns
    -------
    list of 4 Kernel
        Weights (2, 2), ½ or -½. The label ``band`` is ll, lh, hl or hh, the first letter for y; the high pass is the
        first sample less the second. With stride 2 they are orthonormal.

    References
    ----------
    Haar 1910, Zur Theorie der orthogonalen Funktionensysteme, Mathematische Annalen 69; Mallat 1989, A theory for
    multiresolution signal decomposition. Signs as PyWavelets' dwt2.
    """
    vectors = {"l": (0.5, 0.5), "h": (0.5, -0.5)}
    return [
        Kernel(2 * np.outer(vectors[down], vectors[along]), {"bank": "haar", "band": down + along})
        for down in "lh"
        for along in "lh"
    ]


def dct_kernels(size: int = 8) -> list[Kernel]:
    """Return the products of cosines of the orthonormal two-dimensional DCT-II, without the constant one.

    Parameters
    ----------
    size : int
        N, edge of the kernels, in samples.

    Returns
    -------
    list of N² - 1 Kernel
        Weights (N, N), in rows of the block; labels ``half_cycles_y`` and ``half_cycles_x`` count the half cycles
        across it.

    References
    ----------
    Ahmed, Natarajan and Rao 1974, Discrete cosine transform, IEEE Transactions on Computers C-23(1); with N = 8 as
    JPEG's, ITU-T T.81, A.3.3, and as ``scipy.fft.dctn(block, norm="ortho")``.
    """
    k, n = np.mgrid[:size, :size]
    cosines = math.sqrt(2 / size) * np.cos(np.pi * k * (2 * n + 1) / (2 * size))
    cosines[0] /= math.sqrt(2)
    return [
        Kernel(np.outer(cosines[v], cosines[u]), {"bank": "dct", "half_cycles_y": v, "half_cycles_x": u})
        for v in range(size)
        for u in range(size)
        if v or u
    ]
