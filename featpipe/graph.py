"""Dask, and only here: the graph of a run, its execution, and lazy arrays.

("featpipe", 0) ─ Work.run(0)
("featpipe", 1) ─ Work.run(1)        one task a shard, none waits for another, no pixel travels between them
...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from featpipe.errors import Problem, RunError

WORKER_SHARE = 0.7
"""Of a worker's memory; beyond it Dask's workers begin to spill, and then to pause."""

Graph = dict[tuple[str, int], tuple[Callable[[int], Any], int]]


class Job(Protocol):
    """Something whose ``run(index)`` does one task and returns its receipt."""

    def run(self, index: int) -> Any: ...


def make_graph(job: Job, tasks: Iterable[int]) -> Graph:
    """Return the graph of a run: an independent entry for each task."""
    return {("featpipe", i): (job.run, i) for i in tasks}


def run_threads(
    job: Job, tasks: Iterable[int], threads: int, on_receipt: Callable[[Any], None], stop: threading.Event
) -> None:
    """Run all tasks on threads of this process.

    Parameters
    ----------
    job : Job
    tasks : iterable of int
        Which tasks to run.
    threads : int
    on_receipt : callable
        Called in this thread with each receipt as it comes.
    stop : threading.Event
        Once set, tasks that have not begun are left out.
    """
    from dask.callbacks import Callback
    from dask.threaded import get

    def run(index: int) -> Any:
        return None if stop.is_set() else job.run(index)

    def arrived(_key: Any, receipt: Any, _graph: Any, _state: Any, _worker: Any) -> None:
        if receipt is not None:
            on_receipt(receipt)

    graph: Graph = {key: (run, index) for key, (_, index) in make_graph(job, tasks).items()}
    with threadpool_limits(1), Callback(posttask=arrived):
        get(graph, list(graph), num_workers=threads)


def run_cluster(
    job: Job, tasks: Iterable[int], address: str, on_receipt: Callable[[Any], None], stop: threading.Event
) -> None:
    """Run tasks on a Dask cluster, a bounded number under way at once.

    Parameters
    ----------
    job : Job
    tasks : iterable of int
    address : str
        Of the scheduler, e.g. ``tcp://127.0.0.1:8786``.

    Raises
    ------
    OSError
        If no scheduler answers there.
    RunError
        If workers died while they ran a task.
    """
    from distributed import Client, KilledWorker, as_completed

    with Client(address, timeout="20s", set_as_default=False) as client:
        shared = client.scatter(job, broadcast=True, hash=False)
        window = 4 * max(1, sum(client.nthreads().values()))
        indices = iter(tasks)
        running = as_completed(loop=client.loop, with_results=True)
        for _, index in zip(range(window), indices, strict=False):
            running.add(client.submit(_run_shared, shared, index, pure=False, key=f"featpipe-{index}"))
        try:
            for _, receipt in running:
                on_receipt(receipt)
                following = None if stop.is_set() else next(indices, None)
                if following is not None:
                    running.add(client.submit(_run_shared, shared, following, pure=False, key=f"featpipe-{following}"))
        except KilledWorker as error:
            what = f"workers died while they ran {error.task}, the last of them {error.last_worker.address}."
            change = "Look into its log; if it ran out of memory, plan with less (--memory). Then run again."
            raise RunError(Problem("cluster", what, change)) from error


def cluster_resources(address: str) -> tuple[int | None, int]:
    """Return what a run may use of each worker of a Dask cluster.

    Returns
    -------
    memory_bytes : int or None
        `WORKER_SHARE` of the smallest worker's memory; None if no worker has a limit.
    threads : int
        Of the worker that has most.

    Raises
    ------
    OSError
        If no scheduler answers there, or none with workers.
    """
    from distributed import Client

    with Client(address, timeout="20s", set_as_default=False) as client:
        client.wait_for_workers(1, timeout=20)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [int(worker["memory_limit"]) for worker in workers if worker["memory_limit"]]
        threads = max(int(worker["nthreads"]) for worker in workers)
    return (int(WORKER_SHARE * min(limits)) if limits else None), threads


def _run_shared(job: Job, index: int) -> Any:
    with threadpool_limits(1):
        return job.run(index)


def lazy_array(array: Any) -> Any:
    """Return a zarr array as a lazy dask array, one dask chunk a shard."""
    import dask.array as da

    chunks = getattr(array, "shards", None) or array.chunks
    return da.from_array(array, chunks=chunks, name=False, asarray=True, meta=np.empty((0,) * array.ndim, array.dtype))


def is_lazy(array: object) -> bool:
    """Return whether an array is a dask array."""
    return type(array).__module__.startswith("dask.")


def map_images(
    array: Any, function: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]], shape: tuple[int, ...]
) -> Any:
    """Apply ``function`` lazily to batches of whole images of a dask array.

    Parameters
    ----------
    array : (n, y, x, c) dask array
    function : callable
        From (n, y, x, c) to (n, *shape) float32.
    shape : tuple of int
        Of one image's result.
    """
    whole = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    chunks = (whole.chunks[0], *((length,) for length in shape))
    return whole.map_blocks(function, dtype=np.float32, chunks=chunks, meta=np.empty((0, 0, 0, 0), np.float32))


def cpu_count() -> int:
    """Return the cores this process may use, its control group's limit included."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)
