"""From a pipeline file to a plan, to a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featpipe.cli.console import say, waiting
from featpipe.cli.guard import located
from featpipe.cli.progress import run_progress
from featpipe.errors import FeatpipeError, PlanError, Problem, SpecError
from featpipe.spec.load import load_pipeline

if TYPE_CHECKING:
    from featpipe.graph import Workers
    from featpipe.plan.model import Plan
    from featpipe.run import RunReport
    from featpipe.spec.cluster import Cluster
    from featpipe.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Machines:
    """What the command line says of who shall compute; the pipeline's ``cluster`` holds where it says nothing."""

    memory_bytes: int | None = None
    threads: int | None = None
    scheduler: str | None = None
    """A scheduler's address, or the file that it wrote."""
    workers: int | None = None
    """Processes of this machine."""

    def cluster(self, pipeline: Pipeline) -> Cluster | None:
        """Return the cluster that is asked for; None for threads of this process."""
        from featpipe.spec.cluster import Cluster, LocalWorkers

        if self.scheduler is not None and self.workers is not None:
            raise SpecError(Problem("--workers", "starts workers, and --scheduler names some.", "Give one of them."))
        if self.workers is not None:
            return Cluster(local=LocalWorkers(workers=self.workers, threads=self.threads or 1))
        if self.scheduler is None:
            return pipeline.cluster
        tls = pipeline.cluster.tls if pipeline.cluster is not None else None
        if self.scheduler.endswith(".json"):
            return Cluster(scheduler_file=self.scheduler, tls=tls)
        return Cluster(address=self.scheduler, tls=tls)


@contextmanager
def planned_run(
    file: Path, overrides: Sequence[str], machines: Machines, *, dry: bool = False, quiet: bool = False
) -> Iterator[tuple[Plan, Workers | None]]:
    """Read a pipeline and plan its run, in this process or on a cluster, which stays open meanwhile.

    Parameters
    ----------
    file : Path
    overrides : sequence of str
    machines : Machines
    dry : bool
        Whether it is only planned, so that nobody needs to be started.
    quiet : bool

    Yields
    ------
    (Plan, Workers or None)

    Raises
    ------
    SpecError, SourceError, PlanError
        Whose problems tell their place in the file.
    RunError
        If no cluster answers.
    """
    pipeline, source = load_pipeline(file, overrides)
    with ExitStack() as stack:
        workers = None
        with located(source):
            cluster = machines.cluster(pipeline)
            if cluster is not None and not (dry and cluster.way in ("local", "class")):
                workers = stack.enter_context(_opened(cluster, quiet=quiet))
            with waiting("looking at the images …", quiet=quiet):
                plan = _plan(pipeline, machines, workers, cluster)
        yield plan, workers


@contextmanager
def _opened(cluster: Cluster, *, quiet: bool) -> Iterator[Workers]:
    """Open a cluster, and say where it can be looked at."""
    from featpipe.graph import is_exposed, open_workers

    with ExitStack() as stack:
        with waiting("looking for the cluster …", quiet=quiet):
            workers = stack.enter_context(open_workers(cluster))
        if is_exposed(workers.connection.address):
            where = workers.connection.address
            say(f"featpipe: {where} is not encrypted: whoever reaches it can run code there. Use tls://.")
        yield workers


def _plan(pipeline: Pipeline, machines: Machines, workers: Workers | None, cluster: Cluster | None) -> Plan:
    from featpipe.graph import local_memory
    from featpipe.run import cluster_resources, default_resources, plan_run

    if workers is None:
        local = cluster.local if cluster is not None else None
        memory = machines.memory_bytes or (local_memory(local) if local else None)
        return plan_run(pipeline, default_resources(memory, machines.threads or (local.threads if local else None)))
    for resources in cluster_resources(workers, machines.memory_bytes):
        try:
            return plan_run(pipeline, resources)
        except PlanError:
            if resources.threads == 1:
                raise
    raise AssertionError("no worker has no threads")


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


def carry_out(plan: Plan, workers: Workers | None, *, quiet: bool, log_format: str, **options: Any) -> RunReport:
    """Run a plan and show how it goes on; ``options`` are those of `featpipe.run.run_plan`."""
    from featpipe.run import run_plan

    with run_progress(quiet=quiet, log_format=log_format) as progress:
        return run_plan(plan, workers=workers, progress=progress, **options)
