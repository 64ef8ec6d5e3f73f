"""One run at a time writes a store: a file beside it names who, and is touched as long as that run lives.

    begins           beats every 5 s             dies
    create lock ──── token still ours? ── … ──── × ──── 60 s ──── others may take it over

On the machine where it was taken, a lock whose process has gone is stale at once. Ages are told by the clock of the
place, so that clocks of machines need not agree.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from featpipe.errors import FeatpipeError, Problem, StoreError
from featpipe.store.place import Place

KEY = "lock.json"
BEAT = 5.0
"""Seconds between two signs of life."""
LAPSE = 60.0
"""Seconds of silence after which a lock is taken over."""
SETTLE = 0.2
"""Seconds after which who took over a lock looks whether another did so too."""


class StoreLock:
    """The lock of one store.

    Parameters
    ----------
    place : Place
        Of the store.
    lapse, beat : float
        In seconds.
    """

    def __init__(self, place: Place, *, lapse: float = LAPSE, beat: float = BEAT) -> None:
        self.store = place
        self.place = place.beside
        self.lapse = lapse
        self.beat = beat
        self.token = uuid.uuid4().hex
        self.lost = threading.Event()
        """Set when the lock has been taken from us: what we write from here on may meet what others write."""

    @contextmanager
    def held(self) -> Iterator[StoreLock]:
        """Hold the lock.

        Raises
        ------
        StoreError
            If another run holds it, naming that run.
        """
        self._acquire()
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(done,), name="featpipe lock", daemon=True)
        beating.start()
        try:
            yield self
        finally:
            done.set()
            beating.join()
            with suppress(FeatpipeError):  # it lapses
                self._release()

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the lock, and since when; None where nobody does."""
        content = self.place.read(KEY)
        if content is None:
            return None
        with suppress(ValueError):
            found = json.loads(content)
            if isinstance(found, dict):
                return found
        return {}

    def is_stale(self, holder: dict[str, Any]) -> bool:
        """Return whether a lock's holder has died or fallen silent."""
        age = self.place.age(KEY)
        return age is None or age > self.lapse or _has_gone(holder)

    def break_stale(self, *, force: bool = False) -> dict[str, Any] | None:
        """Remove the lock of a run that has died; return who held it, None where nobody did.

        Raises
        ------
        StoreError
            If its holder is alive and ``force`` is not given.
        """
        holder = self.holder()
        if holder is None:
            return None
        if not force and not self.is_stale(holder):
            change = "Stop that run, or give --force if you know that it is gone."
            raise StoreError(Problem(str(self.store), f"is being written by {described(holder)}.", change))
        self.place.remove([KEY])
        self.place.tidy()
        return holder

    def _acquire(self) -> None:
        content = self._content()
        if self.place.create(KEY, content):
            return
        holder = self.holder() or {}
        if not self.is_stale(holder):
            age = self.place.age(KEY) or 0.0
            what = f"is being written by {described(holder)}, last heard of {max(age, 0):.0f} s ago."
            change = f"Wait for it, or stop it; if it is dead, its lock lapses after {self.lapse:.0f} s of silence."
            raise StoreError(Problem(str(self.store), what, change))
        self.place.write(KEY, [content])
        time.sleep(SETTLE)
        if (self.holder() or {}).get("token") != self.token:
            raise StoreError(Problem(str(self.store), f"is being written by {described(self.holder() or {})}."))

    def _beat(self, done: threading.Event) -> None:
        last = time.monotonic()
        while not done.wait(self.beat):
            try:
                if (self.holder() or {}).get("token") != self.token:
                    self.lost.set()
                    return
                self.place.touch(KEY, self._content())
                last = time.monotonic()
            except FeatpipeError:
                if time.monotonic() - last > self.lapse:
                    self.lost.set()
                    return

    def _release(self) -> None:
        if (self.holder() or {}).get("token") == self.token:
            self.place.remove([KEY])
        self.place.tidy()

    def _content(self) -> bytes:
        process = psutil.Process()
        holder = {
            "token": self.token,
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": process.pid,
            "process_started": process.create_time(),
            "user": _user(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        return json.dumps(holder).encode()


def described(holder: dict[str, Any]) -> str:
    """Say who holds a lock."""
    if not holder:
        return "another run"
    since = str(holder.get("since", "")).replace("T", " ")
    return f"process {holder.get('pid')} of {holder.get('user')} on {holder.get('host')}, since {since}"


def _has_gone(holder: dict[str, Any]) -> bool:
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


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
