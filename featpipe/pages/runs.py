"""The runs of a store, as a reader wants to know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from featpipe.store.history import Facts, History
from featpipe.store.lock import StoreLock
from featpipe.store.place import Place
from featpipe.store.receipts import Journal

PHASES = ("read", "compute", "write")


@dataclass(frozen=True)
class Phase:
    """What all tasks of a run together spent on one thing."""

    name: str
    seconds: float
    share: float
    rate: float | None
    """Of one thread: pixels a second read or computed, bytes a second written before compression."""


@dataclass(frozen=True)
class Run:
    """One run."""

    began: datetime
    status: str
    """``complete``, ``interrupted``, ``failed``, ``killed`` or ``running``."""
    seconds: float | None
    """None of a run that did not tell its end."""
    tasks: int | None
    tasks_planned: int
    resumed: int
    """Tasks that were done before it."""
    images_per_second: float | None
    pixels_per_second: float | None
    bytes_per_second: float | None
    bytes_written: int
    failed: int | None
    phases: tuple[Phase, ...]
    threads: int
    workers: int | None
    """Of a cluster."""
    host: str
    versions: Mapping[str, str]
    reasons: Mapping[str, int]
    """Why shards were to be computed, and how many of them."""
    options: tuple[str, ...]
    error: str
    same: bool
    """Whether it ran the pipeline that the store is of."""


@dataclass(frozen=True)
class Standing:
    """How far a store is, in shards of a task and map."""

    done: int
    planned: int


def read_runs(place: Place, pipeline_digest: str) -> list[Run]:
    """Return the runs of a store, the oldest first; those whose record cannot be understood are left out.

    Parameters
    ----------
    place : Place
        Of the store.
    pipeline_digest : str
        Of the pipeline that the store is of.
    """
    records = [one for one in History(place).runs() if _is_record(one)]
    running = (StoreLock(place).living() or {}).get("token")
    runs = []
    for i, record in enumerate(records):
        after = records[i + 1] if i + 1 < len(records) else None
        with suppress(KeyError, TypeError, ValueError):
            runs.append(_run(record, after, running, pipeline_digest))
    return runs


def standing(place: Place, *, complete: bool) -> Standing | None:
    """Return how far a store is; None where nobody knows."""
    records = [one for one in History(place).runs() if _is_record(one)]
    planned = int(records[-1].get("shards_planned", 0)) if records else 0
    if not planned:
        return None
    return Standing(planned if complete else min(planned, len(Journal(place).read())), planned)


def _is_record(record: Facts) -> bool:
    try:
        datetime.fromisoformat(record["began"])
        numbers = [record[key] for key in ("images", "tasks_planned", "resumed", "threads")]
        phases = record.get("phases", {})
    except (KeyError, TypeError, ValueError):
        return False
    return all(isinstance(one, int) for one in numbers) and isinstance(phases, dict)


def _run(record: Facts, after: Facts | None, running: str | None, digest: str) -> Run:
    told = "seconds" in record
    status = str(record.get("status"))
    if not told:
        status = "running" if running and record.get("run") == running else "killed"
    tasks = record.get("tasks") if told else _done_by(record, after)
    seconds = float(record["seconds_computing"]) if told else 0.0
    rates = seconds > 0 and bool(record.get("tasks"))
    options = [name.replace("_", "-") for name in ("overwrite", "retry_failed") if record.get(name)]
    return Run(
        began=datetime.fromisoformat(record["began"]).astimezone(),
        status=status,
        seconds=float(record["seconds"]) if told else None,
        tasks=tasks,
        tasks_planned=record["tasks_planned"],
        resumed=record["resumed"],
        images_per_second=_images(record) / seconds if rates else None,
        pixels_per_second=record["pixels"] / seconds if rates else None,
        bytes_per_second=record["bytes_written"] / seconds if rates else None,
        bytes_written=int(record.get("bytes_written", 0)),
        failed=record.get("failed"),
        phases=_phases(record),
        threads=record["threads"],
        workers=record.get("workers"),
        host=str(record.get("host", "")),
        versions=record.get("versions", {}),
        reasons=record.get("reasons", {}),
        options=tuple(f"--{name}" for name in options),
        error=str(record.get("error", "")),
        same=record.get("pipeline") == digest,
    )


def _done_by(record: Facts, after: Facts | None) -> int | None:
    """Return what a killed run had done, by what the next one found; None where that cannot be told."""
    if after is None or any(after.get(key) != record.get(key) for key in ("pipeline", "tasks_planned")):
        return None
    return max(0, int(after["resumed"]) - int(record["resumed"]))


def _images(record: Mapping[str, Any]) -> float:
    """Return how many images' worth of tasks were done."""
    return float(record["images"] * record["tasks"] / max(1, record["tasks_planned"]))


def _phases(record: Mapping[str, Any]) -> tuple[Phase, ...]:
    spent = {name: float(record.get("phases", {}).get(name, 0.0)) for name in PHASES}
    total = sum(spent.values())
    if not total:
        return ()
    amounts = {"read": record["pixels"], "compute": record["pixels"], "write": record["bytes_written"]}
    return tuple(
        Phase(name, seconds, seconds / total, amounts[name] / seconds if seconds else None)
        for name, seconds in spent.items()
    )


def latest(runs: Sequence[Run]) -> Run | None:
    """Return the last run that told how it went."""
    return next((run for run in reversed(runs) if run.phases), None)
