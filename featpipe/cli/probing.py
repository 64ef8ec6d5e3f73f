"""Training and testing a classifier on a store, with progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featpipe.cli.progress import stage_progress
from featpipe.errors import Problem, SpecError

KINDS = ("ridge", "logistic", "both")


def probe_store(
    store: str, classifier: str, picture: Path | None, *, quiet: bool, **options: Any
) -> dict[str, dict[str, Any]]:
    """Return what is to be told of each classifier asked for, and draw the confusion matrix if that is.

    Raises
    ------
    FeatpipeError
        Before any work if the picture could not be drawn.
    """
    kinds = KINDS[:2] if classifier == "both" else (classifier,)
    if classifier not in KINDS:
        raise SpecError(Problem("--classifier", f"must be ridge, logistic or both, got {classifier!r}."))
    pictures = _pictures(picture, kinds)
    from featpipe.probes.probe import probe

    found = {}
    for kind in kinds:
        with stage_progress(quiet=quiet) as progress:
            result = probe(store, classifier=kind, progress=progress, **options)  # type: ignore[arg-type]
        found[kind] = result.facts()
        if kind in pictures:
            result.save_picture(pictures[kind])
            found[kind]["picture"] = str(pictures[kind])
    return found


def _pictures(picture: Path | None, kinds: Sequence[str]) -> dict[str, Path]:
    """Return the file of each classifier's picture: NAME-ridge.png where there are two."""
    if picture is None:
        return {}
    from featpipe.report.picture import check_drawing

    check_drawing(picture)
    if len(kinds) == 1:
        return {kinds[0]: picture}
    return {kind: picture.with_stem(f"{picture.stem}-{kind}") for kind in kinds}
