"""Separable kernels: a bank's kernels as sums of products of columns and rows, found by rank.

A kernel of rank r is a sum of r products of a column and a row (its singular value decomposition), so a pass along y
and one along x replace rows · columns multiply-adds by r · (rows + columns). Gaussians and their derivatives have rank
1, a Laplacian of Gaussian and each part of an isotropic Gabor filter rank 2. Kernels share columns where they can: the
even and the odd part of a Gabor filter do, and so do the filters at angles θ and -θ, which share rows as well. Four of
them are mixtures of four products, each made once::

    kernels  ≈  columns · rows            [ k × (y, x) ]  ≈  [ (y, r) ] · [ k × (r, x) ]
    kernels  ≈  columns · core · rows     [ k × (y, x) ]  ≈  [ (y, r) ] · [ k × (r, s) ] · [ (s, x) ]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

NEGLIGIBLE = 3e-7
"""Singular values below this share of the largest are left out: kernels written in float32 carry noise of that size."""
NEAR = 1 - 1e-6
"""Share of a kernel's foremost column that lies among those which span it, at least; far below what noise takes."""
GAIN = 2.0
"""Two passes must save this factor of multiply-adds, for they keep the registers less busy than one."""
CORE_GAIN = 1.25
"""The same of a third one."""
LARGE = 512
"""Edge of a kernel, in samples, above which its rank is found by a sketch: to decompose 2,551² takes half a minute."""


@dataclass(frozen=True, eq=False)
class Factors:
    """Kernels that share their columns, and their rows too where there is a core.

    Parameters
    ----------
    members : tuple of int
        Which kernels of the group.
    columns : (y, r) float32
    rows : (k, r, x) or (s, x) float32
    core : (k, r, s) float32, optional
    """

    members: tuple[int, ...]
    columns: Float32
    rows: Float32
    core: Float32 | None = None

    @property
    def multiplies(self) -> int:
        """Multiply-adds of one pixel for all members."""
        if self.core is None:
            return int(self.columns.size + self.rows.size)
        return int(self.columns.size + self.columns.shape[1] * self.rows.size + self.core.size)

    def kernels(self) -> Float64:
        """Return the kernels that these stand for, (k, y, x)."""
        rows = self.rows.astype(np.float64)
        return self.columns @ (rows if self.core is None else self.core @ rows)


def factorise(kernels: Float64) -> tuple[Factors, ...]:
    """Factorise kernels of one size where that pays.

    Parameters
    ----------
    kernels : (k, y, x) float64

    Returns
    -------
    tuple of Factors
        Holding every kernel once; empty where one pass costs less.
    """
    parts: list[list[int]] = []
    spans = _Spans(kernels.shape[1])
    for i, kernel in enumerate(kernels):
        own = _span(kernel)
        for part in spans.near(own[:, 0] if kernel.any() else None):
            if own.shape == spans.columns[part].shape and _spans(spans.columns[part], kernel):
                parts[part].append(i)
                break
        else:
            parts.append([i])
            spans.add(own)
    pairs = zip(parts, spans.columns, strict=True)
    factors = tuple(_factorise(kernels[part], span, tuple(part)) for part, span in pairs)
    return factors if sum(part.multiplies for part in factors) * GAIN <= kernels.size else ()


def _span(matrix: Float64) -> Float64:
    """Return orthonormal columns that span those of a matrix."""
    if min(matrix.shape) > LARGE:
        return _sketched_span(matrix)
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return left[:, : max(1, int(np.count_nonzero(values > NEGLIGIBLE * values[0])))]


def _sketched_span(matrix: Float64) -> Float64:
    """Return the same of a large matrix; of one whose rank is too high to pay, columns that span everything.

    The columns of a matrix times a few random ones span its own, but for what is negligible (Halko, Martinsson and
    Tropp 2011, algorithm 4.1).
    """
    most = min(matrix.shape) // 4
    draw, width = np.random.default_rng(0), 16
    while width <= most:
        basis, _ = np.linalg.qr(matrix @ draw.standard_normal((matrix.shape[1], width)))
        if _spans(basis, matrix):
            left, values, _ = np.linalg.svd(basis.T @ matrix, full_matrices=False)
            rank = max(1, int(np.count_nonzero(values > NEGLIGIBLE * values[0])))
            found: Float64 = basis @ left[:, :rank]
            return found
        width *= 4
    return np.eye(len(matrix))


def _spans(columns: Float64, kernel: Float64) -> bool:
    """Tell whether orthonormal columns span those of a kernel."""
    rest = kernel - columns @ (columns.T @ kernel)
    return bool(np.linalg.norm(rest) <= NEGLIGIBLE * np.linalg.norm(kernel))


class _Spans:
    """The columns of all parts so far, side by side: which of them may span a kernel's is one product."""

    def __init__(self, length: int) -> None:
        self.columns: list[Float64] = []
        self._rows = np.empty((64, length))
        self._starts = np.empty(64, np.int64)
        self._used = 0

    def add(self, columns: Float64) -> None:
        """Take on the columns of another part."""
        many = columns.shape[1]
        while self._used + many > len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        if len(self.columns) == len(self._starts):
            self._starts = np.concatenate([self._starts, np.empty_like(self._starts)])
        self._rows[self._used : self._used + many] = columns.T
        self._starts[len(self.columns)] = self._used
        self.columns.append(columns)
        self._used += many

    def near(self, direction: Float64 | None) -> list[int]:
        """Return the parts whose columns span a unit vector but for noise; all parts where there is none."""
        if direction is None or not self.columns:
            return list(range(len(self.columns)))
        along = np.square(self._rows[: self._used] @ direction)
        found: list[int] = np.flatnonzero(np.add.reduceat(along, self._starts[: len(self.columns)]) >= NEAR).tolist()
        return found


def _factorise(kernels: Float64, columns: Float64, members: tuple[int, ...]) -> Factors:
    """Factorise kernels over the columns that they share, and over rows if they share those."""
    apart = Factors(members, columns.astype(np.float32), (columns.T @ kernels).astype(np.float32))
    if len(kernels) == 1:  # there is nobody to share rows with
        return apart
    rows = _span(np.concatenate(kernels).T).T
    core = columns.T @ kernels @ rows.T
    shared = Factors(members, apart.columns, rows.astype(np.float32), core.astype(np.float32))
    return shared if shared.multiplies * CORE_GAIN <= apart.multiplies else apart
