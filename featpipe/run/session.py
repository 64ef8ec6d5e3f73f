"""The run of a plan: what it finds in the store, the lock that it holds, and the order of its steps."""

from __future__ import annotations

from featpipe.errors import InterruptedRunError
from featpipe.graph import ThreadWorkers, Workers
from featpipe.plan.model import Plan
from featpipe.run.compiling import load_kernels
from featpipe.run.planning import OTHER_ORDER
from featpipe.run.report import Progress, RunReport
from featpipe.run.steps import RunSession
from featpipe.store.place import open_place
from featpipe.store.target import check_place


def run_plan(
    plan: Plan,
    *,
    workers: Workers | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    max_failures: int | float | None = None,
    fsync: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Carry out a plan: compute what the store lacks of it.

    Parameters
    ----------
    plan : Plan
    workers : Workers, optional
        Threads of this process unless given.
    overwrite : bool
        Discard features of another pipeline or other versions, or of images that have changed, are gone or unreadable.
    retry_failed : bool
        Compute again what images belong to that failed.
    max_failures : int or float, optional
        Images that may fail before the run does: how many, or, as a float, which share of them.
    fsync : bool
        Whether shards must have reached the disk before they count.
    progress : Progress, optional

    Returns
    -------
    RunReport
        Its status is ``unchanged`` when the store was there and complete already.

    Raises
    ------
    StoreError
        If something else is at the store's path, or another run writes it.
    RunError
        If a task failed, or too many images did.
    """
    from featpipe.run.record import recorded
    from featpipe.run.standing import look
    from featpipe.store.lock import StoreLock

    place = open_place(plan.pipeline.store.path, fsync=fsync)
    check_place(place)
    tell = progress.tell if progress is not None else lambda _: None
    if OTHER_ORDER in plan.notes:
        tell(OTHER_ORDER)
    standing = look(place, plan, retry_failed=retry_failed)
    if standing.complete:
        return RunSession(standing, None, max_failures, progress).unchanged()
    standing.check(overwrite=overwrite)
    if standing.todo:
        load_kernels(tell)
    with StoreLock(place).held() as lock:
        standing = look(place, plan, retry_failed=retry_failed)
        standing.check(overwrite=overwrite)
        if standing.open:
            standing.contents.settle(standing.open, tell, "comparing the content")
            standing = look(place, plan, retry_failed=retry_failed, contents=standing.contents)
            standing.check(overwrite=overwrite)
        run = RunSession(standing, lock, max_failures, progress)
        if standing.complete:
            return run.unchanged()
        run.check_failures()
        load_kernels(tell)
        options = {"overwrite": overwrite, "retry_failed": retry_failed}
        with recorded(standing, lock.token, options, run.outcome):
            run.prepare()
            crew = workers or ThreadWorkers(plan.memory.threads)
            try:
                run.learn(crew)
            except InterruptedRunError:
                return run.finish()
            run.execute(crew)
            return run.finish()
