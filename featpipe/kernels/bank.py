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


def feature_name(labels: Labels) -> str:
    """Write a feature's labels as its name: the bank, then ``label=value`` for the others.

    Two features with different labels have different names: numbers are written as short as they can be read back.

    Examples
    --------
    >>> feature_name({"bank": "gabor", "frequency": 0.2, "orientation": 45.0, "component": "even", "channel": "red"})
    'gabor frequency=0.2 orientation=45 component=even channel=red'
    >>> feature_name({"polarity": -1, "bank": "random", "kernel": 3})
    'random polarity=-1 kernel=3'
    """
    words = [str(labels["bank"])] if "bank" in labels else []
    return " ".join(words + [f"{label}={_value_text(label, labels[label])}" for label in labels if label != "bank"])


def _value_text(label: str, value: str | int | float) -> str:
    if isinstance(value, float):
        return repr(float(value)).removesuffix(".0")
    # A polarity that passed through another convolution is called input_polarity.
    return f"{value:+d}" if isinstance(value, int) and label.endswith("polarity") else str(value)
