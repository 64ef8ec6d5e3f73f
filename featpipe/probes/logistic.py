"""Multinomial logistic regression with an L2 penalty, by L-BFGS, each of whose steps is a pass over the images.

The objective is that of scikit-learn's ``LogisticRegression(C)``, with C = 1 / strength: the sum of the images' losses
plus strength / 2 × the sum of squared weights, the intercept free. Two classes share one set of weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featpipe.probes.linear import Linear
from featpipe.probes.standard import Floats, Standard
from featpipe.probes.stream import Table, in_order
from featpipe.store.read import Indices

MOST_STEPS = 500
TOLERANCE = 1e-4
"""Largest entry of the gradient of the mean loss at which the search ends; scikit-learn's."""
HISTORY = 10
"""Steps that L-BFGS remembers."""

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Found:
    """Where a search ended."""

    linear: Linear
    parameters: Floats
    """(columns × (d + 1)) weights and intercept, to start the next search from."""
    steps: int
    converged: bool


def logistic_bytes(table: Table, classes: int) -> int:
    """Return the memory that the search takes but for kept features, in bytes."""
    parameters = 8 * classes * (table.width + 1)
    return (2 * HISTORY + 6 + 2 * table.threads) * parameters + (table.threads + 2) * table.block_bytes


@dataclass
class Search:
    """Logistic regression on some images.

    Parameters
    ----------
    table : Table
    rows : (n,) int
        Images.
    labels : (images,) int
        Class of every image in the store, from 0.
    classes : int
    standard : Standard
        Of the images.
    memory_bytes : int
        What kept features may take; if all fit, the store is read once.
    """

    table: Table
    rows: Indices
    labels: npt.NDArray[np.int64]
    classes: int
    standard: Standard
    memory_bytes: int
    tolerance: float = TOLERANCE
    kept: dict[int, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blocks = self.table.blocks(self.rows)
        self.columns = 1 if self.classes == 2 else self.classes
        self.keeps_bytes = 4 * len(self.rows) * self.table.width
        self.keeps = self.keeps_bytes <= self.memory_bytes

    def run(self, strength: float, start: Floats | None, stage: str) -> Found:
        """Search the minimum for a strength, from where another search ended."""
        from scipy.optimize import minimize

        width = self.table.width + 1
        first = np.zeros(self.columns * width) if start is None else start
        passes = 0
        self.table.tell(stage, 0)

        def objective(parameters: Floats) -> tuple[float, Floats]:
            nonlocal passes
            result = self.objective(parameters, strength)
            passes += 1
            self.table.tell(stage, passes * len(self.rows))
            return result

        # As scikit-learn has it, but for the number of steps.
        options = {"maxiter": MOST_STEPS, "maxls": 50, "gtol": self.tolerance, "ftol": 64 * np.finfo(float).eps}
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options={**options, "maxcor": HISTORY})
        return Found(self._linear(found.x), found.x, int(found.nit), bool(found.success))

    def objective(self, parameters: Floats, strength: float) -> tuple[float, Floats]:
        """Return the objective per image and its gradient."""
        count, shaped = len(self.rows), parameters.reshape(self.columns, -1)
        weights, intercept = shaped[:, :-1], shaped[:, -1]
        narrow = weights.astype(np.float32)

        def work(i: int) -> tuple[float, Floats]:
            values = self._values(i)
            scores = (values @ narrow.T).astype(np.float64) + intercept
            loss, slopes = self._losses(scores, self.labels[self.blocks[i]])
            gradient = np.empty_like(shaped)
            gradient[:, :-1] = slopes.astype(np.float32).T @ values
            gradient[:, -1] = slopes.sum(axis=0)
            return loss, gradient

        total, gradient = 0.0, np.zeros_like(shaped)
        for loss, part in in_order(work, range(len(self.blocks)), self.table.threads):
            total += loss
            gradient += part
        gradient[:, :-1] += strength * weights
        penalty = 0.5 * strength * float(np.sum(weights**2))
        return (total + penalty) / count, gradient.ravel() / count

    def _losses(self, scores: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, Floats]:
        """Return the sum of the losses, and the loss's derivative by each score."""
        from scipy.special import expit, log_softmax

        if self.columns == 1:
            ones = labels[:, None] == 1
            loss = np.logaddexp(0.0, np.where(ones, -scores, scores)).sum()
            return float(loss), expit(scores) - ones
        logarithms = log_softmax(scores, axis=1)
        own = np.arange(len(labels)), labels
        slopes = np.exp(logarithms)
        slopes[own] -= 1.0
        return -float(logarithms[own].sum()), slopes

    def _values(self, i: int) -> Values:
        """Return the standardised features of a block."""
        if i in self.kept:
            return self.kept[i]
        values = self.standard.apply(self.table.read(self.blocks[i])).astype(np.float32)
        if self.keeps:
            self.kept[i] = values
        return values

    def _linear(self, parameters: Floats) -> Linear:
        shaped = parameters.reshape(self.columns, -1)
        if self.columns == 1:  # the difference of two classes' scores
            shaped = np.concatenate([-shaped, shaped]) / 2
        return Linear(shaped[None, :, :-1].transpose(0, 2, 1), shaped[None, :, -1])
