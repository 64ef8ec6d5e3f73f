"""Train a linear classifier on a feature stack's training images, and say how well it knows the test images."""

from __future__ import annotations

import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import featpipe


def score(store: str) -> tuple[float, float]:
    """Return the accuracy on the test images, and that of always answering the commonest class."""
    stack = featpipe.open(store)
    X, y = stack.xy(split="train")
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)
    X_test, y_test = stack.xy(split="test")
    print(f"trained on {X.shape[0]} images of {X.shape[1]} features each, tested on {X_test.shape[0]} others")
    return float(classifier.score(X_test, y_test)), float(np.bincount(y_test).max() / len(y_test))


def main(store: str) -> None:
    """Print both."""
    accuracy, chance = score(store)
    print(f"accuracy on the test images: {accuracy:.1%} (chance: {chance:.1%})")


if __name__ == "__main__":
    main(sys.argv[1])
