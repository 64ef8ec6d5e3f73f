"""Ridge regression of one-hot classes on standardised features, from normal equations summed block by block.

The answers are scikit-learn's ``RidgeClassifier``: +1 for an image's own class, -1 for the others, an intercept that is
not penalised, and the class of the largest answer.

Where there are no more features than images, the normal equations are those of the features, ZᵀZ + αI; else those of
the images, ZZᵀ + αI, with the same solution. Products are summed in float64: in float32 they take half the time, but
their rounding exceeds weak penalties where features are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from featpipe.errors import FeatpipeError, Problem
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import cut
from featpipe.probes.linear import Linear
from featpipe.probes.standard import Floats, Standard
from featpipe.probes.stream import Table
from featpipe.store.read import Indices

TILE = 512
"""Edge of the tiles in which products are computed, each by one thread, so that no bit depends on threads."""
SOLUTION_BYTES = 64 << 20
"""Most bytes of weights for several strengths that are held at once."""


def ridge_bytes(table: Table, images: int, classes: int) -> int:
    """Return the memory that ridge regression takes, in bytes: products, their factors, weights, blocks."""
    edge = min(table.width, images)
    solutions = SOLUTION_BYTES + 8 * classes * (2 * table.width + 2 * edge)
    tiles = 8 * table.threads * max(TILE, table.block_rows) ** 2
    return 16 * edge**2 + solutions + tiles + (table.threads + 2) * table.block_bytes


def targets(labels: npt.NDArray[np.int64], classes: int) -> Floats:
    """Return (n, classes) +1 for an image's own class and -1 for the others."""
    signs: Floats = 2.0 * (labels[:, None] == np.arange(classes)) - 1.0
    return signs


class FeatureEquations:
    """ZᵀZ and Zᵀ × (one column a class), to which more images can be added.

    Parameters
    ----------
    table : Table
    labels : (images,) int
        Class of every image in the store, from 0.
    classes : int
    standard : Standard
        Of the images that will be added.
    """

    def __init__(self, table: Table, labels: npt.NDArray[np.int64], classes: int, standard: Standard) -> None:
        self.table = table
        self.labels = labels
        self.standard = standard
        self.counts = np.zeros(classes)
        self.sums = np.zeros((table.width, classes))
        self.products = np.zeros((table.width, table.width))  # its upper tiles; the others stay as they are
        self.factors: Floats | None = None

    def add(self, rows: Indices, stage: str) -> None:
        """Add images."""
        table, codes = self.table, np.arange(len(self.counts))
        pairs = list(combinations_with_replacement(cut(table.width, TILE), 2))
        done = 0
        table.tell(stage, 0, len(rows))

        with ThreadPoolExecutor(table.threads) as pool:
            for block, values in table.standardised(rows, self.standard):
                members = (self.labels[block][:, None] == codes).astype(np.float64)
                self.counts += members.sum(axis=0)
                self.sums += values.T @ members

                def add_tile(pair: tuple[Span, Span], values: Floats = values) -> None:
                    a, b = (slice(span.start, span.stop) for span in pair)
                    self.products[a, b] += values[:, a].T @ values[:, b]

                list(pool.map(add_tile, pairs))
                done += len(block)
                table.tell(stage, done, len(rows))

    def restandardise(self, standard: Standard) -> None:
        """Change to another standard: of all images, when those that are missing will be added."""
        ratio = self.standard.scale / standard.scale
        step = (self.standard.mean - standard.mean) / standard.scale
        # As the features added so far sum to zero, so do the products' mixed terms.
        count = self.counts.sum()
        for span in cut(len(ratio), TILE):
            part = slice(span.start, span.stop)
            self.products[part] *= ratio[part, None] * ratio
            self.products[part] += count * step[part, None] * step
        self.sums *= ratio[:, None]
        self.sums += step[:, None] * self.counts
        self.standard = standard

    def solve(self, strengths: Sequence[float]) -> Linear:
        """Return the solution for each strength α."""
        count = self.counts.sum()
        intercept = 2.0 * self.counts / count - 1.0
        right = 2.0 * self.sums  # of ±1 less their mean too, as standardised features sum to zero
        if self.factors is None:
            self.factors = np.empty_like(self.products)
        solutions = _solve_all(self.table, self.products, self.factors, strengths, right)
        return Linear(solutions, np.tile(intercept, (len(strengths), 1)))


