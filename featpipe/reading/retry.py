"""Which errors pass by themselves, and how often what met one is tried again.

A network file system or a bucket fails for a moment: a server restarts, a handle is stale, too many files are open.
Such an error says nothing of the data. What met it is tried again after a short wait, a few times; what fails even then
is *unavailable*, never *broken*.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
TRIES = 5
"""Of one read, the first included."""
FIRST_WAIT = 0.025
"""Seconds before the second try, about; each later wait is four times as long."""
LONGEST = 10.0
"""Seconds after which nothing is tried again: each try took long, as where a server is silent."""
HOPELESS = 3
"""Reads given up one after another, after which a read is tried only twice: the place is gone for longer."""

_NAMES = (
    "EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ENFILE", "EAGAIN", "EWOULDBLOCK", "EINTR", "EBUSY", "ENOMEM", "ENOBUFS",
    "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH",
    "ENOTCONN", "ESHUTDOWN", "EPIPE", "EREMOTEIO", "ECOMM", "ENOLINK", "EPROTO", "ENOLCK",
)  # fmt: skip
TRANSIENT = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
"""Numbers of errors that tell of the way to the data, not of the data."""
_ANSWERS = frozenset({408, 425, 429})
"""Statuses below 500 with which a service asks for patience."""

_random = random.Random()


class _Given:
    """How many reads were given up one after another, by all threads."""

    count = 0


_given = _Given()
_tally = threading.local()


class ShortReadError(OSError):
    """A file or an object gave fewer bytes than it says that it has."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EIO, what)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may pass by itself.

    Files' errors are told apart by their number, those of object stores by their kind and the service's status.

    Examples
    --------
    >>> is_transient(OSError(errno.ESTALE, "Stale file handle")), is_transient(FileNotFoundError())
    (True, False)
    """
    if isinstance(error, (TimeoutError, ConnectionError, InterruptedError, BlockingIOError)):
        return True
    if type(error).__module__.startswith("obstore"):
        return _is_passing(error)
    return isinstance(error, OSError) and error.errno in TRANSIENT


def _is_passing(error: BaseException) -> bool:
    """Tell the same of an error of obstore, whose only kind for all troubles of a service is ``GenericError``."""
    if type(error).__name__ != "GenericError":
        return False
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    if status is not None:
        return int(status[1]) >= 500 or int(status[1]) in _ANSWERS
    # What no service answered: a request that cannot be made, or no credentials to make it with
    return not ("builder error" in text or "redential" in text.partition("\n")[0] or "169.254.169.254" in text)


def retry(call: Callable[[], T]) -> T:
    """Return what ``call`` returns; where it fails with an error that may pass, wait and try again.

    Parameters
    ----------
    call : callable
        May be called several times.

    Raises
    ------
    Exception
        The last error, where no try succeeded; any other error at once.
    """
    try:
        found = call()
    except Exception as error:
        found = retry_after(error, call)
    else:
        if _given.count:
            _given.count = 0
    return found


def retry_after(error: Exception, call: Callable[[], T]) -> T:
    """Do as ``retry`` does, where the first try was somebody else's and failed with ``error``."""
    start, tried = time.monotonic(), 1
    while True:
        wait = next_wait(error, tried, start)
        if wait is None:
            raise error
        time.sleep(wait)
        tried += 1
        try:
            found = call()
        except Exception as another:
            error = another
        else:
            _done(tried)
            return found


async def retry_async(call: Callable[[], Awaitable[T]]) -> T:
    """Do as ``retry`` does, without holding the event loop while it waits."""
    start, tried = time.monotonic(), 1
    while True:
        try:
            found = await call()
        except Exception as error:
            wait = next_wait(error, tried, start)
            if wait is None:
                raise
        else:
            _done(tried)
            return found
        await asyncio.sleep(wait)
        tried += 1


def next_wait(error: Exception, tried: int, start: float) -> float | None:
    """Return how long to wait before another try, in seconds; None where there is to be none.

    Parameters
    ----------
    error : Exception
        Of the last try.
    tried : int
        How often it was tried.
    start : float
        When the first try began, by ``time.monotonic``.
    """
    if not is_transient(error):
        return None
    tries = 2 if _given.count >= HOPELESS else TRIES
    if tried >= tries or time.monotonic() - start > LONGEST:
        _given.count += 1
        _tally.failures = failures() + 1
        return None
    return FIRST_WAIT * 4.0 ** (tried - 1) * _random.uniform(0.5, 1.5)


def _done(tried: int) -> None:
    if _given.count:
        _given.count = 0
    if tried > 1:
        _tally.count = retried() + 1


def retried() -> int:
    """Return how many reads of this thread succeeded only when they were tried again."""
    return getattr(_tally, "count", 0)


def failures() -> int:
    """Return how many reads of this thread were given up."""
    return getattr(_tally, "failures", 0)
