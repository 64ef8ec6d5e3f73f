"""The stage before a run, with whatever computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from featpipe.errors import InterruptedRunError
from featpipe.graph import Job, ThreadWorkers, Workers
from featpipe.plan.model import Plan
from featpipe.run.report import Progress, drain_on_interrupt

if TYPE_CHECKING:
    from featpipe.fit.stage import Note, Shelf


def learn(
    plan: Plan,
    shelf: Shelf,
    *,
    workers: Workers | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    note: Note = lambda _: None,
) -> Plan:
    """Learn the banks that a plan asks for, in this process or on a cluster; return the plan with them.

    Parameters
    ----------
    plan : Plan
    shelf : Shelf
        Where learned banks are kept.
    workers : Workers, optional
        Threads of this process unless given.
    progress : Progress, optional
    stop : threading.Event, optional
        Once set, learning is interrupted.
    note : callable, optional
        Is told the content of the images that are read, by their rows.

    Raises
    ------
    PlanError, RunError
        If a bank cannot be learned from these images.
    InterruptedRunError
        If somebody pressed Ctrl-C; banks that were learned by then are kept.
    """
    from featpipe.fit.stage import learn_banks

    crew = workers or ThreadWorkers(plan.memory.threads)
    stop = stop or threading.Event()
    on_crew = progress.crew if progress is not None else None

    def execute(job: Job, tasks: Iterable[int], arrived: Callable[[Any], None]) -> None:
        crew.run(job, tasks, arrived, stop, at_once=plan.memory.threads, on_crew=on_crew)
        if stop.is_set():
            raise InterruptedRunError("interrupted while it learned")

    with drain_on_interrupt(stop, progress):
        return learn_banks(plan, execute, shelf, progress.tell if progress is not None else lambda _: None, note)
