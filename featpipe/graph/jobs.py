"""What is run, and what whoever runs it must be able to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol


class Job(Protocol):
    """Something whose ``run(index)`` does one task and returns its receipt."""

    def run(self, index: int) -> Any: ...


@dataclass(frozen=True)
class Crew:
    """Who works."""

    workers: int
    threads: int
    lost: int = 0
    """Workers that went away since the run began."""
    dashboard: str = ""
    """Address of the cluster's page, if it has one."""


class Workers(Protocol):
    """Whoever runs jobs: threads, or a cluster."""

    memory_bytes: int | None
    """What tasks may use of one worker's memory; None for as much as there is."""
    threads: int
    """Tasks that one worker runs at once, at most."""

    def run(
        self,
        job: Job,
        tasks: Iterable[int],
        on_receipt: Callable[[Any], None],
        stop: threading.Event,
        *,
        at_once: int | None = None,
        on_crew: Callable[[Crew], None] | None = None,
    ) -> None:
        """Run tasks, until all are done or ``stop`` is set and those that had begun are done.

        Parameters
        ----------
        job : Job
        tasks : iterable of int
            Which tasks to run.
        on_receipt : callable
            Called in this thread with what each task returns, as it comes.
        stop : threading.Event
            Once set, tasks that have not begun are left out.
        at_once : int, optional
            Tasks that one worker may run at once, as the plan has it; ``threads`` unless given.
        on_crew : callable, optional
            Called in this thread when workers come or go.
        """
        ...
