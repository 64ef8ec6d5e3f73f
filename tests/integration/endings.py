"""Jobs whose tasks end in ways in which none should; workers import them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any


class LockedError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class TwoWordsError(Exception):
    """An exception that is pickled, and cannot be made again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class SilentError(Exception):
    """An exception that cannot even be told."""

    def __str__(self) -> str:
        raise LockedError

    def __reduce__(self) -> str:
        raise LockedError


class OddError(BaseException):
    """No `Exception`."""


class Vanishing:
    """A result that can be pickled and not be read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unreadable, ()


def _unreadable() -> None:
    raise LockedError


ENDINGS: dict[str, Any] = {
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "OddError": lambda: OddError("odd"),
    "LockedError": LockedError,
    "TwoWordsError": lambda: TwoWordsError("two", "words"),
    "SilentError": SilentError,
    "MemoryError": MemoryError,
    "ValueError": lambda: ValueError("7"),
}


class Ending:
    """A job whose task 3 ends in some way."""

    def __init__(self, how: str) -> None:
        self.how = how

    def run(self, index: int) -> Any:
        if index != 3:
            return index
        if self.how == "result with a lock":
            return threading.Lock()
        if self.how == "result that cannot be read":
            return Vanishing()
        raise ENDINGS[self.how]()


class Waiting:
    """A job whose tasks wait for a file, each beside a file that tells that it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, index: int) -> int:
        (self.folder / f"began-{index}").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.01)
        return index
