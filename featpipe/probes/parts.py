"""Which images a classifier learns from, is chosen by, and is tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.spec.words import suggest
from featpipe.stack import Stack
from featpipe.store.read import Indices


@dataclass(frozen=True, eq=False)
class Parts:
    """Images by their use; rows are in ascending order."""

    train: Indices
    validation: Indices
    """Those of ``train`` that the strength is chosen by."""
    test: Indices
    labels: npt.NDArray[np.int64]
    """(images,) index into ``classes`` of every image in the store; -1 for those of no use."""
    classes: tuple[str, ...]
    """Those that an image to train or to test on has."""
    unreadable: int
    """Images of the two splits that were left out since they have no features."""
    unlabelled: int
    """Images of the two splits that were left out since they have no class."""

    @property
    def fit(self) -> Indices:
        """Those of ``train`` that are learnt from while the strength is chosen."""
        return np.setdiff1d(self.train, self.validation, assume_unique=True)

    @property
    def known(self) -> npt.NDArray[np.int64]:
        """Classes with an image to train on, ascending."""
        return np.unique(self.labels[self.train])


def make_parts(stack: Stack, train: str, test: str, validation: float, seed: int) -> Parts:
    """Choose the images.

    Parameters
    ----------
    stack : Stack
    train, test : str
        Names of splits.
    validation : float
        Share of the training images of each class to choose the strength by; 0 for none.
    seed : int
        Of their choice.

    Raises
    ------
    StoreError
        If the store is not complete, its images have no classes or no such splits, or a split is of no use.
    """
    _check(stack, train, test)
    split = {name: stack.splits == stack.split_names.index(name) for name in (train, test)}
    either = split[train] | split[test]
    usable = stack.ok & (stack.labels >= 0)
    rows = {name: np.flatnonzero(member & usable) for name, member in split.items()}
    for name, found in rows.items():
        if not len(found):
            what = f"has no image in the split {name!r} that has features and a class."
            raise StoreError(Problem(str(stack.path), what, "Choose other splits with --train and --test."))
    present = np.unique(stack.labels[np.concatenate(list(rows.values()))])
    if len(np.unique(stack.labels[rows[train]])) < 2:
        name = stack.classes[stack.labels[rows[train][0]]]
        what = f"all {len(rows[train])} images of the split {train!r} are of one class, {name!r}."
        raise StoreError(Problem(str(stack.path), what, "A classifier needs two: check images.labels."))
    codes = np.full(len(stack.classes), -1, np.int64)
    codes[present] = np.arange(len(present))
    labels = np.where(stack.labels >= 0, codes[stack.labels], -1)
    drawn = draw_validation(rows[train], labels, validation, seed)
    if validation and not len(drawn):
        what = f"has no class with two images in the split {train!r}, so no part of them can choose the strength."
        raise StoreError(Problem(str(stack.path), what, "Add images, or give one strength (--strength 1)."))
    return Parts(
        train=rows[train],
        validation=drawn,
        test=rows[test],
        labels=labels,
        classes=tuple(stack.classes[code] for code in present),
        unreadable=int((either & ~stack.ok).sum()),
        unlabelled=int((either & stack.ok & (stack.labels < 0)).sum()),
    )


def draw_validation(rows: Indices, labels: npt.NDArray[np.int64], share: float, seed: int) -> Indices:
    """Return a share of the images of each class, at least one of a class that has two; ascending.

    Parameters
    ----------
    rows : (n,) int
    labels : (images,) int
        By image.
    share : float
        0 for none.
    seed : int
    """
    if not share:
        return rows[:0]
    random = np.random.default_rng(seed)
    drawn = []
    for code in np.unique(labels[rows]):
        members = random.permutation(rows[labels[rows] == code])
        count = min(len(members) - 1, max(1, round(share * len(members))))
        drawn.append(members[:count])
    return np.sort(np.concatenate(drawn))


def _check(stack: Stack, train: str, test: str) -> None:
    """Raise `StoreError` unless the store is complete and knows classes and both splits."""
    where = str(stack.path)
    if stack.status != "complete":
        raise StoreError(Problem(where, "is not complete.", "Run the pipeline again: it goes on where it stopped."))
    if not stack.classes or not (stack.labels >= 0).any():
        change = "Set images.labels (folders, or a column of the manifest), and run the pipeline again."
        raise StoreError(Problem(where, "its images have no classes.", change))
    if not stack.split_names:
        change = "Set images.split, e.g. {test: 0.2, seed: 0}, and run the pipeline again."
        raise StoreError(Problem(where, "its images are not split into train and test.", change))
    for option, name in (("--train", train), ("--test", test)):
        if name not in stack.split_names:
            there = ", ".join(stack.split_names)
            near = suggest(name, stack.split_names)
            change = f"{near} There are {there}." if near else f"There are {there}; choose one with {option}."
            if len(stack.split_names) == 1:
                change = f"There is only {there}: set images.split, e.g. {{test: 0.2, seed: 0}}, and run it again."
            raise StoreError(Problem(where, f"has no split {name!r}.", change))
    if train == test:
        what = f"the split {train!r} cannot both be trained and tested on."
        raise StoreError(Problem(where, what, "Give --train and --test different splits."))
