"""Choosing features by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.kernels.bank import Labels
from featpipe.plan.labels import known_labels
from featpipe.spec.words import suggest

SHOWN = 12
"""Values that an error lists before it breaks off."""


def matches(value: object, wanted: Any) -> bool:
    """Return whether a value is the wanted one, or one of those wanted; numbers may differ by rounding.

    Examples
    --------
    >>> matches(0.1 + 0.2, 0.3), matches("log", ["log", "dog"]), matches(1.0, 2)
    (True, True, False)
    """
    if isinstance(wanted, (list, tuple, set, frozenset, range, np.ndarray)):
        return any(matches(value, one) for one in wanted)
    if isinstance(value, Real) and isinstance(wanted, Real):
        return bool(np.isclose(float(value), float(wanted)))
    return str(value) == str(wanted)


def pick(known: Iterable[Any], wanted: Any, what: str, where: str) -> list[Any]:
    """Return those of ``known`` that are wanted; raises `StoreError` naming them all where none is."""
    known = list(known)
    found = [value for value in known if matches(value, wanted)]
    if not found:
        raise StoreError(Problem(where, f"has no {what} {_show(wanted)}.", _advice(what, known, wanted)))
    return found


def select_features(
    maps: Mapping[str, Sequence[Labels]], labels: Mapping[str, Any], where: str
) -> dict[str, npt.NDArray[np.intp]]:
    """Return, for every map that keeps any, the features whose labels are all as wanted.

    Parameters
    ----------
    maps : mapping of str to sequence of dict
        Labels of the features of every map.
    labels : mapping of str to scalar or sequence
        Label to the value, or the values, wanted.
    where : str
        For errors: the store.

    Raises
    ------
    StoreError
        If no feature carries one of the labels, or none has all the values.
    """
    features = [one for members in maps.values() for one in members]
    known = known_labels(features)
    for label, wanted in labels.items():
        if label not in known:
            change = suggest(label, known) or f"The labels are {', '.join(known) or 'none'}."
            raise StoreError(Problem(where, f"no feature carries the label {label!r}.", change))
        pick(dict.fromkeys(one[label] for one in features if label in one), wanted, label, where)
    kept = {
        name: np.array([i for i, one in enumerate(members) if _has(one, labels)], np.intp)
        for name, members in maps.items()
    }
    kept = {name: indices for name, indices in kept.items() if indices.size}
    if not kept:
        asked = ", ".join(f"{label}={_show(wanted)}" for label, wanted in labels.items())
        raise StoreError(Problem(where, f"no feature has {asked} at once.", "Ask for fewer labels."))
    return kept


def compose(before: npt.NDArray[np.intp] | None, then: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the features that one choice, made of those of an earlier one, comes to; None chose all."""
    return then if before is None else before[then]


def _has(feature: Labels, labels: Mapping[str, Any]) -> bool:
    return all(label in feature and matches(feature[label], wanted) for label, wanted in labels.items())


def _show(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)


def _advice(what: str, known: list[Any], wanted: Any) -> str:
    near = suggest(wanted, [value for value in known if isinstance(value, str)])
    listed = ", ".join(map(str, known[:SHOWN])) + (", …" if len(known) > SHOWN else "")
    return f"{near} There are {listed}." if near else f"There is {what} {listed}." if known else ""