class ImageEquations:
    """ZZᵀ of some images, for more features than images.

    Parameters
    ----------
    table : Table
    labels : (images,) int
    classes : int
    standard : Standard
        Of these images.
    rows : (n,) int
        The images.
    memory_bytes : int
        For standardised features that are kept while others are read.
    """

    def __init__(
        self, table: Table, labels: npt.NDArray[np.int64], classes: int, standard: Standard, rows: Indices,
        memory_bytes: int,
    ) -> None:  # fmt: skip
        self.table = table
        self.standard = standard
        self.rows = rows
        self.targets = targets(labels[rows], classes)
        self.products = np.zeros((len(rows), len(rows)))
        self.factors: Floats | None = None
        self.kept_blocks = max(1, int(memory_bytes) // max(1, 8 * table.block_rows * table.width))

    def multiply(self, stage: str) -> None:
        """Compute the products, panel by panel: a panel is read and kept, and all blocks after it are read along it."""
        table, spans = self.table, cut(len(self.rows), self.table.block_rows)
        total = sum(len(self.rows) - panel[0].start for panel in self._panels(spans))
        done = 0
        table.tell(stage, 0, total)
        with ThreadPoolExecutor(table.threads) as pool:
            for panel in self._panels(spans):
                kept: list[tuple[Span, Floats]] = []
                after = self.rows[panel[0].start :]
                blocks = table.standardised(after, self.standard)
                for span, (block, values) in zip(spans[spans.index(panel[0]) :], blocks, strict=True):
                    if span.start < panel[-1].stop:
                        kept.append((span, values))

                    def add_tile(one: tuple[Span, Floats], span: Span = span, values: Floats = values) -> None:
                        a, b = slice(one[0].start, one[0].stop), slice(span.start, span.stop)
                        self.products[a, b] = one[1] @ values.T

                    list(pool.map(add_tile, kept))
                    done += len(block)
                    table.tell(stage, done, total)

    def solve(self, strengths: Sequence[float]) -> Linear:
        """Return the solution for each strength α; reads the images once more."""
        intercept = self.targets.mean(axis=0)
        if self.factors is None:
            self.factors = np.empty_like(self.products)
        duals = _solve_all(self.table, self.products, self.factors, strengths, self.targets - intercept)
        duals = np.moveaxis(duals, 0, 1)  # (n, strengths, classes)
        weights = np.zeros((self.table.width, duals[0].size))
        done = 0
        for block, values in self.table.standardised(self.rows, self.standard):
            weights += values.T @ duals[done : done + len(block)].reshape(len(block), -1)
            done += len(block)
            self.table.tell("weights", done, len(self.rows))
        shaped = weights.reshape(self.table.width, *duals.shape[1:])
        return Linear(np.moveaxis(shaped, 1, 0), np.tile(intercept, (len(strengths), 1)))

    def _panels(self, spans: list[Span]) -> list[list[Span]]:
        return [spans[at : at + self.kept_blocks] for at in range(0, len(spans), self.kept_blocks)]


def _solve_all(table: Table, products: Floats, factors: Floats, strengths: Sequence[float], right: Floats) -> Floats:
    """Return the solutions for several strengths, (strengths, edge, columns)."""
    solutions = np.empty((len(strengths), *right.shape))
    for i, alpha in enumerate(strengths):
        table.tell("solving", i, len(strengths), "equation")
        solutions[i] = _solve(products, factors, alpha, right)
    table.tell("solving", len(strengths), len(strengths), "equation")
    return solutions


def _solve(products: Floats, factors: Floats, alpha: float, right: Floats) -> Floats:
    """Return the solution of (products + αI) x = right, (edge, columns); overwrites ``factors``."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    np.copyto(factors, products)
    factors.flat[:: len(factors) + 1] += alpha
    try:
        found = cho_factor(factors.T, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        what = f"{alpha:g} is too small for these features: many of them say the same, so that nothing else decides."
        raise FeatpipeError(Problem("--strength", what, "Give a larger one.")) from None
    solution: Floats = cho_solve(found, right, check_finite=False)
    return solution
