"""Mean and deviation of features, block by block, and standardising by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of every feature, in float64."""

    count: int
    mean: Floats
    """(d,)"""
    squares: Floats
    """(d,) sum of squared deviations from the mean."""

    @classmethod
    def empty(cls, width: int) -> Moments:
        """Return the moments of no images."""
        return cls(0, np.zeros(width), np.zeros(width))

    @classmethod
    def of(cls, values: npt.NDArray[np.floating]) -> Moments:
        """Return the moments of (n, d) features. A constant feature's are exact."""
        if not len(values):
            return cls.empty(values.shape[1])
        with np.errstate(invalid="ignore", over="ignore"):
            mean = values.mean(axis=0, dtype=np.float64)
            apart = values - mean
            return cls(len(values), mean, np.einsum("ij,ij->j", apart, apart))

    def join(self, other: Moments) -> Moments:
        """Return the moments of two sets of images together.

        Source: T. F. Chan, G. H. Golub, R. J. LeVeque, Updating formulae and a pairwise algorithm for computing
        sample variances, 1979.
        """
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        mean = other.mean if not self.count else self.mean + step * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + step**2 * (self.count * other.count / count))

    def standard(self) -> Standard:
        """Return how to standardise by these moments.

        A feature whose deviation is no more than the rounding of its mean counts as constant and is only centred: the
        bound is scikit-learn's, from the same source as `join`.
        """
        variance = self.squares / max(1, self.count)
        tiny = np.finfo(np.float64).eps * self.count
        constant = variance <= tiny * variance + (tiny * self.mean) ** 2
        return Standard(self.mean, np.where(constant, 1.0, np.sqrt(variance)), constant)


@dataclass(frozen=True, eq=False)
class Standard:
    """What every feature has subtracted, and is then divided by."""

    mean: Floats
    """(d,)"""
    scale: Floats
    """(d,) standard deviation; 1 where a feature is constant."""
    constant: npt.NDArray[np.bool_]
    """(d,)"""

    def apply(self, values: npt.NDArray[np.floating]) -> Floats:
        """Return (n, d) features, standardised, in float64."""
        result: Floats = values - self.mean
        result /= self.scale
        return result
