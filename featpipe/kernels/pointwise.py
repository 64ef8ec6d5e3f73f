"""Functions of one value, or of one pixel's features, that need more than a few operations.

NumPy's float32 loops give a value the same bits wherever it stands in a contiguous array, so blocks must be contiguous.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
SIMPLE = ("relu", "abs", "square", "sqrt", "soft-threshold", "split")
"""Activations that need no more; `featpipe.kernels.stages` computes them."""


def activate(block: Float32, name: str) -> Float32:
    """Apply an activation to every value of a block.

    Parameters
    ----------
    block : (n, y, x, k) float32
        C-contiguous.
    name : str
        tanh, sigmoid or triangle.

    Returns
    -------
    (n, y, x, k) float32
    """
    zero = np.float32(0)
    match name:
        case "tanh":
            return np.tanh(block, dtype=np.float32)
        case "sigmoid":
            # of -|z|, so that exp never overflows
            e = np.exp(-np.abs(block))
            return np.divide(np.where(block >= 0, np.float32(1), e), np.float32(1) + e, dtype=np.float32)
        case "triangle":
            below: Float32 = _feature_mean(block) - block
            return np.maximum(below, zero)
    raise ValueError(f"no activation is called {name!r}")


def _feature_mean(block: Float32) -> Float32:
    """Return the mean over features, (n, y, x, 1), summed in float64 in the features' order."""
    total = np.zeros((*block.shape[:3], 1))
    for k in range(block.shape[3]):
        total[..., 0] += block[..., k]
    mean: Float32 = (total / block.shape[3]).astype(np.float32)
    return mean
