"""The stage before a run, with whatever computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from featpipe import graph
from featpipe.plan.model import Plan
from featpipe.run.report import Progress

if TYPE_CHECKING:
    from featpipe.fit.stage import Shelf


def learn(plan: Plan, shelf: Shelf, *, scheduler: str | None = None, progress: Progress | None = None) -> Plan:
    """Learn the banks that a plan asks for, in this process or on a cluster; return the plan with them.

    Parameters
    ----------
    plan : Plan
    shelf : Shelf
        Where learned banks are kept.
    scheduler : str, optional
        Address of a Dask scheduler; threads of this process unless given.
    progress : Progress, optional

    Raises
    ------
    PlanError, RunError
        If a bank cannot be learned from these images.
    """
    from featpipe.fit.stage import learn_banks

    stop = threading.Event()

    def execute(job: graph.Job, tasks: Iterable[int], arrived: Callable[[Any], None]) -> None:
        if scheduler is None:
            graph.run_threads(job, tasks, plan.memory.threads, arrived, stop)
        else:
            graph.run_cluster(job, tasks, scheduler, arrived, stop)

    return learn_banks(plan, execute, shelf, progress.tell if progress is not None else lambda _: None)
