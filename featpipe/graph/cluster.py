"""Tasks on a Dask cluster: a bounded number under way, each sent as a number, receipts taken as they come.

    client                                         scheduler            workers
    the job, once ────────────────────────────────▶ keeps it ──────────▶ a copy each
    task 17 ──▶ (at most four a thread under way) ─────────────────────▶ read, compute, write
            ◀── receipt 17, and the next is sent ◀─────────────────────

A worker may die at any time: the scheduler gives its tasks to others. A task that takes workers along again and again
is tried in halves, until the image that kills is alone, and done without it.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from threadpoolctl import threadpool_limits

from featpipe.errors import FeatpipeError, Problem, RunError
from featpipe.geometry.axis import Span
from featpipe.graph.clusters import Connection, connected, local_share
from featpipe.graph.jobs import Crew, Job
from featpipe.plan.identity import DECODERS
from featpipe.spec.cluster import Cluster, LocalWorkers

WORKER_SHARE = 0.7
"""Of a worker's memory; beyond it Dask's workers begin to spill, and then to pause."""
WINDOW = 4
"""Tasks under way for each thread: enough that none waits for the next, few enough to stop soon."""
TICK = 1.0
"""Seconds between two looks at who works."""
PATIENCE = 30.0
"""Seconds that a scheduler may be silent before a run gives up."""
ANSWER = 10.0
"""Seconds to wait for each of its answers meanwhile."""
STARVING = 300.0
"""Seconds that workers may be missing, where nobody was asked for more of them."""
ATTEMPTS = 5
"""Times that a task is sent whose workers were lost."""
PACKAGES = ("featpipe", "numpy", "numba", *DECODERS)
"""Of which other versions on a worker might give other bits."""
DEADLY = "a worker process died whenever this image was read or computed"


@dataclass(frozen=True)
class Shared:
    """A job as it travels, once to each worker, with all that a worker must agree to."""

    name: str
    job: Any
    at_once: int
    versions: dict[str, str]


@contextmanager
def open_workers(cluster: Cluster) -> Iterator[ClusterWorkers]:
    """Give the workers of a cluster; one that was started for this ends with it. It raises what `connected` does."""
    with connected(cluster) as connection:
        yield ClusterWorkers(connection)


def local_memory(local: LocalWorkers) -> int:
    """Return what tasks may use of the memory of each local worker, in bytes, before any is started."""
    return int(WORKER_SHARE * local_share(local)[1])


class ClusterWorkers:
    """The workers of a Dask cluster.

    Parameters
    ----------
    connection : Connection
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        workers = connection.workers().values()
        limits = [int(worker["memory_limit"]) for worker in workers if worker["memory_limit"]]
        self.memory_bytes = int(WORKER_SHARE * min(limits)) if limits else None
        self.threads = max((int(worker["nthreads"]) for worker in workers), default=1)

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
        """Run tasks; see `featpipe.graph.jobs.Workers`.

        Raises
        ------
        RunError
            If the scheduler is gone, workers have other versions, or die of more than one image.
        """
        shared = Shared(uuid.uuid4().hex, job, at_once or self.threads, installed())
        _Dispatch(self.connection, shared, on_receipt, stop, on_crew).run(iter(tasks))


