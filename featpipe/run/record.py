"""What the history of a store keeps of a run."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from featpipe.errors import FeatpipeError, InterruptedRunError
from featpipe.plan.identity import plan_digests
from featpipe.plan.model import Plan
from featpipe.report.plan import plan_facts
from featpipe.store.history import History

if TYPE_CHECKING:
    from featpipe.run.standing import Standing

PACKAGES = ("featpipe", "numpy", "numba", "zarr")
"""Whose versions are told of a run: those that its speed depends on."""
LONGEST = 2000
"""Letters of an error that are kept."""


@contextmanager
def recorded(
    standing: Standing, run: str, options: Mapping[str, Any], outcome: Callable[[], Mapping[str, Any]]
) -> Iterator[None]:
    """Keep in a store's history that a run begins and, however it does, that it ends.

    Parameters
    ----------
    standing : Standing
        How the store stands to the plan as the run begins.
    run : str
        The token of its lock.
    options : mapping
        Of the run, JSON-able.
    outcome : callable
        Returns what was done, JSON-able, with its ``status``, when the run is over.
    """
    history = History(standing.place)
    digest = plan_digests(standing.plan)["pipeline"]
    beginning, planned = ({"pipeline": digest, **facts} for facts in (_beginning(standing), _planned(standing.plan)))
    key = history.begin(run, {**options, **beginning}, planned, fresh=standing.header is None and not standing.receipts)
    start = time.perf_counter()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        ending = {**outcome(), "seconds": time.perf_counter() - start}
        if error is not None:
            interrupted = isinstance(error, (KeyboardInterrupt, InterruptedRunError))
            ending |= {"status": "interrupted" if interrupted else "failed", "error": _told(error)}
        history.end(key, ending)


def _beginning(standing: Standing) -> dict[str, Any]:
    plan = standing.plan
    return {
        "status": "begun",
        "host": socket.gethostname(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "images": len(plan.collection),
        "threads": plan.memory.threads,
        "tasks_planned": len(plan.tasks),
        "resumed": standing.done,
        "shards_planned": sum(len(task.maps) for task in plan.tasks),
        "shards_kept": len(standing.kept),
        "reasons": dict(standing.reasons),
    }


def _planned(plan: Plan) -> dict[str, Any]:
    """Return what the plan tells of the chains; the images are in the store."""
    facts = plan_facts(plan)
    images = {key: facts["images"][key] for key in ("kind", "channels", "dtype", "least", "most")}
    kept = {key: facts[key] for key in ("branches", "batch", "block", "flop", "memory", "notes")}
    return {"images": images, **kept}


def _told(error: BaseException) -> str:
    if isinstance(error, FeatpipeError):
        return "\n".join(map(str, error.problems))[:LONGEST]
    return f"{type(error).__name__}: {error}"[:LONGEST]
