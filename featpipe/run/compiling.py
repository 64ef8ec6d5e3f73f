"""Compiled kernels, and what is said while they are not there yet."""

from __future__ import annotations

import threading
from collections.abc import Callable

LONG = 2.0
"""Seconds after which people want to know what they wait for."""


def load_kernels(tell: Callable[[str], None]) -> None:
    """Import what computes; the first time on a machine that compiles, and says so."""
    telling = threading.Timer(LONG, tell, ["compiling the kernels, once on this machine"])
    telling.start()
    try:
        import featpipe.task  # noqa: F401
    finally:
        telling.cancel()
