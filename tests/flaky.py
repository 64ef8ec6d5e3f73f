"""File systems that fail: reads below Python's open, os.open, os.read and os.stat that fail once, or always.

It is installed in the process of a test, or by a ``sitecustomize`` in a child's (`child_environment`).
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ERRORS = ("EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "EAGAIN", "ECONNRESET", "ENETUNREACH", "ENOTCONN")

QUIET = 3
"""Calls on a file that succeed after one has failed: opening it anew takes so many."""


class Flaky:
    """Fails calls on files below a folder.

    Parameters
    ----------
    root : str
    share : float
        Of the calls that fail. After one on a file has failed, the next few on it succeed.
    seed : int
    always : str
        Of files whose path ends so, every read fails.
    spare : int
        Calls on these files that succeed before.
    """

    def __init__(self, root: str, share: float = 0.0, seed: int = 0, always: str = "", spare: int = 0) -> None:
        self.root, self.share, self.always, self.spare = os.path.realpath(root), share, always, spare
        self.random = random.Random(seed)
        self.failed = 0
        self._quiet: dict[str, int] = {}
        self._open: dict[int, str] = {}
        self._lock = threading.Lock()
        self._real: dict[str, Any] = {}

    def fails(self, path: Any, *, reading: bool = False) -> bool:
        """Tell whether a call fails."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        name = os.fsdecode(path)
        if not name.startswith(self.root):
            return False
        with self._lock:
            if self.always and name.endswith(self.always):
                self.spare -= reading
                return reading and self.spare < 0
            quiet = self._quiet.get(name, 0)
            self._quiet[name] = max(quiet - 1, 0)
            if quiet or self.random.random() >= self.share:
                return False
            self._quiet[name] = QUIET
            self.failed += 1
            return True

    def error(self, path: Any) -> OSError:
        number = getattr(errno, self.random.choice(ERRORS))
        return OSError(number, os.strerror(number), os.fsdecode(path))

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **named: Any) -> Any:
            if self.fails(path):
                raise self.error(path)
            return real(path, *args, **named)

        return call

    def os_open(self, path: Any, *args: Any, **named: Any) -> int:
        if self.fails(path):
            raise self.error(path)
        file: int = self._real["os.open"](path, *args, **named)
        self._open.pop(file, None)
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(self.root):
            self._open[file] = os.fsdecode(path)
        return file

    def os_close(self, fd: int) -> None:
        self._open.pop(fd, None)
        self._real["os.close"](fd)

    def os_read(self, file: int, length: int) -> bytes:
        path = self._open.get(file)
        if path is None or not self.fails(path, reading=True):
            content: bytes = self._real["os.read"](file, length)
            return content
        kind = self.random.randrange(3)
        if kind == 0 or (self.always and path.endswith(self.always)):
            raise self.error(path)
        few: bytes = self._real["os.read"](file, max(1, length // 3)) if kind == 1 else b""
        return few

    def install(self) -> None:
        places = {"os.open": os, "os.read": os, "os.close": os, "os.stat": os, "os.scandir": os}
        self._real = {name: getattr(place, name.split(".")[1]) for name, place in places.items()}
        self._real |= {"builtins.open": builtins.open, "io.open": io.open}
        os.open, os.read, os.close = self.os_open, self.os_read, self.os_close
        os.stat, os.scandir = self.wrap(self._real["os.stat"]), self.wrap(self._real["os.scandir"])
        builtins.open = self.wrap(self._real["builtins.open"])
        io.open = self.wrap(self._real["io.open"])

    def remove(self) -> None:
        modules = {"os": os, "builtins": builtins, "io": io}
        for name, real in self._real.items():
            module, attribute = name.split(".")
            setattr(modules[module], attribute, real)


@contextmanager
def flaky(root: Path, **options: Any) -> Iterator[Flaky]:
    """Let a folder's files fail in this process, without any wait before another try."""
    from featpipe.reading import retry

    found, wait, count = Flaky(str(root), **options), retry.FIRST_WAIT, retry.HOPELESS
    retry.FIRST_WAIT, retry.HOPELESS = 0.0, 10**9
    found.install()
    try:
        yield found
    finally:
        found.remove()
        retry.FIRST_WAIT, retry.HOPELESS = wait, count


def child_environment(folder: Path, root: Path, **options: Any) -> dict[str, str]:
    """Return the environment of a child process in which a folder's files fail; ``folder`` is for its set-up."""
    folder.mkdir(exist_ok=True)
    code = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport flaky\nsys.path.pop(0)\n"
    code += f"flaky.Flaky({str(root)!r}, **{options!r}).install()\n"
    (folder / "sitecustomize.py").write_text(code)
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *([before] if before else [])])}


__all__ = ["Flaky", "child_environment", "flaky"]
