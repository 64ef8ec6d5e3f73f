"""Tasks on threads of this process.

("featpipe", 0) ─ Work.run(0)
("featpipe", 1) ─ Work.run(1)        one task a shard, none waits for another, no pixel travels between them
...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from threadpoolctl import threadpool_limits

from featpipe.graph.jobs import Crew, Job
from featpipe.graph.limits import usable_cores

Graph = dict[tuple[str, int], tuple[Callable[[int], Any], int]]


def make_graph(job: Job, tasks: Iterable[int]) -> Graph:
    """Return the graph of a run: an independent entry for each task."""
    return {("featpipe", i): (job.run, i) for i in tasks}


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
        from dask.callbacks import Callback
        from dask.threaded import get

        del on_crew

        def run(index: int) -> Any:
            return None if stop.is_set() else job.run(index)

        def arrived(_key: Any, receipt: Any, _graph: Any, _state: Any, _worker: Any) -> None:
            if receipt is not None:
                on_receipt(receipt)

        graph: Graph = {key: (run, index) for key, (_, index) in make_graph(job, tasks).items()}
        with threadpool_limits(1), Callback(posttask=arrived):
            get(graph, list(graph), num_workers=at_once or self.threads)
