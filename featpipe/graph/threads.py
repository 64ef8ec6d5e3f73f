"""Tasks on threads of this process: one task a shard, none waits for another, no pixel travels between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from threadpoolctl import threadpool_limits

from featpipe.errors import Problem, RunError
from featpipe.graph.jobs import Crew, Job
from featpipe.graph.limits import usable_cores
from featpipe.graph.shared import describe

AHEAD = 2
"""Tasks handed out for each thread: no thread waits while receipts are written."""
TICK = 1.0
"""Seconds to wait at once."""


class ThreadWorkers:
    """Threads of this process; no port is opened.

    Parameters
    ----------
    threads : int, optional
        All cores unless given.
    """

    memory_bytes: int | None = None

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or usable_cores()

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
        """Run tasks; see `featpipe.graph.jobs.Workers`."""
        del on_crew
        with threadpool_limits(1):
            _Crew(job, stop, at_once or self.threads).run(iter(tasks), on_receipt)


class _Crew:
    """Threads at one job."""

    def __init__(self, job: Job, stop: threading.Event, threads: int) -> None:
        self.job = job
        self.stop = stop
        self.threads = threads
        self.broken = threading.Event()
        """Set when a task has failed, or whoever takes the receipts has."""
        self.ended: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        """What each task gave, or failed of."""

    @property
    def halted(self) -> bool:
        """Whether tasks that have not begun are left out."""
        return self.stop.is_set() or self.broken.is_set()

    def run(self, tasks: Iterator[int], on_receipt: Callable[[Any], None]) -> None:
        """Run tasks and return, or fail, when no thread is at one any more: nobody writes from then on."""
        failed: BaseException | None = None
        with ThreadPoolExecutor(self.threads, "featpipe") as pool, self._breaking():
            on = 0
            while True:
                while on < AHEAD * self.threads and not self.halted and (index := next(tasks, None)) is not None:
                    pool.submit(self._run, index)
                    on += 1
                if not on:
                    break
                receipt, error = self._next()
                on -= 1
                if error is None and receipt is not None:
                    error = _taken(on_receipt, receipt)
                if error is not None:
                    failed = error if failed is None else failed
                    self.broken.set()
        if failed is not None:
            raise failed

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Leave out what has not begun when the block is left, in whatever way."""
        try:
            yield
        finally:
            self.broken.set()

    def _next(self) -> tuple[Any, BaseException | None]:
        """Wait for a task to end, and look up in between: not every system interrupts a wait."""
        while True:
            with suppress(queue.Empty):
                return self.ended.get(timeout=TICK)

    def _run(self, index: int) -> None:
        """Run one task; whatever it does, it is told of."""
        try:
            self.ended.put((None if self.halted else self.job.run(index), None))
        except Exception as error:
            self.ended.put((None, error))
        except BaseException as error:  # SystemExit and such mean a thread here, not the process
            what = f"task {index} ended with {describe(error)}."
            failed = RunError(Problem("featpipe", what, "See where it did with --traceback."))
            failed.__cause__ = error
            self.ended.put((None, failed))


def _taken(on_receipt: Callable[[Any], None], receipt: Any) -> BaseException | None:
    """Hand on a receipt; return what that failed of."""
    try:
        on_receipt(receipt)
    except Exception as error:
        return error
    return None
