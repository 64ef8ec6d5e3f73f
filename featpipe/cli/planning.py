"""From a pipeline file to a plan, to a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featpipe.cli.console import waiting
from featpipe.cli.guard import located
from featpipe.cli.progress import run_progress
from featpipe.errors import FeatpipeError, Problem, RunError, SpecError
from featpipe.spec.load import load_pipeline

if TYPE_CHECKING:
    from featpipe.plan.budget import Resources
    from featpipe.plan.model import Plan
    from featpipe.run import RunReport


def make_run_plan(
    file: Path,
    overrides: Sequence[str],
    memory_bytes: int | None,
    threads: int | None,
    scheduler: str | None,
    *,
    quiet: bool = False,
) -> Plan:
    """Read a pipeline and plan its run in this process or on a cluster.

    Raises
    ------
    SpecError, SourceError, PlanError
        Whose problems tell their place in the file.
    RunError
        If no cluster answers at ``scheduler``.
    """
    pipeline, source = load_pipeline(file, overrides)
    with waiting("looking at the images …", quiet=quiet), located(source):
        from featpipe.run import plan_run

        return plan_run(pipeline, _resources(memory_bytes, threads, scheduler))


def look_at_store(plan: Plan) -> dict[str, Any]:
    """Return what a run will find at the store's path, and do: in a sentence (``there``), and in numbers."""
    from featpipe.run.standing import look
    from featpipe.store.place import open_place
    from featpipe.store.target import check_place

    place = open_place(plan.pipeline.store.path)
    try:
        check_place(place)
        return look(place, plan).facts()
    except FeatpipeError as error:
        said = f"A run will refuse this place: it {error.problems[0].what} {error.problems[0].change}".strip()
        return {"there": said, "refused": True}


def carry_out(plan: Plan, scheduler: str | None, *, quiet: bool, **options: Any) -> RunReport:
    """Run a plan and show how it goes on; ``options`` are those of `featpipe.run.run_plan`."""
    from featpipe.run import run_plan

    with run_progress(quiet=quiet) as progress, reachable(scheduler):
        return run_plan(plan, scheduler=scheduler, progress=progress, **options)


def _resources(memory_bytes: int | None, threads: int | None, scheduler: str | None) -> Resources:
    from featpipe.run import default_resources

    if scheduler is not None:
        from featpipe.graph import cluster_resources

        with reachable(scheduler):
            worker_bytes, worker_threads = cluster_resources(scheduler)
        memory_bytes = memory_bytes or worker_bytes
        # A worker's threads are its own to choose: planning fewer of them would plan too little memory.
        threads = max(threads or 0, worker_threads)
    return default_resources(memory_bytes, threads)


@contextmanager
def reachable(scheduler: str | None) -> Iterator[None]:
    """Tell in words that there is no cluster, or no library to talk to one."""
    try:
        yield
    except ModuleNotFoundError as error:
        if scheduler is None or error.name != "distributed":
            raise
        what = "running on a cluster needs the package distributed, which is not installed."
        raise SpecError(Problem("--scheduler", what, "pip install 'featpipe[distributed]'")) from None
    except OSError as error:
        # A file's error has a number; a failed connection's often has none.
        connection = error.errno is None or isinstance(error, (ConnectionError, TimeoutError))
        if scheduler is None or not connection:
            raise
        what = f"no Dask scheduler with workers answers at {scheduler}: {str(error).rstrip('.')}."
        change = "Check the address, and that scheduler and workers are running."
        raise RunError(Problem("--scheduler", what, change)) from None