class _Dispatch:
    """One job under way on a cluster."""

    def __init__(
        self,
        connection: Connection,
        shared: Shared,
        on_receipt: Callable[[Any], None],
        stop: threading.Event,
        on_crew: Callable[[Crew], None] | None,
    ) -> None:
        self.connection = connection
        self.client = connection.client
        self.shared = shared
        self.on_receipt = on_receipt
        self.stop = stop
        self.on_crew = on_crew
        self.arrivals: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.running: dict[str, tuple[Any, int]] = {}
        self.without: dict[int, dict[int, str]] = {}
        self.attempts: dict[int, int] = {}
        self.suspects: list[tuple[int, BaseException]] = []
        """Tasks whose workers died, and of what."""
        self.crew: Crew | None = None
        self.seen: set[str] = set()
        self.window = WINDOW
        self.looked = 0.0
        self.leaving = False
        self.heard = self.staffed = time.monotonic()

    def run(self, tasks: Iterator[int]) -> None:
        self._share()
        try:
            self._look()
            self._fill(tasks)
            while self.running:
                self._take_in()
                self._leave_out()
                self._look()
                self._fill(tasks)
                if not self.running and self.suspects and not self.stop.is_set():
                    self._isolate(*self.suspects.pop())  # while nothing else runs that could kill a worker
        finally:
            with suppress(Exception):
                self.client.cancel([self.sent, *(future for future, _ in self.running.values())], force=True)

    def _share(self) -> None:
        """Send the job, as a task of its own: it is made again should all who hold it die."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            self.sent = self.client.submit(_take, self.shared, pure=False, key=f"featpipe-{uuid.uuid4().hex}")

    def _fill(self, tasks: Iterator[int]) -> None:
        while len(self.running) < self.window and not self.stop.is_set():
            index = next(tasks, None)
            if index is None:
                return
            self._send(index)

    def _send(self, index: int) -> None:
        attempt = self.attempts[index] = self.attempts.get(index, 0) + 1
        future = self._submit(_run_shared, f"{index}-{attempt}", index, self.without.get(index, {}))
        self.running[future.key] = future, index
        future.add_done_callback(self.arrivals.put)

    def _submit(self, function: Callable[..., Any], name: str, *arguments: Any) -> Any:
        if self.sent.status == "error":
            self._share()
        key = f"featpipe-{self.shared.name}-{name}"
        return self.client.submit(function, self.sent, *arguments, pure=False, key=key)

    def _leave_out(self) -> None:
        """Once the run is stopped, let workers pass over tasks that were sent to them and have not begun."""
        if not self.stop.is_set() or self.leaving:
            return
        self.leaving = True
        with suppress(OSError, TimeoutError):
            self.connection.ask(_broadcast, self.client, _leave, self.shared.name, seconds=ANSWER)

    def _take_in(self) -> None:
        """Wait for futures to be done, and deal with all that are: asked for together, they cost less."""
        arrived = []
        with suppress(queue.Empty):
            arrived.append(self.arrivals.get(timeout=TICK))
            while True:
                arrived.append(self.arrivals.get_nowait())
        known = [future for future in arrived if future.key in self.running]
        done = [future for future in known if future.status == "finished"]
        receipts: dict[str, Any] = {}
        with suppress(Exception):  # each is asked for by itself then
            found = self.connection.ask(_gather, self.client, done, seconds=PATIENCE)
            receipts = dict(zip([future.key for future in done], found, strict=True))
        for future in known:
            self._arrived(future, receipts)

    def _arrived(self, future: Any, receipts: Mapping[str, Any]) -> None:
        index = self.running[future.key][1]
        receipt, error = (receipts[future.key], None) if future.key in receipts else self._outcome(future)
        del self.running[future.key]
        if error is None:
            self.attempts.pop(index, None)
            if receipt is not None:
                self.on_receipt(receipt)
        elif _is_killed(error):
            self.suspects.append((index, error))
        elif isinstance(error, FeatpipeError) or self.attempts[index] >= ATTEMPTS:
            raise error
        else:
            self._send(index)

    def _outcome(self, future: Any) -> tuple[Any, BaseException | None]:
        """Wait for a future; return what it gave, or what it failed of."""
        from distributed import TimeoutError as Late

        while True:
            self._leave_out()
            self._look()
            if future.status == "cancelled":
                raise self._gone()
            try:
                return future.result(timeout=TICK), None
            except Late:
                continue
            except Exception as error:
                if future.status == "cancelled":
                    raise self._gone() from None
                return None, error

    def _isolate(self, index: int, error: BaseException) -> None:
        """Find the images of a task that kill whoever reads them, and send it again without them."""
        job = self.shared.job
        if not hasattr(job, "try_images") or self.attempts[index] >= ATTEMPTS:
            last = getattr(getattr(error, "last_worker", None), "address", "unknown")
            what = f"workers died {self.attempts[index]} times while they ran task {index}, the last of them {last}."
            change = "Look into its log; if it ran out of memory, plan with less (--memory). Then run again."
            raise RunError(Problem("cluster", what, change)) from error
        known = self.without.setdefault(index, {})
        spans: list[Span] = [job.images(index)]
        while spans and not self.stop.is_set():
            one = spans.pop()
            failed = self._try(index, one)
            if failed is None:
                continue
            if not _is_killed(failed):
                raise failed
            if one.length == 1:
                known[one.start] = DEADLY
            else:
                middle = (one.start + one.stop) // 2
                spans += [Span(middle, one.stop), Span(one.start, middle)]
        if not self.stop.is_set():
            self._send(index)

    def _try(self, index: int, images: Span) -> BaseException | None:
        """Try some images of a task; return what it failed of, if it was this that failed and not what it needs."""
        failed: BaseException | None = None
        for attempt in range(ATTEMPTS):
            name = f"try-{index}-{self.attempts[index]}-{images.start}-{images.stop}-{attempt}"
            future = self._submit(_try_shared, name, index, images)
            _, failed = self._outcome(future)
            if failed is None or not _is_killed(failed) or getattr(failed, "task", future.key) == future.key:
                break
        return failed

    def _look(self) -> None:
        """Look, once in a while, whether the scheduler is there, and who works."""
        now = time.monotonic()
        if now - self.looked < TICK:
            return
        self.looked = now
        workers: Mapping[str, int] | None = None
        if self.client.status == "running":
            with suppress(OSError, TimeoutError):
                workers = self.connection.threads(ANSWER)
        now = time.monotonic()
        if workers is None:
            if self.client.status == "closed" or now - self.heard > PATIENCE:
                raise self._gone()
            return
        self.heard = now
        threads = sum(workers.values())
        self.window = WINDOW * max(1, threads)
        self.seen |= set(workers)
        if workers:
            self.staffed = now
        elif self.stop.is_set():
            self.running.clear()  # nobody is left to finish them
        elif not self.connection.grows and now - self.staffed > STARVING:
            what = f"the scheduler at {self.connection.address} has had no workers for {STARVING:.0f} s."
            raise RunError(Problem("cluster", what, "Start workers, then run again: it goes on from here."))
        crew = Crew(len(workers), threads, len(self.seen) - len(workers), self.connection.dashboard)
        if crew != self.crew and self.on_crew is not None:
            self.on_crew(crew)
        self.crew = crew

    def _gone(self) -> RunError:
        what = f"the scheduler at {self.connection.address} is gone."
        return RunError(Problem("cluster", what, "Start it, then run again: it goes on from here."))


async def _gather(client: Any, futures: list[Any]) -> Any:
    return await client.gather(futures)


async def _broadcast(client: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    return await client.run(function, *arguments, on_error="ignore")


def _is_killed(error: BaseException) -> bool:
    return type(error).__name__ == "KilledWorker"


def installed() -> dict[str, str]:
    """Return the versions of what makes the features."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


