"""How the labels of features pass through the layers of a chain."""

from __future__ import annotations

from collections.abc import Sequence

from featpipe.kernels.bank import Labels

LabelValue = str | int | float


def merge_labels(kernel: Labels, parent: Labels) -> Labels:
    """Return the labels of a kernel's response to one input feature.

    A label that both carry keeps its name for the kernel; the input's is called ``input_<label>``.

    Examples
    --------
    >>> merge_labels({"bank": "gabor", "sigma": 2.0}, {"bank": "log", "channel": "red"})
    {'bank': 'gabor', 'sigma': 2.0, 'input_bank': 'log', 'channel': 'red'}
    """
    merged = dict(kernel)
    for label, value in parent.items():
        name = label
        while name in merged:
            name = f"input_{name}"
        merged[name] = value
    return merged


def split_labels(features: Sequence[Labels]) -> tuple[Labels, ...]:
    """Return the labels after ``split``: all features with polarity +1, then all with -1."""
    both = [merge_labels({"polarity": polarity}, labels) for polarity in (1, -1) for labels in features]
    return tuple(
        {**{name: value for name, value in one.items() if name != "polarity"}, "polarity": one["polarity"]}
        for one in both
    )


def group_features(features: Sequence[Labels], over: str) -> tuple[tuple[Labels, ...], list[list[int]]]:
    """Group the features that share every label but ``over``.

    Parameters
    ----------
    features : sequence of dict
    over : str
        The label that is dropped.

    Returns
    -------
    labels : tuple of dict
        Of each group, in the order in which groups first appear.
    members : list of list of int
        The features of each group, in order.
    """
    groups: dict[tuple[tuple[str, LabelValue], ...], list[int]] = {}
    for i, labels in enumerate(features):
        groups.setdefault(tuple((k, v) for k, v in labels.items() if k != over), []).append(i)
    return tuple(dict(key) for key in groups), list(groups.values())


def known_labels(features: Sequence[Labels]) -> list[str]:
    """Return every label that some feature carries, in order of first appearance."""
    return list(dict.fromkeys(label for labels in features for label in labels))
