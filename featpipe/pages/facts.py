"""All that a report tells of a store, gathered: plain facts, nothing drawn but small pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import zarr

from featpipe.errors import FeatpipeError
from featpipe.images.glance import Glance
from featpipe.pages.failures import Failures, group_failures
from featpipe.pages.runs import Run, Standing, read_runs, standing
from featpipe.pages.samples import Samples, choose_images, draw_samples
from featpipe.pages.statistics import MapStatistics, map_statistics, stacked_map
from featpipe.report.store import store_facts
from featpipe.spec.load import parse_pipeline
from featpipe.stack import Stack, open_stack
from featpipe.store.create import read_failures
from featpipe.store.history import History, content_digest
from featpipe.store.receipts import Journal, Receipt

Facts = dict[str, Any]
Tell = Callable[[str, int, int], None]
"""Is told a stage, how much of it is done, and of how much."""


@dataclass(frozen=True)
class ProbeFacts:
    """What a probe found, and whether the store has changed since."""

    found: Facts
    """As `featpipe.probes.result.ProbeResult.facts` tells it."""
    made: datetime | None
    stale: bool


@dataclass(frozen=True)
class ReportFacts:
    """All that a report tells."""

    store: Facts
    """As `featpipe.report.store.store_facts` tells it."""
    made: datetime
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    """Least and largest (height, width) of the images, in pixels; None where none is known."""
    plan: Facts | None
    """What the last run planned, where that is known."""
    standing: Standing | None
    runs: tuple[Run, ...]
    failures: Failures
    no_pictures: str
    """Why no image is shown; empty where they are."""
    samples: Samples
    statistics: tuple[MapStatistics, ...]
    probes: tuple[ProbeFacts, ...]
    stacked: tuple[str, ...]
    """Maps that are one array over all images."""
    opened: str
    """A map, or one image's, by which to show how the store is opened."""


def gather_facts(
    path: str, *, pictures: bool = True, most_values: int | None = None, seed: int = 0, tell: Tell | None = None
) -> ReportFacts:
    """Gather all that a report tells of a store.

    Parameters
    ----------
    path : str
        Of a store, complete or not.
    pictures : bool
        Whether to show images; the responses are shown in any case.
    most_values : int, optional
        Of a map, that its statistics look at.
    seed : int
        Of their draw.
    tell : callable, optional

    Raises
    ------
    StoreError
        If there is no store.
    """
    stack = open_stack(path)
    tell = tell or (lambda *_: None)
    facts = store_facts(stack.info(), stack.place)
    receipts = [] if stack.status == "complete" else Journal(stack.place).read()
    failed = dict(read_failures(stack.place))
    for receipt in receipts:
        failed.update(receipt.failures or {})
    glance, why = _open_images(facts["pipeline"]) if pictures else (None, "The images were left out (--no-pictures).")
    statistics = []
    look = map_statistics if most_values is None else partial(map_statistics, most_values=most_values)
    for i, name in enumerate(stack.maps):
        tell("features", i, len(stack.maps))
        statistics.append(look(stack, name, seed=seed))
    tell("pictures", 0, 1)
    stacked = tuple(name for name in stack.maps if stacked_map(stack, name) is not None)
    rows = choose_images(stack, _done(stack, receipts, failed))
    history = History(stack.place)
    digest = str((facts["digests"] or {}).get("pipeline"))
    plan = history.plan()
    first = stack.maps[0] if stack.maps else ""
    return ReportFacts(
        store=facts,
        made=datetime.now().astimezone(),
        sizes=_sizes(stack),
        plan=plan if plan is not None and plan.get("pipeline") == digest else None,
        standing=standing(stack.place, complete=stack.status == "complete"),
        runs=tuple(read_runs(stack.place, digest)),
        failures=group_failures(failed, stack.paths.tolist(), glance),
        no_pictures=why,
        samples=draw_samples(stack, rows, glance, statistics),
        statistics=tuple(statistics),
        probes=_probes(stack, history),
        stacked=stacked,
        opened=first if first in stacked else f"images/{rows[0] if rows else 0}/{first}",
    )


def _open_images(pipeline: Mapping[str, Any]) -> tuple[Glance | None, str]:
    """Return what opens a pipeline's images again, or why they cannot be."""
    try:
        images = parse_pipeline(pipeline).images
    except FeatpipeError as error:
        return None, f"Thumbnails of the images are not available, as this featpipe cannot read the pipeline: {error}"
    glance = Glance(images)
    why = glance.why_not()
    return (None, f"Thumbnails of the images are not available: {why}") if why else (glance, "")


def _done(stack: Stack, receipts: Sequence[Receipt], failed: Mapping[int, str]) -> Any:
    """Return which images have features; of a partial store, those that a receipt tells of."""
    if stack.status == "complete":
        return None
    there = np.zeros(stack.n, np.bool_)
    for receipt in receipts:
        there[slice(*receipt.images)] = True
    there[[image for image in failed if image < stack.n]] = False
    return there


def _sizes(stack: Stack) -> tuple[tuple[int, int], tuple[int, int]] | None:
    root: Any = zarr.open_group(stack.place.open_zarr(), mode="r")
    sizes = np.stack([np.asarray(root[axis][...]) for axis in ("height", "width")], axis=1)
    sizes = sizes[sizes[:, 0] > 0]
    if not len(sizes):
        return None
    least, most = sizes.min(axis=0), sizes.max(axis=0)
    return (int(least[0]), int(least[1])), (int(most[0]), int(most[1]))


def _probes(stack: Stack, history: History) -> tuple[ProbeFacts, ...]:
    saved = [one for one in history.probes() if isinstance(one.get("found"), dict)]
    if not saved:
        return ()
    now = content_digest(stack.place)
    return tuple(ProbeFacts(one["found"], _time(one.get("made")), one.get("digest") != now) for one in saved)


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except ValueError:
        return None
