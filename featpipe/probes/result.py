"""What a probe found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.probes.linear import Linear
from featpipe.probes.standard import Standard
from featpipe.probes.ways import Trial

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """How well a linear classifier, trained on the training images, knows the test images."""

    store: str
    classifier: str
    """``ridge`` or ``logistic``."""
    maps: tuple[str, ...]
    strength: float
    """Of the L2 penalty: scikit-learn's alpha (ridge), or 1 / C (logistic)."""
    validation: tuple[Trial, ...]
    """Strengths that were tried, and the validation images right with each; empty if the strength was given."""
    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    """(class, class) test images of each class (rows) by the class they were taken for (columns)."""
    baseline: float
    """Accuracy of always answering the commonest class of the training images."""
    counts: Mapping[str, int]
    """``train``, ``validation`` (of these), ``test``, ``unreadable`` and ``unlabelled`` (left out), ``features``,
    ``constant`` (features the same in all training images)."""
    seconds: float
    linear: Linear
    """The classifier: weights and intercept on standardised features."""
    standard: Standard
    """Mean and scale of the training images' features."""
    known: npt.NDArray[np.int64]
    """Class of every column of the weights, as an index into ``classes``."""
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def correct(self) -> int:
        """Test images whose class was right."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of the test images whose class was right."""
        return self.correct / self.counts["test"]

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of the accuracy, 95 %.

        Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
        """
        return wilson(self.correct, self.counts["test"])

    @property
    def per_class(self) -> list[dict[str, Any]]:
        """For each class its ``n`` of test images, ``precision``, ``recall``, and what it was most often taken for."""
        rows = []
        for i, name in enumerate(self.classes):
            right, n, taken = (int(one) for one in (self.confusion[i, i], *self._sums(i)))
            others = self.confusion[i].copy()
            others[i] = 0
            worst = int(np.argmax(others))
            rows.append(
                {
                    "class": name,
                    "n": n,
                    "precision": right / taken if taken else None,
                    "recall": right / n if n else None,
                    "confused_with": self.classes[worst] if others[worst] else None,
                    "confused": int(others[worst]),
                }
            )
        return rows

    def _sums(self, i: int) -> tuple[np.int64, np.int64]:
        return self.confusion[i].sum(), self.confusion[:, i].sum()

    def predict(self, features: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Return the class of each row of (n, d) features, laid out as `Stack.xy` does: an index into ``classes``."""
        answers: npt.NDArray[np.int64] = self.linear.answer(self.standard.apply(features), self.known)[0]
        return answers

    def facts(self) -> dict[str, Any]:
        """Return all but the weights as plain data, ready for JSON."""
        low, high = self.interval
        return {
            "store": self.store,
            "classifier": self.classifier,
            "accuracy": self.accuracy,
            "interval": [low, high],
            "confidence": CONFIDENCE,
            "correct": self.correct,
            "baseline": self.baseline,
            "strength": self.strength,
            "validation": [{"strength": one.strength, "accuracy": one.accuracy} for one in self.validation],
            "counts": dict(self.counts),
            "maps": list(self.maps),
            "classes": list(self.classes),
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "seed": self.seed,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }

    def save_picture(self, file: str | os.PathLike[str]) -> None:
        """Draw the confusion matrix into an image file, e.g. a PNG.

        Raises
        ------
        FeatpipeError
            If matplotlib is missing, or does not know the file's ending.
        """
        from featpipe.probes.picture import draw_confusion

        draw_confusion(self, file)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a share, at `CONFIDENCE`.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    from scipy.stats import binomtest

    found = binomtest(correct, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
