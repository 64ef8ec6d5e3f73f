"""The two kinds of classifier: how each tries strengths on the validation part, and learns from all training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featpipe.errors import PlanError, Problem
from featpipe.probes.linear import Linear, answer_all
from featpipe.probes.logistic import Found, Search, logistic_bytes
from featpipe.probes.parts import Parts
from featpipe.probes.ridge import SOLUTION_BYTES, FeatureEquations, ImageEquations, ridge_bytes
from featpipe.probes.standard import Floats, Moments, Standard
from featpipe.probes.stream import Table
from featpipe.report.units import bytes_text
from featpipe.store.read import Indices

WORSE_IN_A_ROW = 2
"""Strengths that do worse than the best before it, after which logistic regression tries no weaker ones."""


@dataclass(frozen=True)
class Trial:
    """A strength, and the share of validation images that it got right."""

    strength: float
    accuracy: float


@dataclass(eq=False)
class Task:
    """What both ways work on."""

    table: Table
    parts: Parts
    memory_bytes: int
    """For all but the process itself."""

    @cached_property
    def moments(self) -> tuple[Moments, Moments]:
        """Of the training images less the validation part, and of that."""
        apart = np.zeros(len(self.parts.labels), np.bool_)
        apart[self.parts.validation] = True
        return self.table.measure(self.parts.train, apart)

    @cached_property
    def fit_standard(self) -> Standard:
        """Of the training images less the validation part: the strength is chosen without a look at that."""
        return self.moments[0].standard()

    @cached_property
    def train_standard(self) -> Standard:
        """Of all training images."""
        kept, others = self.moments
        return kept.join(others).standard()

    @cached_property
    def known(self) -> npt.NDArray[np.int64]:
        """The class of each column of the weights: those with an image to train on."""
        return self.parts.known

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """(images,) column of every training image."""
        return np.searchsorted(self.known, self.parts.labels)

    def accuracies(self, linear: Linear, stage: str) -> list[float]:
        """Return the share of validation images right for each set of weights."""
        rows = self.parts.validation
        found = answer_all(self.table, rows, self.fit_standard, linear, self.known, stage)
        return [float(share) for share in (found == self.parts.labels[rows]).mean(axis=1)]


class Way(Protocol):
    """A kind of classifier."""

    notes: list[str]

    def try_out(self, strengths: Sequence[float]) -> list[Trial]:
        """Fit to the training images less the validation part, and score that, for strengths from strong to weak."""
        ...

    def refit(self, strength: float) -> Linear:
        """Fit to all training images."""
        ...


class Ridge:
    """Ridge regression of one-hot classes."""

    def __init__(self, task: Task) -> None:
        table, images = task.table, len(task.parts.train)
        self.task = task
        self.notes: list[str] = []
        self.by_features = table.width <= images
        self.features: FeatureEquations | None = None
        needed = ridge_bytes(table, images, len(task.known))
        self.spare_bytes = task.memory_bytes - needed
        if self.spare_bytes < 0:
            raise _too_little(task, "ridge", f"{table.width:,} features of {images:,} images", needed)

    def try_out(self, strengths: Sequence[float]) -> list[Trial]:
        task, parts = self.task, self.task.parts
        equations = self._equations(parts.fit, task.fit_standard)
        each = 8 * task.table.width * len(task.known)
        group = max(1, SOLUTION_BYTES // each)
        trials = []
        for at in range(0, len(strengths), group):
            some = strengths[at : at + group]
            accuracies = task.accuracies(equations.solve(some), "validation")
            trials += [Trial(*one) for one in zip(some, accuracies, strict=True)]
        return trials

    def refit(self, strength: float) -> Linear:
        parts, standard = self.task.parts, self.task.train_standard
        if self.features is None:
            return self._equations(parts.train, standard).solve([strength])
        self.features.restandardise(standard)
        self.features.add(parts.validation, "products of features, validation part")
        return self.features.solve([strength])

    def _equations(self, rows: Indices, standard: Standard) -> FeatureEquations | ImageEquations:
        task = self.task
        classes = len(task.known)
        if self.by_features:
            self.features = FeatureEquations(task.table, task.codes, classes, standard)
            self.features.add(rows, "products of features")
            return self.features
        equations = ImageEquations(task.table, task.codes, classes, standard, rows, self.spare_bytes)
        equations.multiply("products of images")
        return equations


class Logistic:
    """Multinomial logistic regression."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.notes: list[str] = []
        self.last: Floats | None = None
        needed = logistic_bytes(task.table, len(task.known))
        self.spare_bytes = task.memory_bytes - needed
        if self.spare_bytes < 0:
            what = f"{task.table.width:,} features and {len(task.known):,} classes"
            raise _too_little(task, "logistic", what, needed)

    def try_out(self, strengths: Sequence[float]) -> list[Trial]:
        search = self._search(self.task.parts.fit, self.task.fit_standard)
        trials: list[Trial] = []
        best, best_found, since = -1.0, self.last, 0
        for strength in strengths:
            found = self._run(search, strength, len(trials), len(strengths))
            (accuracy,) = self.task.accuracies(found.linear, "validation")
            trials.append(Trial(strength, accuracy))
            since = 0 if accuracy > best else since + (accuracy < best)
            if accuracy > best:
                best, best_found = accuracy, found.parameters
            if since == WORSE_IN_A_ROW:
                break
        self.last = best_found
        return trials

    def refit(self, strength: float) -> Linear:
        search = self._search(self.task.parts.train, self.task.train_standard)
        return self._run(search, strength, 0, 1).linear

    def _search(self, rows: Indices, standard: Standard) -> Search:
        task = self.task
        search = Search(task.table, rows, task.codes, len(task.known), standard, self.spare_bytes)
        if not search.keeps:
            text = bytes_text(search.keeps_bytes)
            self.notes = [f"Each step read the store; --memory {text} more than now would have kept the features."]
        return search

    def _run(self, search: Search, strength: float, i: int, count: int) -> Found:
        stage = f"logistic, strength {strength:g}" + (f" ({i + 1} of {count})" if count > 1 else ", all of train")
        found = search.run(strength, self.last, stage)
        self.last = found.parameters
        if not found.converged:
            self.notes.append(f"At strength {strength:g} the search had not converged after {found.steps} steps.")
        return found


def _too_little(task: Task, classifier: str, what: str, needed: int) -> PlanError:
    left = bytes_text(max(0, task.memory_bytes))
    said = f"{classifier} on {what} takes {bytes_text(needed)} besides the process itself, which leaves {left}."
    change = "Give it more --memory, or fewer features: --map, --branch, or a pipeline that pools into fewer cells."
    return PlanError(Problem("--memory", said, change))
