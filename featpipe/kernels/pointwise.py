"""Functions of one value, or of one pixel's features, that need more than a few operations.

NumPy's float32 loops give a value the same bits wherever it stands in a contiguous array, so blocks must be contiguous.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
SIMPLE = ("relu", "abs", "square", "sqrt", "soft-threshold", "split")
"""Activations of one value that need no more; `featpipe.kernels.stages` computes them."""
ENCODERS = ("triangle", "hard", "nearest")
"""Activations across the features of a pixel; `featpipe.kernels.across` computes them."""


def activate(block: Float32, name: str) -> Float32:
    """Apply an activation to every value of a block.

    Parameters
    ----------
    block : (n, y, x, k) float32
        C-contiguous.
    name : str
        tanh or sigmoid.

    Returns
    -------
    (n, y, x, k) float32
    """
    match name:
        case "tanh":
            return np.tanh(block, dtype=np.float32)
        case "sigmoid":
            # of -|z|, so that exp never overflows
            e = np.exp(-np.abs(block))
            return np.divide(np.where(block >= 0, np.float32(1), e), np.float32(1) + e, dtype=np.float32)
    raise ValueError(f"no activation is called {name!r}")
