"""A run that stops itself right before one of the steps that change its store, as a suspended one would.

Usage: ``fence_child.py LAPSE STEP COUNTED WORDS...``: lapse of locks in seconds; number of the step before which to
stop, or 0; a file for how many there were; and featpipe's words.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featpipe.cli.commands import app
from featpipe.store import folders
from featpipe.store.cloud import ObjectPlace
from featpipe.store.lock import StoreLock


def main(lapse: float, step: int, counted: Path, words: list[str]) -> None:
    counting, steps = threading.Lock(), [0]

    def stopping(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            with counting:
                steps[0] += 1
                if steps[0] == step:
                    os.kill(os.getpid(), signal.SIGSTOP)
            return change(*arguments, **options)

        return changed

    folders.move = stopping(folders.move)
    ObjectPlace._put = stopping(ObjectPlace._put)  # type: ignore[method-assign]
    StoreLock.__init__.__kwdefaults__.update(lapse=lapse, beat=lapse / 10)  # type: ignore[union-attr]
    try:
        app(words, prog_name="featpipe")
    finally:
        counted.write_text(str(steps[0]))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
