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
from typing import Any

from featpipe.errors import FeatpipeError, Problem, RunError
from featpipe.geometry.axis import Span
from featpipe.graph.clusters import Connection, connected, local_share
from featpipe.graph.jobs import Crew, Job
from featpipe.graph.shared import Outcome, Shared, describe, hand_on, leave, run_shared, share, try_shared
from featpipe.graph.watch import Watch
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
TOGETHER = 5.0
"""Seconds to wait for the results of several tasks; they are small."""
STARVING = 300.0
"""Seconds that workers may be missing, where nobody was asked for more of them."""
ATTEMPTS = 5
"""Times that a task is sent whose workers were lost."""
DEADLY = "a worker process died whenever this image was read or computed"


@dataclass(frozen=True)
class _Sent:
    """A task that was sent."""

    future: Any
    index: int
    since: float
    """When, by `time.monotonic`."""


class _LostTaskError(Exception):
    """The scheduler knows nothing of a task that was sent to it."""


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
        shared = share(job, at_once or self.threads)
        _Dispatch(self.connection, job, shared, on_receipt, stop, on_crew).run(iter(tasks))


class _Dispatch:
    """One job under way on a cluster."""

    def __init__(
        self,
        connection: Connection,
        job: Job,
        shared: Shared,
        on_receipt: Callable[[Any], None],
        stop: threading.Event,
        on_crew: Callable[[Crew], None] | None,
    ) -> None:
        self.connection = connection
        self.client = connection.client
        self.job = job
        self.shared = shared
        self.prefix = f"featpipe-{shared.name}-"
        self.watch = Watch(connection, self.prefix)
        self.on_receipt = on_receipt
        self.stop = stop
        self.on_crew = on_crew
        self.arrivals: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.running: dict[str, _Sent] = {}
        self.trying: dict[str, float] = {}
        """Tries of images that are on, and since when."""
        self.lost: set[str] = set()
        """Keys of which nobody knows any more."""
        self.slow: set[str] = set()
        """Keys of which the results were not handed over at once."""
        self.without: dict[int, dict[int, str]] = {}
        self.attempts: dict[int, int] = {}
        self.suspects: list[tuple[int, BaseException]] = []
        """Tasks whose workers died, and of what."""
        self.crew: Crew | None = None
        self.seen: set[str] = set()
        self.window = WINDOW
        self.sends = 0
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
                self.client.cancel([self.sent, *(sent.future for sent in self.running.values())], force=True)

    def _share(self) -> None:
        """Send the job, as a task of its own: it is made again should all who hold it die."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            key = f"{self.prefix}job-{uuid.uuid4().hex}"
            self.sent = self.client.submit(hand_on, self.shared, pure=False, key=key)

    def _fill(self, tasks: Iterator[int]) -> None:
        while len(self.running) < self.window and not self.stop.is_set():
            index = next(tasks, None)
            if index is None:
                return
            self._send(index)

    def _send(self, index: int) -> None:
        attempt = self.attempts[index] = self.attempts.get(index, 0) + 1
        future = self._submit(run_shared, f"{index}-{attempt}-{self.sends}", index, self.without.get(index, {}))
        self.sends += 1
        self.running[future.key] = _Sent(future, index, time.monotonic())
        future.add_done_callback(self.arrivals.put)

    def _submit(self, function: Callable[..., Any], name: str, *arguments: Any) -> Any:
        if self.sent.status not in ("pending", "finished"):
            self._share()
        return self.client.submit(function, self.sent, *arguments, pure=False, key=self.prefix + name)

    def _leave_out(self) -> None:
        """Once the run is stopped, let workers pass over tasks that were sent to them and have not begun."""
        if not self.stop.is_set() or self.leaving:
            return
        self.leaving = True
        with suppress(OSError, TimeoutError):
            self.connection.ask(_broadcast, self.client, leave, self.shared.name, seconds=ANSWER)

    def _take_in(self) -> None:
        """Wait for futures to be done, and deal with all that are: asked for together, they cost less."""
        arrived = []
        with suppress(queue.Empty):
            arrived.append(self.arrivals.get(timeout=TICK))
            while True:
                arrived.append(self.arrivals.get_nowait())
        known = [future for future in arrived if future.key in self.running]
        done = [future for future in known if future.status == "finished" and future.key not in self.slow]
        receipts: dict[str, Any] = {}
        try:
            found = self.connection.ask(_gather, self.client, done, seconds=TOGETHER)
            receipts = dict(zip([future.key for future in done], found, strict=True))
        except Exception:  # one of those who have them is silent, or gone: each is asked for by itself then
            self.slow |= {future.key for future in done}
        for future in known:
            if future.key in self.running:  # which is told twice of one that is lost
                self._arrived(future, receipts)

    def _arrived(self, future: Any, receipts: Mapping[str, Any]) -> None:
        index = self.running[future.key].index
        if future.key in receipts:
            outcome, error = receipts[future.key], None
        else:
            found = self._result(future)
            if found is None:  # it is computed again, or whoever has it is slow to hand it over
                future.add_done_callback(self.arrivals.put)
                return
            outcome, error = found
        del self.running[future.key]
        receipt = None
        if error is None:
            receipt, error = outcome.read()
        if error is None:
            self.attempts.pop(index, None)
            if receipt is not None:
                self.on_receipt(receipt)
        elif _is_killed(error):
            self.suspects.append((index, error))
        else:
            self._again(index, error, told=outcome is not None)

    def _again(self, index: int, error: BaseException, *, told: bool) -> None:
        """Send a task again that failed; ``told``: of an error of its own."""
        if told and (isinstance(error, FeatpipeError) or self.attempts[index] >= ATTEMPTS):
            raise error
        if self.attempts[index] >= ATTEMPTS:
            what = f"task {index} was sent {ATTEMPTS} times and failed on the way: {describe(error)}."
            raise RunError(Problem("cluster", what, "Look into the logs of the workers, then run again.")) from error
        self._send(index)

    def _outcome(self, future: Any) -> tuple[Any, BaseException | None]:
        """Wait for a future; return what it gave, or what kept it from giving anything."""
        while True:
            self._leave_out()
            self._look()
            found = self._result(future)
            if found is not None:
                return found

    def _result(self, future: Any) -> tuple[Any, BaseException | None] | None:
        """Return what a future gave, or what kept it from giving anything; None if that takes a while."""
        from distributed import TimeoutError as Late

        if future.key in self.lost:
            return None, _LostTaskError("nobody knew of it any more")
        if future.status == "cancelled":
            return None, self._cancelled()
        try:
            return future.result(timeout=TICK), None
        except Late:
            return None
        except Exception as error:
            return None, self._cancelled() if future.status == "cancelled" else error

    def _cancelled(self) -> BaseException:
        """Return why a task was cancelled that nobody here did: somebody else, or a scheduler that came back."""
        if self.client.status == "running":
            with suppress(OSError, TimeoutError):
                self.connection.threads(ANSWER)
                return _LostTaskError("it was cancelled")
        raise self._gone()

    def _isolate(self, index: int, error: BaseException) -> None:
        """Find the images of a task that kill whoever reads them, and send it again without them."""
        job: Any = self.job
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
            future = self._submit(try_shared, name, index, images)
            self.trying = {future.key: time.monotonic()}
            outcome, failed = self._outcome(future)
            self.trying = {}
            if isinstance(outcome, Outcome):
                return outcome.read()[1]
            if _is_killed(failed) and getattr(failed, "task", future.key) == future.key:
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
            self._notice_pause(now)
        elif self.stop.is_set():
            self.running.clear()  # nobody is left to finish them
        elif not self.connection.grows and now - self.staffed > STARVING:
            what = f"the scheduler at {self.connection.address} has had no workers for {STARVING:.0f} s."
            raise RunError(Problem("cluster", what, "Start workers, then run again: it goes on from here."))
        crew = Crew(len(workers), threads, len(self.seen) - len(workers), self.connection.dashboard)
        if crew != self.crew and self.on_crew is not None:
            self.on_crew(crew)
        self.crew = crew
        self._look_after_tasks()

    def _notice_pause(self, now: float) -> None:
        """Give up where all workers are paused, and taking them away has not helped."""
        if not self.watch.paused:
            self.staffed = now
        elif now - self.staffed > 2 * STARVING:
            what = f"all workers have been paused for {2 * STARVING:.0f} s, as Dask does where their memory is full."
            raise RunError(Problem("cluster", what, "Plan with less (--memory), or give them more; then run again."))

    def _look_after_tasks(self) -> None:
        """Send tasks again that are lost; those of workers that say nothing more go to others."""
        since = {**{key: sent.since for key, sent in self.running.items()}, **self.trying}
        told = {key for key, sent in self.running.items() if sent.future.status != "pending"}  # and to be fetched
        lost = self.watch.look(since, self.sent.key) - told
        if not lost:
            return
        self._share()  # whoever forgot them may have forgotten the job, too
        self.lost |= lost
        for key in lost & self.running.keys():
            self.arrivals.put(self.running[key].future)

    def _gone(self) -> RunError:
        what = f"the scheduler at {self.connection.address} is gone."
        return RunError(Problem("cluster", what, "Start it, then run again: it goes on from here."))


async def _gather(client: Any, futures: list[Any]) -> Any:
    return await client.gather(futures)


async def _broadcast(client: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    return await client.run(function, *arguments, on_error="ignore")


def _is_killed(error: BaseException | None) -> bool:
    return type(error).__name__ == "KilledWorker"
