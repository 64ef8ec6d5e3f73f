"""What a run did, as plain data for JSON and for text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from featpipe.plan.model import Plan

MOST_PATHS = 100
"""Paths told for each reason; the store's array ``ok`` tells all."""


class FailedImage(Protocol):
    """An image that gave no features, and why."""

    @property
    def image(self) -> int: ...

    @property
    def reason(self) -> str: ...

    @property
    def unavailable(self) -> bool: ...


class Report(Protocol):
    """What is told of a run; see `featpipe.run.RunReport`."""

    store: str
    status: Any
    images: int
    tasks: int
    resumed: int
    pixels: int
    bytes_written: int
    retried: int
    seconds: float
    phases: dict[str, float]

    @property
    def failures(self) -> Sequence[FailedImage]: ...


def run_facts(report: Report, plan: Plan) -> dict[str, Any]:
    """Return what a run did, as JSON-able data."""
    seconds = max(report.seconds, 1e-9)
    ran = report.status != "unchanged"
    total = sum(report.phases.values())
    return {
        "status": report.status,
        "store": report.store,
        "images": report.images,
        "failed": len(report.failures),
        "unavailable": sum(failure.unavailable for failure in report.failures),
        "failures": group_failures(report.failures, plan.collection.paths),
        "tasks": len(plan.tasks),
        "tasks_done": report.resumed + report.tasks,
        "tasks_resumed": report.resumed,
        "seconds": report.seconds,
        "pixels": report.pixels,
        "bytes_written": report.bytes_written,
        "reads_retried": report.retried,
        "images_per_second": report.images * report.tasks / max(1, len(plan.tasks)) / seconds if ran else None,
        "pixels_per_second": report.pixels / seconds if ran else None,
        "bytes_per_second": report.bytes_written / seconds if ran else None,
        "shares": {phase: time / total for phase, time in report.phases.items()} if total else {},
        "open": open_lines(report.store, plan) if report.status != "interrupted" else [],
    }


def group_failures(failures: Sequence[FailedImage], paths: Sequence[str]) -> list[dict[str, Any]]:
    """Return the reasons of failed images with their counts and first paths, the commonest first."""
    groups: dict[str, list[str]] = {}
    for failure in failures:
        path = paths[failure.image]
        groups.setdefault(failure.reason.removeprefix(f"{path}: "), []).append(path)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [{"reason": why, "count": len(where), "paths": where[:MOST_PATHS]} for why, where in ordered]


def open_lines(store: str, plan: Plan) -> list[str]:
    """Return the lines of Python that open the store and take the features out, as suits what it holds."""
    lines = ["import featpipe", f"stack = featpipe.open({_quoted(store)})"]
    collection = plan.collection
    if not any(a_map.stacked for a_map in plan.maps):
        first = int(np.argmax(collection.heights > 0))
        return [*lines, f"values = stack.image({first})[{_quoted(plan.maps[0].name)}]"]
    used = [name for i, name in enumerate(collection.split_names) if (collection.splits == i).any()]
    split = "train" if "train" in used else used[0] if used else None
    return [*lines, f"X, y = stack.xy(split={_quoted(split)})" if split else "X, y = stack.xy()"]


def _quoted(text: str) -> str:
    """Write text as Python does, in double quotes."""
    return json.dumps(text, ensure_ascii=False)
