"""Functions of one value, or of one pixel's features.

NumPy's float32 loops give a value the same bits wherever it stands in a contiguous array, so blocks must be contiguous.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def activate(block: Float32, name: str, threshold: float = 0.0) -> Float32:
    """Apply an activation to every value of a block.

    Parameters
    ----------
    block : (n, y, x, k) float32
        C-contiguous.
    name : str
        relu, abs, square, sqrt (negative values count as 0), tanh, sigmoid, soft-threshold, split or triangle.
    threshold : float
        Of ``split`` and ``soft-threshold``.

    Returns
    -------
    (n, y, x, k) or, for split, (n, y, x, 2k) float32
        ``split`` gives all positive halves, then all negative ones.
    """
    zero, t = np.float32(0), np.float32(threshold)
    match name:
        case "relu":
            return np.maximum(block, zero)
        case "abs":
            return np.abs(block)
        case "square":
            return block * block
        case "sqrt":
            return np.sqrt(np.maximum(block, zero))
        case "tanh":
            return np.tanh(block, dtype=np.float32)
        case "sigmoid":
            # of -|z|, so that exp never overflows
            e = np.exp(-np.abs(block))
            return np.divide(np.where(block >= 0, np.float32(1), e), np.float32(1) + e, dtype=np.float32)
        case "soft-threshold":
            shrunk: Float32 = np.maximum(np.abs(block) - t, zero)
            np.copysign(shrunk, block, out=shrunk)
            return shrunk
        case "split":
            return np.concatenate([np.maximum(block - t, zero), np.maximum(-block - t, zero)], axis=3)
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


def standardise(block: Float32, mean: Float32, std: Float32) -> Float32:
    """Return (block - mean) / std, feature by feature; ``mean`` and ``std`` are (k,) or (1,)."""
    out: Float32 = (block - mean) / std
    return out
