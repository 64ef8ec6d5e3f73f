"""Separable kernels: a bank's kernels as sums of products of columns and rows, found by rank.

A kernel of rank r is a sum of r products of a column and a row (its singular value decomposition), so a pass along y
and one along x replace rows · columns multiply-adds by r · (rows + columns). Gaussians and their derivatives have rank
1, a Laplacian of Gaussian and each part of an isotropic Gabor filter rank 2; the even and the odd part of one share
both columns::

    kernels  ≈  Σ  column ⊗ row            [ k × (y, x) ]  ≈  [ (y, r) ] · [ k × (r, x) ]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

NEGLIGIBLE = 3e-7
"""Singular values below this share of the largest are left out: kernels written in float32 carry noise of that size."""
GAIN = 2.0
"""Two passes must save this factor of multiply-adds, for they keep the registers less busy than one."""


@dataclass(frozen=True, eq=False)
class Factors:
    """Kernels that share their columns.

    Parameters
    ----------
    members : tuple of int
        Which kernels of the group.
    columns : (y, r) float32
    rows : (k, r, x) float32
        Kernel k is ``columns @ rows[k]``.
    """

    members: tuple[int, ...]
    columns: Float32
    rows: Float32

    @property
    def multiplies(self) -> int:
        """Multiply-adds of one pixel for all members."""
        return self.columns.size + self.rows.size


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
    parts: list[Factors] = []
    for i in range(len(kernels)):
        alone = _share_columns(kernels, (i,))
        if parts:
            joint = _share_columns(kernels, (*parts[-1].members, i))
            if joint.multiplies < parts[-1].multiplies + alone.multiplies:
                parts[-1] = joint
                continue
        parts.append(alone)
    cost = sum(part.multiplies for part in parts)
    return tuple(parts) if cost * GAIN <= kernels.size else ()


def _share_columns(kernels: Float64, members: Sequence[int]) -> Factors:
    """Factorise some kernels over a common set of columns, the fewest that hold them all."""
    _, rows, cols = kernels.shape
    side_by_side = np.concatenate([kernels[i] for i in members], axis=1)
    left, values, right = np.linalg.svd(side_by_side, full_matrices=False)
    rank = max(1, int(np.count_nonzero(values > NEGLIGIBLE * values[0])))
    root = np.sqrt(values[:rank])
    along = (root[:, None] * right[:rank]).reshape(rank, len(members), cols).transpose(1, 0, 2)
    columns = np.ascontiguousarray(left[:, :rank] * root, np.float32)
    assert columns.shape[0] == rows
    return Factors(tuple(members), columns, np.ascontiguousarray(along, np.float32))
