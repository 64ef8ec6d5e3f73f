"""Training and testing a classifier on a store, with progress."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from featpipe.cli.progress import stage_progress
from featpipe.errors import FeatpipeError, Problem, SpecError

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
        _keep(store, found[kind])
        if kind in pictures:
            result.save_picture(pictures[kind])
            found[kind]["picture"] = str(pictures[kind])
    return found


def _keep(store: str, facts: dict[str, Any]) -> None:
    """Leave beside the store what was found, where a report finds it; a place that cannot be written stays as it is."""
    from featpipe.store.history import History, content_digest
    from featpipe.store.place import open_place

    place = open_place(store)
    maps = hashlib.sha256("\n".join(facts["maps"]).encode()).hexdigest()
    made = datetime.now().astimezone().isoformat(timespec="seconds")
    with suppress(FeatpipeError):
        kept = {"made": made, "digest": content_digest(place), "found": facts}
        History(place).save_probe(f"{facts['classifier']}-{maps[:8]}", kept)


def _pictures(picture: Path | None, kinds: Sequence[str]) -> dict[str, Path]:
    """Return the file of each classifier's picture: NAME-ridge.png where there are two."""
    if picture is None:
        return {}
    from featpipe.report.picture import check_drawing

    check_drawing(picture)
    if len(kinds) == 1:
        return {kinds[0]: picture}
    return {kind: picture.with_stem(f"{picture.stem}-{kind}") for kind in kinds}
