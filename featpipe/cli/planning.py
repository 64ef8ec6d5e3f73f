"""From a pipeline file to a plan, to a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from featpipe.cli.console import waiting
from featpipe.cli.guard import located
from featpipe.cli.progress import run_progress
from featpipe.errors import FeatpipeError, Problem, RunError, SpecError
from featpipe.spec.load import load_pipeline

if TYPE_CHECKING:
    from featpipe.plan.budget import Resources
    from featpipe.plan.model import Plan
    from featpipe.run import RunReport

_FOUND = {
    "absent": "Nothing is there yet.",
    "partial": "A run of this pipeline was begun there; the next goes on with it.",
    "complete": "These features are there already, complete: a run has nothing to do.",
    "replace": "What is there was not finished and will be replaced.",
}


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


def look_at_store(plan: Plan) -> str:
    """Return in a sentence what a run will find at the store's path."""
    from featpipe.plan.identity import plan_digests
    from featpipe.store.target import check_target

    try:
        found = check_target(Path(plan.pipeline.store.path), plan_digests(plan))
    except FeatpipeError as error:
        return f"A run will refuse this place: it {error.problems[0].what} {error.problems[0].change}".strip()
    return _FOUND[found]


def carry_out(plan: Plan, scheduler: str | None, *, overwrite: bool, quiet: bool) -> RunReport:
    """Run a plan and show how it goes on."""
    from featpipe.run import run_plan

    with run_progress(quiet=quiet) as progress, reachable(scheduler):
        return run_plan(plan, scheduler=scheduler, overwrite=overwrite, progress=progress)


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
