"""Compiled kernels, and what is said while they are not there yet."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

LONG = 2.0
"""Seconds after which people want to know what they wait for."""


def load_kernels(tell: Callable[[str], None]) -> None:
    """Import what computes; the first time on a machine that compiles, and says so."""
    telling = threading.Timer(LONG, lambda: tell(f"compiling the kernels, {_how_often()}"))
    telling.start()
    try:
        import featpipe.task  # noqa: F401
    finally:
        telling.cancel()


def _how_often() -> str:
    compiled = sys.modules.get("featpipe.kernels.compiled")
    if getattr(compiled, "unkept", None):
        return "every time, as no directory can be written to keep them; set NUMBA_CACHE_DIR to one of yours"
    return "once on this machine"
