"""Runs inputs one after another in this process, and writes down what each did.

``python -m tests.fuzz.child ROOT FIRST STOP [KIND]`` runs those from FIRST to STOP; one that fails is found again by
its number alone. What a case left stays in ROOT/case.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from featpipe.cli import app
from featpipe.run import load_kernels
from tests.fuzz.assets import copy_assets, make_assets, make_traps
from tests.fuzz.cases import make_case
from tests.integration.hostile_child import peak_memory

SECONDS = 10
"""An input may take."""
MOST_BYTES = 10 * 2**30
"""Of addresses, those of all libraries and threads included."""


class StuckError(BaseException):
    """An input took too long; no handler of mere errors catches this."""


def stuck(*_: object) -> None:
    raise StuckError


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the files of a folder with what changes when they are written."""
    found = {}
    for here, _, files in os.walk(folder):
        for file in files:
            path = Path(here, file)
            about = path.lstat()
            found[path.relative_to(folder).as_posix()] = (about.st_size, about.st_mtime_ns)
    return found


def run(number: int, root: Path, only: str) -> dict[str, Any]:
    """Run one input."""
    folder = root / "case"
    os.chdir(root)
    shutil.rmtree(folder, ignore_errors=True)
    copy_assets(root / "assets", folder)
    make_traps(folder)
    os.chdir(folder)
    words = make_case(number, folder, only)
    before, told, code = listing(folder), io.StringIO(), None
    (root / "running").write_text(json.dumps({"number": number, "words": words}), encoding="utf-8")
    peak_memory()
    began, busy = time.perf_counter(), time.process_time()
    signal.alarm(3 * SECONDS)
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            app(words, prog_name="featpipe")
    except SystemExit as stopped:
        code = stopped.code
    except BaseException as error:
        told.write(f"\n{type(error).__name__} came out: {error}")
    finally:
        signal.alarm(0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    said = told.getvalue()
    changed = sorted(name for name, about in listing(folder).items() if before.get(name) != about)
    return {
        "number": number, "words": words, "code": code, "seconds": seconds, "cpu": cpu, "peak": peak_memory(),
        "said": said[-3000:], "changed": changed[:9],
    }  # fmt: skip


def main(root: Path, first: int, stop: int, only: str = "") -> None:
    """Run inputs, and append what each did to ``found.jsonl``."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, stuck)
    os.environ["COLUMNS"] = "400"
    if not (root / "assets").exists():
        make_assets(root / "assets")
    load_kernels(lambda _: None)
    for number in range(first, stop):
        found = run(number, root, only)
        with (root / "found.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5])
