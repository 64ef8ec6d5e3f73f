"""Who holds the lock of a store, and the fence that keeps everybody else from writing it.

The lock is the file ``lock-<N>.json`` with the highest number N, its generation. Generations only grow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featpipe.errors import Problem, WriteError

if TYPE_CHECKING:
    from featpipe.store.place import Place

LEGACY = "lock.json"
"""The lock of featpipe 0.1, which knew no generations."""
RELEASED, UNLOCKED = "released", "unlocked"
"""Entries of a lock that nobody holds any more: its run has ended, or ``featpipe unlock`` has taken it away."""
_NAMED = re.compile(r"lock-(\d{8})\.json")
Facts = dict[str, Any]


@dataclass(frozen=True)
class Fence:
    """Lets a run write as long as it holds its store's lock. Small and immutable, it travels with the run's tasks.

    Parameters
    ----------
    store : str
        Named in errors.
    lock : Place
        Where the lock lies.
    generation : int
    token : str
        Tells the run from others.
    """

    store: str
    lock: Place
    generation: int
    token: str

    def holds(self) -> bool:
        """Return whether the run holds the lock: who takes it over removes older locks before it writes anything."""
        return read_lock(self.lock, lock_key(self.generation)).get("token") == self.token

    def check(self) -> None:
        """Raise `WriteError` unless the run holds the lock."""
        if not self.holds():
            raise self.error()

    def error(self) -> WriteError:
        """Return the error of a run that has lost its lock."""
        newest = max(generations(self.lock), default=0)
        taker = read_lock(self.lock, lock_key(newest)) if newest > self.generation else {}
        if UNLOCKED in taker:
            what = f"the lock of this run was removed with featpipe unlock, by {described(taker)}; it has stopped."
            return WriteError(Problem(self.store, what, "Run again: it goes on from here."))
        if not taker:
            what = "the lock of this run was removed; it has stopped."
            return WriteError(Problem(self.store, what, "Run again: it goes on from here."))
        what = f"the lock was taken from this run by {described(taker)}; it has stopped."
        return WriteError(Problem(self.store, what, "Let that run end, then run again."))


def lock_key(generation: int) -> str:
    """Return the key of a lock.

    Examples
    --------
    >>> lock_key(7)
    'lock-00000007.json'
    """
    return f"lock-{generation:08}.json"


def generations(place: Place) -> list[int]:
    """Return the generations of the locks that are there."""
    return sorted(int(found[1]) for key in place.names() if (found := _NAMED.fullmatch(key)))


def lock_keys(place: Place, *, below: int) -> list[str]:
    """Return the keys of all locks of generations below this one, their signs of life included."""
    found = {key: _NAMED.match(key) for key in place.names()}
    older = [key for key, name in found.items() if name is not None and int(name[1]) < below]
    return [*older, *(key for key in found if key == LEGACY)]


def read_lock(place: Place, key: str) -> Facts:
    """Return what a lock says; nothing where it is not there, or was cut short."""
    with suppress(ValueError, RecursionError):
        found = json.loads(place.read(key) or b"")
        if isinstance(found, dict):
            return found
    return {}


def described(holder: Mapping[str, Any]) -> str:
    """Say who holds a lock."""
    if not holder:
        return "another run"
    since = str(holder.get("since", "")).replace("T", " ")
    return f"process {holder.get('pid')} of {holder.get('user')} on {holder.get('host')}, since {since}"
