"""Caches beside the objects they are about: what tasks share is never written to, for others read or send it meanwhile.

A cache belongs to one process. It keeps what was worked out from an object for as long as that object lives.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values worked out from an object, by key; for many threads at once.

    Values must not refer to their object, or it would never go.

    Parameters
    ----------
    most : int, optional
        Values kept of one object; all go when there would be more, so that images of ever new sizes take no more
        memory. None where the object itself bounds them.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._entries: WeakKeyDictionary[Any, dict[Hashable, Value]] = WeakKeyDictionary()
        self._adding = Lock()

    def get(self, owner: object, key: Hashable, make: Callable[[], Value], most: int | None = None) -> Value:
        """Return the value of a key, made on first use; two threads that ask at once may both make it.

        Parameters
        ----------
        owner : object
            Compared by identity, and referred to weakly.
        key : hashable
        make : callable
        most : int, optional
            For an object that has so many values in use at once, instead of the cache's own.
        """
        entries = self._entries.get(owner)
        if entries is None:
            with self._adding:
                entries = self._entries.setdefault(owner, {})
        found = entries.get(key)
        if found is None:
            limit = self.most if most is None else most
            if limit is not None and len(entries) >= limit:
                entries.clear()
            found = entries.setdefault(key, make())
        return found
