"""Training a linear classifier on a feature stack, and testing it once."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from featpipe.errors import FeatpipeError, Problem, SpecError
from featpipe.probes.linear import answer_all
from featpipe.probes.parts import make_parts
from featpipe.probes.result import ProbeResult
from featpipe.probes.stream import Progress, Table
from featpipe.probes.ways import Logistic, Ridge, Task, Trial, Way
from featpipe.run import default_resources
from featpipe.stack import Stack, open_stack

STRENGTHS = tuple(10.0**power for power in range(8, -3, -1))
"""Tried unless others are given: 1e8 to 1e-2, in factors of ten. Many features that are alike need the strongest."""
MOST_NAMES = 5
"""Classes that a note names."""
WAYS: dict[str, type[Ridge] | type[Logistic]] = {"ridge": Ridge, "logistic": Logistic}


def probe(
    store: str | os.PathLike[str] | Stack,
    *,
    classifier: Literal["ridge", "logistic"] = "ridge",
    maps: Sequence[str] = (),
    branches: Sequence[str] = (),
    train: str = "train",
    test: str = "test",
    strengths: Sequence[float] = STRENGTHS,
    validation: float = 0.2,
    seed: int = 0,
    memory_bytes: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ProbeResult:
    """Train a linear classifier on a stack's training images and say how well it knows the test images.

    All stacked maps are flattened per image, and standardised by the training images alone. The strength of the L2
    penalty is chosen on a part of these, with the features standardised by the others; then the classifier is fitted to
    all training images, and the test images are classified, once. Features are read block by block.

    Parameters
    ----------
    store : path or Stack
        Complete, with classes and splits.
    classifier : str
        ``ridge``: least squares on one-hot classes, as scikit-learn's RidgeClassifier; strength is its alpha.
        ``logistic``: multinomial, as scikit-learn's LogisticRegression; strength is 1 / C.
    maps, branches : sequence of str
        Only these; all unless given.
    train, test : str
        Splits to use.
    strengths : sequence of float
        To choose from; a single one is taken as it is.
    validation : float
        Share of the training images of each class by which the strength is chosen.
    seed : int
        Of the choice of the validation images.
    memory_bytes : int, optional
        For the whole process; 60 % of what is free unless given.
    threads : int, optional
        All cores unless given. The result does not depend on them.
    progress : callable, optional
        Called with a stage, how many images of it are done, and of how many.

    Returns
    -------
    ProbeResult

    Raises
    ------
    StoreError
        If the store has no classes, splits or stacked maps, is not complete, or a feature is no finite number.
    PlanError
        If the memory does not suffice.
    FeatpipeError
        If SciPy is missing, or an argument makes no sense.
    """
    began = time.perf_counter()
    _need_scipy()
    ordered = _check_arguments(classifier, strengths, validation)
    stack = choose_maps(store if isinstance(store, Stack) else open_stack(store), maps, branches)
    parts = make_parts(stack, train, test, validation if len(ordered) > 1 else 0.0, seed)
    resources = default_resources(memory_bytes, threads)
    table = Table(stack, resources.threads, progress)
    with threadpool_limits(1, user_api="blas"):  # blocks and tiles are what runs at once; so no bit depends on threads
        task = Task(table, parts, resources.memory_bytes - resources.base_bytes)
        way: Way = WAYS[classifier](task)
        trials = way.try_out(ordered) if len(ordered) > 1 else []
        strength = max(trials, key=lambda trial: trial.accuracy).strength if trials else ordered[0]
        linear = way.refit(strength)
        answers = answer_all(table, parts.test, task.train_standard, linear, task.known, "test")[0]
    classes = len(parts.classes)
    truth = parts.labels[parts.test]
    commonest = np.bincount(parts.labels[parts.train], minlength=classes).argmax()
    return ProbeResult(
        store=str(stack.path),
        classifier=classifier,
        maps=tuple(one.name for one in table.maps),
        strength=strength,
        validation=tuple(trials),
        classes=parts.classes,
        confusion=np.bincount(truth * classes + answers, minlength=classes**2).reshape(classes, classes),
        baseline=float((truth == commonest).mean()),
        counts=_counts(task),
        seconds=time.perf_counter() - began,
        linear=linear,
        standard=task.train_standard,
        known=task.known,
        seed=seed,
        notes=(*way.notes, *_notes(stack, task, trials)),
    )


def choose_maps(stack: Stack, maps: Sequence[str], branches: Sequence[str]) -> Stack:
    """Return a stack of some maps; raises `StoreError` at the first that there is not."""
    for name in maps:
        stack.select(map=name)
    for name in branches:
        stack.select(branch=name)
    if maps:
        stack = stack.select(map=list(maps))
    return stack.select(branch=list(branches)) if branches else stack


def _need_scipy() -> None:
    try:
        for module in ("linalg", "optimize", "special"):  # loaded now, so that the limit on threads holds for them
            import_module(f"scipy.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "scipy":
            raise
        what = "needs the package scipy, which is not installed."
        raise FeatpipeError(Problem("probe", what, "pip install 'featpipe[learn]'")) from None


def _check_arguments(classifier: str, strengths: Sequence[float], validation: float) -> list[float]:
    """Return the strengths from strong to weak."""
    if classifier not in WAYS:
        raise SpecError(Problem("classifier", f"is ridge or logistic, got {classifier!r}."))
    wrong = [value for value in strengths if not (math.isfinite(value) and value > 0)]
    if wrong or not len(strengths):
        got = f"got {wrong[0]:g}" if wrong else "got none"
        raise SpecError(Problem("strength", f"must be greater than 0, {got}."))
    if not 0 < validation < 1:
        raise SpecError(Problem("validation", f"must be a share between 0 and 1, got {validation:g}."))
    return sorted(set(map(float, strengths)), reverse=True)


def _counts(task: Task) -> dict[str, int]:
    parts = task.parts
    return {
        "train": len(parts.train),
        "validation": len(parts.validation),
        "test": len(parts.test),
        "unreadable": parts.unreadable,
        "unlabelled": parts.unlabelled,
        "features": task.table.width,
        "constant": int(task.train_standard.constant.sum()),
    }


def _notes(stack: Stack, task: Task, trials: Sequence[Trial]) -> list[str]:
    notes = []
    apart = sorted(set(stack.maps) - {one.name for one in task.table.maps})
    if apart:
        notes.append(f"Left out, as each image has a map of its own shape: {', '.join(apart)}.")
    never = [task.parts.classes[code] for code in range(len(task.parts.classes)) if code not in task.known]
    if never:
        names = ", ".join(never[:MOST_NAMES]) + (
            f" and {len(never) - MOST_NAMES:,} others" if never[MOST_NAMES:] else ""
        )
        notes.append(f"No training image is of {names}: the test images of that count as wrong.")
    if trials:
        best = max(trials, key=lambda trial: trial.accuracy)
        strongest = best is trials[0] and best.accuracy > trials[1].accuracy
        if strongest or best is trials[-1]:
            end = "largest" if strongest else "smallest"
            notes.append(f"The {end} strength tried was the best: others beyond it may be better (--strength).")
    return notes
