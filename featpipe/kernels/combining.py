"""Formulas of several features at one position: products, eigenvalues, basic image features, codes.

Each is computed in float64 from the position's values alone, and rounded once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, F64, I64, given, kernel, result

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Formula = Literal["products", "eigenvalues", "bif", "sign", "argmax", "digits"]
OUTPUTS: dict[Formula, int] = {"products": 3, "eigenvalues": 2, "bif": 7, "sign": 1, "argmax": 1, "digits": 1}
"""How many features each makes of a group."""
ROOT_HALF = np.sqrt(0.5)


def combine(block: Float32, formula: Formula, starts: Int64, members: Int64, numbers: Float64) -> Float32:
    """Combine groups of features, position by position.

    Parameters
    ----------
    block : (n, y, x, k) float32
        C-contiguous.
    formula : {"products", "eigenvalues", "bif", "sign", "argmax", "digits"}
    starts : (groups + 1,) int64
        Where each group begins in ``members``.
    members : (m,) int64
        Features of all groups, one group after another, in the formula's order: y, x of products; yy, xy, xx of
        eigenvalues; value, y, x, yy, xy, xx of bif.
    numbers : (m,) float64
        One for each member. Of bif they are factors: sigma to the order of the derivative, times epsilon for the
        value. Of sign and digits they are what each place is worth; others ignore them.

    Returns
    -------
    (n, y, x, groups * outputs) float32
        A group's outputs are neighbours: yy, xy, xx of products; the largest and the smallest eigenvalue; flat, slope,
        dark blob, light blob, dark line, light line and saddle of bif (Griffin's scores, as in Crosier and Griffin,
        Using Basic Image Features for Texture Classification, IJCV 88, 2010); else one whole number.
    """
    groups, outputs = len(starts) - 1, OUTPUTS[formula]
    out = np.empty((*block.shape[:3], groups * outputs), np.float32)
    flat, into = block.reshape(-1, block.shape[3]), out.reshape(-1, groups * outputs)
    match formula:
        case "products":
            _products(flat, members, into)
        case "eigenvalues":
            _eigenvalues(flat, members, into)
        case "bif":
            _bif(flat, members, numbers, into)
        case "argmax":
            _argmax(flat, starts, members, into)
        case "sign" | "digits":
            _digits(flat, starts, members, numbers, formula == "sign", into)
    return out


@kernel(given(F32, 2), given(I64, 1), result(F32, 2))
def _products(values: Float32, members: Int64, out: Float32) -> None:
    for i in range(values.shape[0]):
        for g in range(members.size // 2):
            y, x = values[i, members[2 * g]], values[i, members[2 * g + 1]]
            out[i, 3 * g] = y * y
            out[i, 3 * g + 1] = x * y
            out[i, 3 * g + 2] = x * x


@kernel(given(F32, 2), given(I64, 1), result(F32, 2))
def _eigenvalues(values: Float32, members: Int64, out: Float32) -> None:
    """Take the eigenvalue that is larger in magnitude from the trace, the other from the determinant.

    Their difference is not: it would keep nothing of a small one. Products of float32 are exact in float64.
    """
    for i in range(values.shape[0]):
        for g in range(members.size // 3):
            yy = np.float64(values[i, members[3 * g]])
            xy = np.float64(values[i, members[3 * g + 1]])
            xx = np.float64(values[i, members[3 * g + 2]])
            middle, half = (yy + xx) / 2, (yy - xx) / 2
            radius = np.sqrt(half * half + xy * xy)
            if middle >= 0:
                most = middle + radius
                least = (yy * xx - xy * xy) / most if most != 0 else most
            else:
                least = middle - radius
                most = (yy * xx - xy * xy) / least
            out[i, 2 * g] = most
            out[i, 2 * g + 1] = least


@kernel(given(F32, 2), given(I64, 1), given(F64, 1), result(F32, 2))
def _bif(values: Float32, members: Int64, factors: Float64, out: Float32) -> None:
    for i in range(values.shape[0]):
        for g in range(members.size // 6):
            at = 6 * g
            y = factors[at + 1] * values[i, members[at + 1]]
            x = factors[at + 2] * values[i, members[at + 2]]
            yy = factors[at + 3] * values[i, members[at + 3]]
            xy = factors[at + 4] * values[i, members[at + 4]]
            xx = factors[at + 5] * values[i, members[at + 5]]
            trace = yy + xx
            spread = np.sqrt((yy - xx) * (yy - xx) + 4 * (xy * xy))
            out[i, 7 * g] = factors[at] * values[i, members[at]]
            out[i, 7 * g + 1] = 2 * np.sqrt(y * y + x * x)
            out[i, 7 * g + 2] = trace
            out[i, 7 * g + 3] = -trace
            out[i, 7 * g + 4] = ROOT_HALF * (spread + trace)
            out[i, 7 * g + 5] = ROOT_HALF * (spread - trace)
            out[i, 7 * g + 6] = spread


@kernel(given(F32, 2), given(I64, 1), given(I64, 1), result(F32, 2))
def _argmax(values: Float32, starts: Int64, members: Int64, out: Float32) -> None:
    for i in range(values.shape[0]):
        for g in range(starts.size - 1):
            best = starts[g]
            for m in range(starts[g] + 1, starts[g + 1]):
                if values[i, members[m]] > values[i, members[best]]:
                    best = m
            out[i, g] = best - starts[g]


@kernel(given(F32, 2), given(I64, 1), given(I64, 1), given(F64, 1), I64, result(F32, 2))
def _digits(values: Float32, starts: Int64, members: Int64, worth: Float64, signs: int, out: Float32) -> None:
    for i in range(values.shape[0]):
        for g in range(starts.size - 1):
            total = 0.0
            for m in range(starts[g], starts[g + 1]):
                value = values[i, members[m]]
                if signs:
                    total += worth[m] * np.float64(value > 0)  # a branch would be guessed wrong half the time
                else:
                    total += worth[m] * value
            out[i, g] = total
