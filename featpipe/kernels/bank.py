"""A bank: an ordered set of kernels, each with the labels its feature will carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = dict[str, str | int | float]
"""What is known of one feature: bank, sigma, orientation, ... in the order in which they make up its name."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """One filter at its natural size.

    Parameters
    ----------
    weights : (y, x) or (y, x, c) float64
        Applied unflipped (cross-correlation). Its centre is at ``size // 2`` on each axis.
    labels : dict
        Label to value; within a bank all label sets differ.
    """

    weights: npt.NDArray[np.float64]
    labels: Labels


@dataclass(frozen=True, eq=False)
class Bank:
    """An ordered, labelled set of kernels, all two-dimensional or all spanning the same channels."""

    kernels: tuple[Kernel, ...]

    @property
    def spans_channels(self) -> bool:
        """Whether the kernels are 3-D, (y, x, c)."""
        return self.kernels[0].weights.ndim == 3

    @property
    def size(self) -> tuple[int, int]:
        """The largest kernel edge along y and x, in taps."""
        return (
            max(kernel.weights.shape[0] for kernel in self.kernels),
            max(kernel.weights.shape[1] for kernel in self.kernels),
        )
