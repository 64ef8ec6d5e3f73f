"""One run at a time writes a store: a file beside it names who, and is touched as long as that run lives.

    lock-00000007.json ── touched every 5 s ── its run dies, or stops ── silent for 60 s ── others may take it over
    lock-00000008.json     is created by one of them, exclusively, and fences off the run that held 7

The highest number holds. It is created once and never again: a lock that was released stays as a note of its number.
On the machine where it was taken, a lock whose process has gone is stale at once. Ages are told by the clock of the
place, so that clocks of machines need not agree.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from featpipe.errors import FeatpipeError, Problem, StoreError
from featpipe.store.fence import (
    LEGACY,
    RELEASED,
    UNLOCKED,
    Facts,
    Fence,
    described,
    generations,
    lock_key,
    lock_keys,
    read_lock,
)
from featpipe.store.place import LocalPlace, Place

BEAT = 5.0
"""Seconds between two signs of life."""
LAPSE = 60.0
"""Seconds of silence after which a lock is taken over."""


class Lock(NamedTuple):
    """A lock that lies beside a store."""

    key: str
    facts: Facts


class StoreLock:
    """The lock of one store.

    Parameters
    ----------
    place : Place
        Of the store.
    lapse, beat : float
        In seconds.
    name : str, optional
        What errors call the store; its place unless given.
    lasting : bool
        Whether a released lock leaves its number behind, so that numbers never repeat.
    """

    def __init__(
        self, place: Place, *, lapse: float = LAPSE, beat: float = BEAT, name: str = "", lasting: bool = True
    ) -> None:
        self.store = place
        self.place = place.beside
        self.lapse = lapse
        self.beat = beat
        self.name = name or str(place)
        self.lasting = lasting
        self.token = uuid.uuid4().hex
        self.generation = 0
        self.fenced = place
        """The store as who holds the lock writes it: no write counts once the lock has been taken from us."""
        self.lost = threading.Event()
        """Set when the lock has been taken from us."""
        self._told: list[Callable[[], None]] = []

    @contextmanager
    def held(self) -> Iterator[StoreLock]:
        """Hold the lock.

        Raises
        ------
        StoreError
            If another run holds it, naming that run.
        """
        with self._taken():
            try:
                self.fenced = self.store.enter(self.fence)
                if self._newest() != self.generation:
                    raise self.fence.error()  # taken from us while we slept, perhaps before others could be shut out
                with self._beating():
                    yield self
            finally:
                with suppress(FeatpipeError):  # it lapses
                    self._release()

    @property
    def fence(self) -> Fence:
        """The fence that goes with every write."""
        return Fence(self.name, self.place, self.generation, self.token)

    @property
    def drafts(self) -> Path:
        """The directory in which who holds the lock makes what is renamed into place later."""
        assert isinstance(self.fenced, LocalPlace)
        assert self.fenced.drafts is not None
        return self.fenced.drafts

    def holder(self) -> Facts | None:
        """Return who holds the lock, and since when; None where nobody does."""
        return next((lock.facts for lock in self._locks(self._newest())), None)

    def living(self) -> Facts | None:
        """Return who holds the lock and has neither died nor fallen silent; None where nobody does."""
        return next((lock.facts for lock in self._locks(self._newest()) if not self._is_stale(lock)), None)

    def break_stale(self, *, force: bool = False) -> Facts | None:
        """Take away the lock of a run that has died; return who held it, None where nobody did.

        Raises
        ------
        StoreError
            If its holder is alive and ``force`` is not given.
        """
        while True:
            newest = self._newest()
            locks = self._locks(newest)
            if not locks:
                return None
            for lock in locks:
                if not force and not self._is_stale(lock):
                    change = "Stop that run, or give --force if you know that it is gone."
                    raise StoreError(Problem(self.name, f"is being written by {described(lock.facts)}.", change))
            taken = self._create(newest + 1, {RELEASED: True, UNLOCKED: True})
            if taken is None:
                continue  # somebody was quicker
            taken.close()
            self.place.remove(lock_keys(self.place, below=self.generation))
            self.store.enter(self.fence)
            self.store.leave(self.fence)
            return locks[0].facts

    def when_lost(self, told: Callable[[], None]) -> None:
        """Call a function, from another thread, as soon as it is known that the lock has been taken from us."""
        self._told.append(told)
        if self.lost.is_set():
            told()

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Create the next generation of the lock, unless somebody alive holds the last."""
        while True:
            newest = self._newest()
            for lock in self._locks(newest):
                self._refuse_living(lock)
            taken = self._create(newest + 1, {})
            if taken is None:
                continue  # somebody was quicker
            with taken:
                if self._newest() > self.generation:
                    self.place.remove([lock_key(self.generation)])  # we had looked long ago
                    continue
                # First older locks, then (`enter`) what older runs have begun to write, and only then are writes ours
                self.place.remove(lock_keys(self.place, below=self.generation))
                yield
                return

    def _create(self, generation: int, more: Facts) -> IO[bytes] | None:
        """Create a lock; return what keeps it held, None if somebody else has created it."""
        self.generation = generation
        return self.place.claim(lock_key(generation), lambda signs: self._content({**signs, **more}))

    def _newest(self) -> int:
        return max(generations(self.place), default=0)

    def _locks(self, newest: int) -> list[Lock]:
        """Return the locks that somebody holds, alive or not."""
        keys = [lock_key(newest), LEGACY] if newest else [LEGACY]
        found = [Lock(key, read_lock(self.place, key)) for key in keys]
        there = [lock for lock in found if lock.facts or self.place.modified(lock.key) is not None]
        return [lock for lock in there if RELEASED not in lock.facts]

    def _refuse_living(self, lock: Lock) -> None:
        if self._is_stale(lock):
            return
        age = self.place.age(lock.key)
        if age is None:
            return  # released or taken over, this moment
        what = f"is being written by {described(lock.facts)}, last heard of {max(age, 0):.0f} s ago."
        change = f"Wait for it, or stop it; if it is dead, its lock lapses after {self.lapse:.0f} s of silence."
        raise StoreError(Problem(self.name, what, change))

    def _is_stale(self, lock: Lock) -> bool:
        """Return whether a lock's holder has died or fallen silent."""
        age = self.place.age(lock.key)
        if age is None or age > self.lapse or _has_gone(lock.facts):
            return True
        same_system = _system(lock.facts.get("boot")) == _system(_boot())
        return same_system and self.place.is_abandoned(lock.key, lock.facts)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Give signs of life, and look whether the lock is ours still."""
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(done,), name="featpipe lock", daemon=True)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()

    def _beat(self, done: threading.Event) -> None:
        key = lock_key(self.generation)
        while not done.wait(self.beat):
            try:
                held = self.fence.holds()
                if held:
                    self.place.touch(key)
            except FeatpipeError:
                continue  # a place that cannot be reached says nothing: what is written meets the same
            if not held:
                self.lost.set()
                for told in self._told:
                    told()
                return

    def _release(self) -> None:
        """Give the lock back, if it is ours; what others hold is left alone."""
        key = lock_key(self.generation)
        try:
            if not self.fence.holds():
                return
            if self.lasting:
                self.fenced.beside.write(key, [self._content({RELEASED: True})])
            else:
                self.place.remove([key])
        finally:
            self.store.leave(self.fence)
            self.place.tidy()

    def _content(self, more: Facts) -> bytes:
        process = psutil.Process()
        holder = {
            "token": self.token,
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": process.pid,
            "process_started": process.create_time(),
            "user": _user(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            **more,
        }
        return json.dumps(holder).encode()


def _has_gone(holder: Facts) -> bool:
    """Return whether a holder was a process of this machine that is there no more."""
    if not holder or holder.get("host") != socket.gethostname() or holder.get("boot") != _boot():
        return False
    try:
        process = psutil.Process(int(holder["pid"]))
        same = abs(process.create_time() - float(holder["process_started"])) < 1
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _boot() -> str:
    """Return what tells this run of this machine, and its numbering of processes, from others; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path, but text
    except OSError:
        return str(int(psutil.boot_time()))


def _system(boot: Any) -> str:
    """Return the machine and its run without its numbering of processes: containers of one machine share it."""
    return str(boot).partition(" ")[0]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
