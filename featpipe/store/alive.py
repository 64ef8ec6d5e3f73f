"""Files that stay locked as long as a process lives: the system itself unlocks them, in whatever container it was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(file: IO[bytes]) -> dict[str, Any]:
    """Lock a file for as long as it stays open; return what tells others so, nothing where files cannot be locked."""
    if fcntl is None:
        return {}
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return {}
    return {"device": os.fstat(file.fileno()).st_dev}


def is_unlocked(path: Path, signs: Mapping[str, Any]) -> bool:
    """Return whether the process that locked a file is gone; of a process of another system, nobody knows.

    Parameters
    ----------
    path : Path
    signs : mapping
        As `lock_file` returned them: on another device, it may be another file, or the same by other means.
    """
    if fcntl is None or "device" not in signs:
        return False
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_dev != signs["device"]:
                return False
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
