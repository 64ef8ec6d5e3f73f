"""Limits of what one layer may ask for, looked at before it takes memory or time; nobody means more."""

from __future__ import annotations

from collections.abc import Sequence

from featpipe.errors import Location, PlanError, Problem, key_path
from featpipe.kernels.bank import Bank, Labels
from featpipe.kernels.files import LARGEST_BANK
from featpipe.plan.labels import merge_labels
from featpipe.spec.fits import FitBank

MOST_FEATURES = 1 << 18
"""Of a map; each has its labels."""
LARGEST_WEIGHTS = 4 * LARGEST_BANK
"""Of a layer's kernels over all the features that they span, in bytes of float64."""


def check_count(count: int, where: Location) -> None:
    """Refuse a layer from which too many features would come.

    Raises
    ------
    PlanError
    """
    if count > MOST_FEATURES:
        what = f"would leave {count:,} features, and a map may have {MOST_FEATURES:,}."
        raise _problem(where, what, "Use fewer kernels, or combine features before it (reduce, channels: sum).")


def spread_labels(kernels: Sequence[Labels], inputs: Sequence[Labels], where: Location) -> list[Labels]:
    """Return the labels of every kernel on every input feature, all kernels of the first first.

    Raises
    ------
    PlanError
        If there are too many.
    """
    check_count(len(kernels) * len(inputs), where)
    return [merge_labels(kernel, one) for one in inputs for kernel in kernels]


def check_weights(bank: Bank, depth: int, where: Location) -> None:
    """Refuse kernels that, spread over so many input features, would be too large.

    Raises
    ------
    PlanError
    """
    check_count(len(bank.kernels), where)
    taken = sum(kernel.weights.nbytes * (depth if kernel.weights.ndim == 2 else 1) for kernel in bank.kernels)
    if taken > LARGEST_WEIGHTS:
        what = f"kernels over {depth:,} features take {taken / 2**30:,.1f} GiB, and may take {_LARGEST}."
        raise _problem(where, what, "Use smaller kernels or fewer, or fewer features before it.")


def check_fit(bank: FitBank, channels: int, where: Location) -> None:
    """Refuse a fit of too many kernels, or where they or their whitening would be too large.

    Raises
    ------
    PlanError
    """
    check_count(bank.kernels, where)
    taps = bank.size**2 * channels
    taken = 8 * taps * max(bank.kernels, taps)
    if taken > LARGEST_WEIGHTS:
        kernels = f"{bank.kernels:,} kernels of {bank.size}×{bank.size}×{channels}"
        what = f"{kernels}, with their whitening, take {taken / 2**30:,.1f} GiB, and may take {_LARGEST}."
        raise _problem(where, what, "Use smaller patches, or fewer kernels or features.")


_LARGEST = f"{LARGEST_WEIGHTS / 2**30:.0f}"


def _problem(where: Location, what: str, change: str) -> PlanError:
    return PlanError(Problem(key_path(where), what, change, where))
