"""Linear classifiers at work: the class of the largest answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.probes.standard import Floats, Standard
from featpipe.probes.stream import Table
from featpipe.store.read import Indices


@dataclass(frozen=True, eq=False)
class Linear:
    """Linear functions of standardised features, a set of them for each strength tried."""

    weights: Floats
    """(strengths, d, classes)"""
    intercept: Floats
    """(strengths, classes)"""

    def answer(self, values: Floats, known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the class of each image for each strength, (strengths, n).

        Parameters
        ----------
        values : (n, d) float64
            Standardised features.
        known : (classes,) int
            The class of every column of the weights.
        """
        return np.stack(
            [known[np.argmax(values @ w + b, axis=1)] for w, b in zip(self.weights, self.intercept, strict=True)]
        )


def answer_all(
    table: Table, rows: Indices, standard: Standard, linear: Linear, known: npt.NDArray[np.int64], stage: str
) -> npt.NDArray[np.int64]:
    """Return the class of each of ``rows`` for each strength, (strengths, n).

    Raises
    ------
    StoreError
        If a feature of one of them is not a finite number.
    """

    def work(block: Indices) -> npt.NDArray[np.int64]:
        values = standard.apply(table.read(block))
        table.check_finite(values, block)
        return linear.answer(values, known)

    return np.concatenate([found for _, found in table.map(work, rows, stage)], axis=1)
