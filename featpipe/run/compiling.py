"""Compiled kernels, and what is said while they are not there yet.

What compiles takes half as much memory again as what computes, and keeps it. So the first time on a machine, a process
of its own compiles, and leaves the kernels on disk for all others.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

LONG = 2.0
"""Seconds after which people want to know what they wait for."""


def load_kernels(tell: Callable[[str], None]) -> None:
    """Import what computes; the first time on a machine that compiles, and says so."""
    telling = threading.Timer(LONG, lambda: tell(f"compiling the kernels, {_how_often()}"))
    telling.start()
    try:
        _compile_apart()
        import featpipe.task  # noqa: F401
    finally:
        telling.cancel()


def _compile_apart() -> None:
    """Have another process compile, unless it is done; what goes wrong there will be told here."""
    from featpipe.kernels.compiled import ready_file

    ready = ready_file()
    if ready is None or ready.exists() or "featpipe.task" in sys.modules or not sys.executable:
        return
    optimized = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    words = [sys.executable, *optimized, "-P", "-c", "import featpipe.task"]  # -P: nothing of the working directory
    quiet = subprocess.DEVNULL
    with suppress(OSError):
        if subprocess.run(words, stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode == 0:
            ready.touch()


def _how_often() -> str:
    compiled = sys.modules.get("featpipe.kernels.compiled")
    if getattr(compiled, "unkept", None):
        return "every time, as no directory can be written to keep them; set NUMBA_CACHE_DIR to one of yours"
    return "once on this machine"
