"""From the layers that combine features by a formula to their nodes' ops and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featpipe.errors import Location, PlanError, Problem, key_path
from featpipe.kernels.bank import Labels, feature_name
from featpipe.plan.labels import LabelValue, group_features, known_labels, merge_labels
from featpipe.plan.limits import MOST_FEATURES
from featpipe.plan.program import CombineOp, Formula
from featpipe.spec.combining import (
    CODE_BITS,
    BifLayer,
    Code,
    CodeLayer,
    CombiningLayer,
    EigenvaluesLayer,
    ProductsLayer,
)

DERIVATIVES = ("value", "y", "x", "yy", "xy", "xx")
"""Components of an image's derivatives at a position, as the bank ``gaussian-derivatives`` calls them."""
SECOND = ("yy", "xy", "xx")
KINDS = ("flat", "slope", "dark-blob", "light-blob", "dark-line", "light-line", "saddle")
Combined = tuple[CombineOp, tuple[Labels, ...], str]


def combine_features(layer: CombiningLayer, features: Sequence[Labels], where: Location) -> Combined:
    """Return a layer's op, the labels of the features that leave it, and its title.

    Parameters
    ----------
    layer : ProductsLayer, EigenvaluesLayer, BifLayer or CodeLayer
    features : sequence of dict
        Labels of the features that come in.
    where : Location
        Of the layer in the pipeline file.

    Raises
    ------
    PlanError
        If the features are not what the layer combines.
    """
    match layer:
        case ProductsLayer():
            change = "Put it after a gradient: bank sobel, scharr, prewitt, gaussian-gradient or gaussian-derivatives."
            groups = _components(features, ("y", "x"), (*where, "products"), change)
            labels = [{**features[group[0]], "component": part} for _, group in groups for part in SECOND]
            return _op("products", [group for _, group in groups]), tuple(labels), "products"
        case EigenvaluesLayer():
            change = "Put it after second derivatives, bank gaussian-derivatives with orders: [2], or after products."
            groups = _components(features, SECOND, (*where, "eigenvalues"), change)
            labels = _labelled("eigenvalue", ("largest", "smallest"), [shared for shared, _ in groups])
            return _op("eigenvalues", [group for _, group in groups]), tuple(labels), "eigenvalues"
        case BifLayer():
            return _combine_to_bif(layer.bif.epsilon, features, (*where, "bif"))
        case CodeLayer():
            return _combine_to_code(layer.code, features, (*where, "code"))


def histogram_labels(features: Sequence[Labels], bins: int, where: Location) -> tuple[Labels, ...]:
    """Return the labels of a histogram's counts: all bins of the first feature, then all of the next.

    Raises
    ------
    PlanError
        If there are too many.
    """
    if len(features) * bins > MOST_FEATURES:
        what = f"{len(features)} features of {bins} bins each would be {len(features) * bins} features."
        raise _problem((*where, "bins"), what, f"Use fewer; a map may have {MOST_FEATURES} in all.")
    return tuple(_labelled("bin", range(bins), features))


def _labelled(label: str, values: Sequence[LabelValue], features: Sequence[Labels]) -> list[Labels]:
    """Return every feature's labels with every value of a new last label."""
    made = []
    for labels in features:
        renamed = merge_labels({label: 0}, labels) if label in labels else labels
        kept = {name: value for name, value in renamed.items() if name != label}
        made += [{**kept, label: value} for value in values]
    return made


def _op(formula: Formula, groups: Sequence[Sequence[int]], numbers: Sequence[float] = ()) -> CombineOp:
    starts = np.cumsum([0, *map(len, groups)]).astype(np.int64)
    return CombineOp(formula, starts, np.concatenate(groups).astype(np.int64), np.array(numbers, np.float64))


def _components(
    features: Sequence[Labels], wanted: Sequence[str], where: Location, change: str
) -> list[tuple[Labels, list[int]]]:
    """Return the groups of features that share every label but ``component``: the labels, and the wanted members.

    Other derivatives of the same group pass away.
    """
    needs = f"needs features with component {', '.join(wanted[:-1])} and {wanted[-1]} that share all other labels"
    if "component" not in known_labels(features):
        raise _problem(where, f"{needs}; no feature carries the label component.", change)
    groups = []
    for shared, members in zip(*group_features(features, "component"), strict=True):
        found = {str(features[i].get("component", "none")): i for i in members}
        strange = [name for name in found if name not in DERIVATIVES]
        if strange or not set(wanted) <= set(found):
            what = f"{needs}; {feature_name(shared) or 'the input'!r} has {', '.join(found)}."
            raise _problem(where, what, change)
        groups.append((shared, [found[name] for name in wanted]))
    return groups


def _combine_to_bif(epsilon: float, features: Sequence[Labels], where: Location) -> Combined:
    change = "Put it right after bank gaussian-derivatives with orders: [0, 1, 2]."
    groups = _components(features, DERIVATIVES, where, change)
    numbers: list[float] = []
    for shared, _ in groups:
        sigma = shared.get("sigma")
        if not isinstance(sigma, (int, float)) or shared.get("bank") != "gaussian-derivatives":
            what = f"needs the derivatives themselves and their sigma, and {feature_name(shared)!r} comes in."
            raise _problem(where, what, change)
        numbers += [epsilon, sigma, sigma, sigma**2, sigma**2, sigma**2]
    labels = _labelled("kind", KINDS, [shared for shared, _ in groups])
    return _op("bif", [group for _, group in groups], numbers), tuple(labels), f"bif epsilon {epsilon:g}"


def _combine_to_code(spec: Code, features: Sequence[Labels], where: Location) -> Combined:
    known = known_labels(features)
    if spec.over not in known:
        what = f"no feature carries the label {spec.over!r}."
        raise _problem((*where, "over"), what, f"Use one of {', '.join(known)}.")
    labels, groups = group_features(features, spec.over)
    most, base = max(map(len, groups)), spec.base or 2
    if spec.by != "argmax" and base**most > 1 << CODE_BITS:
        what = f"{most} features of base {base} make numbers up to {base}^{most}; float32 is exact to 2^{CODE_BITS}."
        raise _problem((*where, "over"), what, f"Use at most {_most_digits(base)} features.")
    numbers = [] if spec.by == "argmax" else [float(base**i) for group in groups for i in range(len(group))]
    return _op(spec.by, groups, numbers), labels, f"code {spec.over} by {spec.by}"


def _most_digits(base: int) -> int:
    digits = 0
    while base ** (digits + 1) <= 1 << CODE_BITS:
        digits += 1
    return digits


def _problem(where: Location, what: str, change: str) -> PlanError:
    return PlanError(Problem(key_path(where), what, change, where))