# -- on the worker ----------------------------------------------------------------------------------------------------

_slots: dict[str, threading.BoundedSemaphore] = {}
_left: set[str] = set()
"""Jobs whose tasks are to be passed over."""
_entering = threading.Lock()


@contextmanager
def _admitted(shared: Shared) -> Iterator[Any]:
    """Wait for one of the places that a worker's memory has for tasks, and give the job; None if it was left."""
    with _entering:
        if shared.name not in _slots:
            _check_versions(shared.versions)
            _slots.clear()
            _slots[shared.name] = threading.BoundedSemaphore(shared.at_once)
            threadpool_limits(1)  # for good: to look for the libraries takes a millisecond, too much for each task
        slots = _slots[shared.name]
    with slots:
        yield None if shared.name in _left else shared.job


def _check_versions(wanted: Mapping[str, str]) -> None:
    here = installed()
    differ = [f"{name} {here[name]} (here {there})" for name, there in wanted.items() if here[name] != there]
    if differ:
        what = f"a worker has {', '.join(differ)}: its features could differ in their last bits."
        raise RunError(Problem("cluster", what, "Give all workers the versions of this machine."))


def _leave(name: str) -> None:
    _left.add(name)


def _take(shared: Shared) -> Shared:
    return shared


def _run_shared(shared: Shared, index: int, without: Mapping[int, str]) -> Any:
    with _admitted(shared) as job:
        if job is None:
            return None
        return job.run(index, without=without) if without else job.run(index)


def _try_shared(shared: Shared, index: int, images: Span) -> None:
    with _admitted(shared) as job:
        if job is not None:
            job.try_images(index, images)
