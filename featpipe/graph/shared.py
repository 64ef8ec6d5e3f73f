"""A job as it travels, and what workers do with it.

The client pickles a job once, to bytes. The scheduler and the workers hand on these bytes, and each process unpickles
them once. Nothing else is ever pickled of a job, so tasks may do with their copy what they like.

What a task gives, or fails of, is pickled by the worker and travels as bytes, too. Whatever a task does, Dask sees one
that has returned.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from threadpoolctl import threadpool_limits

from featpipe.caches import Cache
from featpipe.errors import FeatpipeError, Problem, RunError
from featpipe.geometry.axis import Span
from featpipe.graph.jobs import Job
from featpipe.plan.identity import DECODERS

PACKAGES = ("featpipe", "numpy", "numba", *DECODERS)
"""Of which other versions on a worker might give other bits."""


@dataclass(frozen=True, eq=False)
class Shared:
    """A job as it travels, once to each worker, with all that a worker must agree to."""

    name: str
    pickled: bytes
    at_once: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a task ended, in what any process can read."""

    task: int
    value: bytes | None = None
    """What it gave, pickled; None where it failed."""
    error: bytes | None = None
    """What it failed of, pickled; None where that cannot be."""
    told: str = ""
    """What it failed of, in words."""
    trace: str = ""
    """Where in the code it failed."""

    def read(self) -> tuple[Any, BaseException | None]:
        """Return what the task gave, or what it failed of."""
        if self.value is not None:
            try:
                return pickle.loads(self.value), None
            except Exception as error:  # whatever a class does when it is made again
                return None, self._failed(f"a result that cannot be read here ({describe(error)})")
        failed: BaseException = self._failed(self.told)
        with suppress(Exception):
            failed = pickle.loads(self.error) if self.error is not None else failed
        if self.trace:
            failed.add_note(self.trace)
        return None, failed

    def _failed(self, how: str) -> RunError:
        """Return the error of a task that ended as none should."""
        what, change = f"task {self.task} ended with {how.rstrip('.')}.", "See where it did with --traceback."
        return RunError(Problem("cluster", what, change))


def share(job: Job, at_once: int) -> Shared:
    """Return a job as it travels; raises what pickling it does."""
    import uuid

    from distributed.protocol.pickle import dumps  # takes classes of a notebook, too

    return Shared(uuid.uuid4().hex, dumps(job), at_once, installed())


def installed() -> dict[str, str]:
    """Return the versions of what makes the features."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def describe(error: BaseException) -> str:
    """Return an exception in words: its type, and what it says.

    Examples
    --------
    >>> describe(SystemExit(3)), describe(KeyboardInterrupt())
    ('SystemExit: 3', 'KeyboardInterrupt')
    """
    try:
        said = str(error).strip()
    except Exception:  # whose text is part of what is wrong with it
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


# -- on the worker ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Entered:
    """A job in a worker's process."""

    job: Any
    slots: threading.BoundedSemaphore


_ENTERED: Cache[_Entered] = Cache()
_LEFT: set[str] = set()
"""Jobs whose tasks are to be passed over."""
_entering = threading.Lock()


def hand_on(shared: Shared) -> Shared:
    """Return the job as it came: the task that gives it to all others."""
    return shared


def leave(name: str) -> None:
    """Pass over the tasks of a job that have not begun."""
    _LEFT.add(name)


def run_shared(shared: Shared, index: int, without: Mapping[int, str]) -> Outcome:
    """Run one task of a job."""
    return _ended(shared, index, lambda job: job.run(index, without=without) if without else job.run(index))


def try_shared(shared: Shared, index: int, images: Span) -> Outcome:
    """Try some images of a task, and write nothing."""
    return _ended(shared, index, lambda job: job.try_images(index, images))


def _ended(shared: Shared, index: int, work: Callable[[Any], Any]) -> Outcome:
    """Return how a task ended, whatever it did."""
    from distributed.protocol.pickle import dumps

    try:
        with _admitted(shared) as job:
            return Outcome(index, bytes(dumps(None if job is None else work(job))))
    except BaseException as error:  # SystemExit, which would take the worker along, and all others
        trace = traceback.format_exc()
        return Outcome(index, error=_pickled(error), told=describe(error), trace="" if _is_told(error) else trace)


def _is_told(error: BaseException) -> bool:
    return isinstance(error, FeatpipeError)


@contextmanager
def _admitted(shared: Shared) -> Iterator[Any]:
    """Wait for one of the places that a worker's memory has for tasks, and give the job; None if it was left."""
    with _entering:
        entered = _ENTERED.get(shared, "job", lambda: _enter(shared))
    with entered.slots:
        yield None if shared.name in _LEFT else entered.job


def _enter(shared: Shared) -> _Entered:
    _check_versions(shared.versions)
    threadpool_limits(1)  # for good: to look for the libraries takes a millisecond, too much for each task
    return _Entered(pickle.loads(shared.pickled), threading.BoundedSemaphore(shared.at_once))


def _check_versions(wanted: Mapping[str, str]) -> None:
    here = installed()
    differ = [f"{name} {here[name]} (here {there})" for name, there in wanted.items() if here[name] != there]
    if differ:
        what = f"a worker has {', '.join(differ)}: its features could differ in their last bits."
        raise RunError(Problem("cluster", what, "Give all workers the versions of this machine."))


def _pickled(error: BaseException) -> bytes | None:
    """Return an error as bytes; None unless it comes back from them as one that a caller may meet."""
    if not isinstance(error, Exception):
        return None  # SystemExit and such mean this process, not the one that reads them
    try:
        pickled = pickle.dumps(error)
        return pickled if type(pickle.loads(pickled)) is type(error) else None
    except Exception:
        return None
