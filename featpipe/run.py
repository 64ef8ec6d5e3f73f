"""The run: scan, plan, create the store, execute the graph, finish.

What computes and writes is imported where a run begins: planning needs no kernels and no zarr.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import psutil

from featpipe import graph
from featpipe.errors import ImageError, RunError, StoreError
from featpipe.images.scan import scan
from featpipe.plan.budget import Resources
from featpipe.plan.build import make_plan
from featpipe.plan.identity import plan_digests
from featpipe.plan.layout import array_plans
from featpipe.plan.model import Plan
from featpipe.spec.defaults import resolved
from featpipe.spec.pipeline import Pipeline
from featpipe.store.receipts import Receipts
from featpipe.store.target import check_target

if TYPE_CHECKING:
    from featpipe.fit.stage import Shelf
    from featpipe.task import Failure, Receipt

BASE_BYTES = 320 << 20
"""A process with all libraries loaded and all kernels compiled, before its first task."""
LONG = 2.0
"""Seconds after which people want to know what they wait for."""
MEMORY_SHARE = 0.6
"""Of the memory that is free, what a run takes unless told otherwise."""


class Progress(Protocol):
    """Who wants to see the run go on."""

    def start(self, plan: Plan, tasks: Sequence[int]) -> None: ...

    def update(self, receipt: Receipt) -> None: ...

    def tell(self, what: str) -> None: ...

    def stopping(self) -> None: ...


@dataclass
class RunReport:
    """What a run did."""

    store: str
    status: Literal["complete", "unchanged", "interrupted"]
    images: int
    failures: list[Failure] = field(default_factory=list)
    paths: tuple[str, ...] = ()
    tasks: int = 0
    """Tasks done by this run."""
    resumed: int = 0
    """Tasks that an earlier run had done."""
    pixels: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of all tasks together spent on read, compute and write."""


def default_resources(memory_bytes: int | None = None, threads: int | None = None) -> Resources:
    """Return what a run in this process may use: all cores and a share of the free memory, unless told otherwise."""
    return Resources(
        memory_bytes or int(MEMORY_SHARE * _free_memory()),
        threads or graph.cpu_count(),
        BASE_BYTES,
    )


def _free_memory() -> int:
    """Return the memory that is free to this process, in bytes, within its control group."""
    free = int(psutil.virtual_memory().available)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return free


def plan_run(pipeline: Pipeline, resources: Resources) -> Plan:
    """Scan the images and decide everything, without reading a pixel."""
    return make_plan(pipeline, scan(pipeline.images), resources)


def run_plan(
    plan: Plan, *, scheduler: str | None = None, overwrite: bool = False, progress: Progress | None = None
) -> RunReport:
    """Carry out a plan.

    Parameters
    ----------
    plan : Plan
    scheduler : str, optional
        Address of a Dask scheduler; threads of this process unless given.
    overwrite : bool
        Replace a featpipe store of another pipeline.
    progress : Progress, optional

    Returns
    -------
    RunReport
        Its status is ``unchanged`` when the store was there and complete already.

    Raises
    ------
    StoreError
        If something else is at the store's path.
    RunError
        If a task failed, or every image did.
    """
    from featpipe.store.create import create_store

    target = Path(plan.pipeline.store.path)
    digests = plan_digests(plan)
    found = check_target(target, digests, overwrite=overwrite)
    if found == "complete":
        return RunReport(str(target), "unchanged", len(plan.collection), paths=plan.collection.paths)
    attributes = {"pipeline": resolved(plan.pipeline), "digests": digests}
    arrays = ((plan.maps[i], array) for i, array in array_plans(plan))
    create_store(target, arrays, plan.collection, attributes)
    _load_kernels(progress)
    if plan.program.fits:
        from featpipe.store.fits import StoreShelf

        plan = learn(plan, StoreShelf(target), scheduler=scheduler, progress=progress)
    receipts = Receipts(target, digests)
    run = _Run(plan, target, receipts, progress)
    if found == "partial":
        run.resume()
    else:
        receipts.begin()
    run.execute(scheduler)
    return run.finish()


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


def _load_kernels(progress: Progress | None) -> None:
    """Import what computes; the first time on a machine that compiles, and says so."""
    tell = progress.tell if progress is not None else lambda _: None
    telling = threading.Timer(LONG, tell, ["compiling the kernels, once on this machine"])
    telling.start()
    try:
        import featpipe.task  # noqa: F401
    finally:
        telling.cancel()


class _Run:
    def __init__(self, plan: Plan, target: Path, receipts: Receipts, progress: Progress | None) -> None:
        from featpipe.store.write import StoreWriter

        self.plan = plan
        self.receipts = receipts
        self.done: set[int] = set()
        self.writer = StoreWriter(target)
        self.progress = progress
        self.stop = threading.Event()
        self.report = RunReport(str(target), "complete", len(plan.collection), paths=plan.collection.paths)
        self.phases: Counter[str] = Counter()
        self.failures: dict[int, Failure] = {}

    def resume(self) -> None:
        """Take over what an earlier run of the same plan has done."""
        from featpipe.task import Failure

        receipts = self.receipts.read()
        if not receipts:
            self.receipts.begin()
        self.done = set(receipts)
        self.report.resumed = len(receipts)
        for receipt in receipts.values():
            for image, reason in receipt["failures"].items():
                self.failures[int(image)] = Failure(int(image), reason)

    def execute(self, scheduler: str | None) -> None:
        from featpipe.images.reader import open_reader
        from featpipe.task import Work

        job = Work(self.plan, open_reader(self.plan.pipeline.images, self.plan.collection), self.writer)
        tasks = [task.index for task in self.plan.tasks if task.index not in self.done]
        start = time.perf_counter()
        if self.progress is not None:
            self.progress.start(self.plan, tasks)
        try:
            with drain_on_interrupt(self.stop, self.progress):
                if scheduler is None:
                    graph.run_threads(job, tasks, self.plan.memory.threads, self._arrived, self.stop)
                else:
                    graph.run_cluster(job, tasks, scheduler, self._arrived, self.stop)
        except (ImageError, StoreError) as error:
            raise RunError(error.problems) from error
        finally:
            self.report.seconds = time.perf_counter() - start

    def _arrived(self, receipt: Receipt) -> None:
        report = self.report
        report.tasks += 1
        report.pixels += receipt.pixels
        report.bytes_written += receipt.bytes_written
        self.phases.update(receipt.seconds)
        self.failures.update({failure.image: failure for failure in receipt.failures})
        self.receipts.add(receipt.task, {failure.image: failure.reason for failure in receipt.failures})
        if self.progress is not None:
            self.progress.update(receipt)

    def finish(self) -> RunReport:
        report = self.report
        report.phases = dict(self.phases)
        report.failures = [self.failures[image] for image in sorted(self.failures)]
        if report.resumed + report.tasks < len(self.plan.tasks):
            report.status = "interrupted"
            return report
        if len(report.failures) == len(self.plan.collection):
            self.receipts.remove()
            reasons = Counter(failure.reason for failure in report.failures).most_common(1)
            raise RunError(f"none of the {report.images} images could be read; the commonest reason: {reasons[0][0]}")
        self.writer.finish({failure.image: failure.reason for failure in report.failures})
        self.receipts.remove()
        return report


@contextmanager
def drain_on_interrupt(stop: threading.Event, progress: Progress | None) -> Iterator[None]:
    """Let the first Ctrl-C finish the running tasks and the second abort at once."""

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        if progress is not None:
            progress.stopping()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
