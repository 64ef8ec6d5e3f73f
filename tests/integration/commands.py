"""Running featpipe's commands, and waiting for what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(*words: object) -> list[str]:
    """Return what runs featpipe in a process of its own."""
    return [sys.executable, "-m", "featpipe", *map(str, words)]


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives as soon as it is true."""
    deadline = time.monotonic() + 90
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found
