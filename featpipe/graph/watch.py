"""Watching over tasks that are on: workers that say nothing more, and tasks that nobody knows of any more.

Workers tell the scheduler every second or so that they are there, from a thread that tasks do not hold up. One that
has said nothing for `SILENCE` is stopped, frozen or cut off; one that has tasks and has run none of them for `IDLE` has
lost them, or is paused because its memory is full. Both are taken from the scheduler, which gives their tasks to
others, and started anew where a nanny is there to do it. A task may thus run twice: it writes the same bytes. How long
a task takes does not matter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from typing import Any

from featpipe.graph.clusters import Connection

PACE = 5.0
"""Seconds between two looks, while tasks take longer than that; of large clusters more, as each worker is told of."""
AT_PACE = 50
"""Workers, and more than these in proportion."""
SILENCE = 60.0
"""Seconds without a word from a worker. Compiled code that holds on to the interpreter keeps it from talking for
seconds; the compiler of the kernels lets go of it."""
IDLE = 300.0
"""Seconds in which a worker has tasks and runs none: what they need may take its time to reach it."""
ANSWER = 10.0
"""Seconds to wait for an answer."""
ENDING = 15.0
"""Seconds to wait for a nanny to end its worker."""
LOST = (None, "released", "forgotten", "memory", "erred")
"""States of a task that will tell its client nothing more, or should have long ago."""


class Watch:
    """Looks after the tasks of one job on a cluster.

    Parameters
    ----------
    connection : Connection
    prefix : str
        With which the keys of the job's tasks begin.
    """

    def __init__(self, connection: Connection, prefix: str) -> None:
        self.connection = connection
        self.prefix = prefix
        self.paused = False
        """Whether none of the workers takes a task."""
        self._looked = time.monotonic()
        self._pace = PACE
        self._seen: dict[str, Any] = {}
        self._silent: dict[str, float] = {}
        self._idle: dict[str, float] = {}
        self._lost: set[str] = set()
        self._ending: set[Any] = set()
        self._dropped: dict[str, float] = {}
        """Workers that were taken away, and when."""

    def look(self, since: Mapping[str, float], job: str) -> set[str]:
        """Look at what becomes of tasks, once in a while; return those that are lost and must be sent again.

        Parameters
        ----------
        since : mapping of str to float
            The keys of the tasks that are on, and when each was sent, by `time.monotonic`.
        job : str
            The key of what they share.
        """
        now = time.monotonic()
        # Where this process was stopped itself, others had no chance to be heard
        passed = min(now - self._looked, 2 * self._pace)
        if now - self._looked < self._pace:
            return set()
        self._looked = now
        old = [key for key, sent in since.items() if now - sent > self._pace]
        if not old:
            self._silent.clear()
            self._idle.clear()
            self._lost.clear()
            self.paused = False
            return set()
        found: tuple[Any, Any, Any, Any] | None = None
        with suppress(OSError, TimeoutError):
            found = self.connection.ask(_ask, self.connection.client, old, job, seconds=ANSWER)
        if found is None:
            return set()
        workers, processing, holders, states = found
        self.paused = bool(workers) and all(about["status"] == "paused" for about in workers.values())
        self._pace = PACE * max(1.0, len(workers) / AT_PACE)
        busy = {name for name, keys in processing.items() if any(str(key).startswith(self.prefix) for key in keys)}
        holding = {name for names in holders.values() for name in names}
        for name in self._unwell(workers, busy, holding, passed):
            self._drop(name, bool(workers[name].get("nanny")))
        return self._twice_lost({key for key in old if states.get(key) in LOST})

    def _unwell(self, workers: Mapping[str, Any], busy: set[str], holding: set[str], passed: float) -> list[str]:
        """Return workers that hold tasks, or what came of them, and do not go on."""
        silent, idle = {}, {}
        for name in (busy | holding) & workers.keys():
            about = workers[name]
            if self._seen.get(name) == about["last_seen"]:  # as the scheduler's clock has it, which may not be ours
                silent[name] = self._silent.get(name, 0.0) + passed
                continue
            counts = about["metrics"].get("task_counts", {"executing": 1})
            if name in busy and not counts.get("executing") and not counts.get("flight"):
                idle[name] = self._idle.get(name, 0.0) + passed
        self._seen = {name: about["last_seen"] for name, about in workers.items()}
        self._silent, self._idle = silent, idle
        return [name for held, most in ((silent, SILENCE), (idle, IDLE)) for name in held if held[name] >= most]

    def _twice_lost(self, lost: set[str]) -> set[str]:
        """Return those that were lost at the last look, too: news of a task may be on its way."""
        again, self._lost = lost & self._lost, lost
        return again

    def _drop(self, name: str, nanny: bool) -> None:
        """Take a worker from the scheduler; one with a nanny is ended and started anew. Nobody waits for that."""
        now = time.monotonic()
        if now - self._dropped.get(name, -inf) < 2 * ENDING:
            return
        self._dropped[name] = now
        with suppress(OSError, TimeoutError):  # the next looks find it there again
            self.connection.ask(self._begin, name, nanny, seconds=ANSWER)

    async def _begin(self, name: str, nanny: bool) -> None:
        task = asyncio.ensure_future(_end(self.connection.client, name, nanny))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _ask(client: Any, keys: list[str], job: str) -> tuple[Any, Any, Any, Any]:
    about, processing, holders, states = await asyncio.gather(
        client.scheduler.identity(n_workers=-1),
        client.scheduler.processing(workers=None),
        client.scheduler.who_has(keys=[*keys, job]),
        client.scheduler.get_task_status(keys=keys),
    )
    return about["workers"], processing, holders, states


async def _end(client: Any, name: str, nanny: bool) -> None:
    with suppress(Exception):  # it went by itself, or the next looks find it there again
        if nanny:  # the scheduler drops it, should its nanny not answer either
            await client.restart_workers([name], timeout=ENDING, raise_for_error=False)
        else:
            await client.scheduler.unregister(address=name, stimulus_id=f"featpipe-silent-{time.time()}")
