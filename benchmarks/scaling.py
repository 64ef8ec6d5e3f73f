"""What a task costs beside its work, measured; and what that means for clusters larger than this machine, simulated.

python -m benchmarks.scaling               10,000 tasks of no work on threads, local processes, and a scheduler apart
python -m benchmarks.scaling --simulate    how busy workers are, by their number and by the length of their tasks
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from featpipe.graph import ThreadWorkers, Workers, open_workers
from featpipe.spec.cluster import Cluster, LocalWorkers
from featpipe.store.shard import Shard
from featpipe.task import Receipt

TASKS = 10_000
WINDOW = 4
SPREAD = 0.25
"""Of the tasks' lengths, as the deviation of their logarithm."""


class Idle:
    """A job whose tasks do nothing, and return a receipt as real ones do."""

    def run(self, index: int) -> Receipt:
        """Return a receipt of three shards."""
        shards = {i: [Shard(f"texture/scale{i}/features/c/{index}/0/0/0", 1 << 25, "0" * 64)] for i in range(3)}
        return Receipt(index, 512, (), 512 * 96 * 96, 1 << 27, {"read": 0.1, "compute": 0.1, "write": 0.1}, shards)


def measure(name: str, workers: Workers, tasks: int) -> dict[str, Any]:
    """Run idle tasks and return what each cost."""
    receipts: list[int] = []
    workers.run(Idle(), range(100), lambda _: None, threading.Event())
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    workers.run(Idle(), range(tasks), lambda receipt: receipts.append(receipt.task), threading.Event())
    seconds = time.perf_counter() - start
    assert sorted(receipts) == list(range(tasks))
    grown = psutil.Process().memory_info().rss - before
    return {"where": name, "ms_per_task": 1e3 * seconds / tasks, "client_bytes": grown}


@contextmanager
def apart(count: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and workers as processes of their own; give its address and its process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        base = [sys.executable, "-m"]
        words = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard"]
        children = [subprocess.Popen([*base, "distributed.cli.dask_scheduler", *words], **quiet)]  # type: ignore[call-overload]
        try:
            while not file.exists() or not file.read_text().strip().endswith("}"):
                time.sleep(0.05)
            address = json.loads(file.read_text())["address"]
            words = [address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
            children += [
                subprocess.Popen([*base, "distributed.cli.dask_worker", *words], **quiet)  # type: ignore[call-overload]
                for _ in range(count)
            ]
            yield address, psutil.Process(children[0].pid)
        finally:
            for child in reversed(children):
                child.terminate()
                child.wait()


def simulate(workers: int, threads: int, seconds: float, cost: float, tasks_each: int = 30, seed: int = 0) -> float:
    """Return the share of time that threads work.

    One server, client and scheduler together, takes ``cost`` seconds for each task, to send it and to take its receipt;
    each thread works through a queue of its own, in which there are `WINDOW` tasks at first, and one more for each
    receipt.

    Parameters
    ----------
    workers, threads : int
    seconds : float
        That a task takes, in the middle.
    cost : float
        Seconds of the server for each task.
    tasks_each : int
        Tasks a thread, on average.
    seed : int
    """
    rng = random.Random(seed)
    slots = workers * threads
    left = slots * tasks_each
    server = 0.0  # when it is free
    free = [0.0] * slots  # when each thread is
    events: list[tuple[float, int]] = []
    busy = 0.0

    def send(slot: int, now: float) -> None:
        nonlocal server, left, busy
        if not left:
            return
        left -= 1
        server = max(server, now) + cost
        length = seconds * rng.lognormvariate(0, SPREAD)
        free[slot] = max(free[slot], server) + length
        busy += length
        heapq.heappush(events, (free[slot], slot))

    for _ in range(WINDOW):
        for slot in range(slots):
            send(slot, 0.0)
    end = 0.0
    while events:
        end, slot = heapq.heappop(events)
        send(slot, end)
    return busy / (end * slots)


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--cost-ms", type=float, default=1.0, help="of the simulation: of a task, in ms")
    options = parser.parse_args()
    if options.simulate:
        lengths = (0.1, 0.3, 1.0, 3.0, 10.0)
        print(f"share of time that threads work, at {options.cost_ms:g} ms of client and scheduler a task")
        print("workers × threads", *(f"{length:>7g} s" for length in lengths))
        for workers, threads in ((2, 1), (10, 4), (100, 4), (1000, 1), (1000, 4)):
            shares = (simulate(workers, threads, length, options.cost_ms / 1e3) for length in lengths)
            print(f"{workers:>9,} × {threads:<5}", *(f"{share:>9.0%}" for share in shares))
        return
    for name, workers in (("two threads", ThreadWorkers(2)),):
        print(measure(name, workers, options.tasks))
    with open_workers(Cluster(local=LocalWorkers(workers=2))) as workers:
        print(measure("two local processes", workers, options.tasks))
    with apart(2) as (address, scheduler), open_workers(Cluster(address=address)) as workers:
        before = scheduler.memory_info().rss
        found = measure("a scheduler and two workers", workers, options.tasks)
        print(found | {"scheduler_bytes": scheduler.memory_info().rss - before})


if __name__ == "__main__":
    main()
