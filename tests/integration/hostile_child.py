"""Runs each pipeline below a folder through the command line, and writes down what it did; started by test_hostile.

The folder holds one folder a case with its ``pipeline.yaml``, and ``outside``, which no case may open a file of.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from featpipe.cli import app

SECONDS = 60
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn", "ctypes.dlopen",
    "socket.connect", "socket.getaddrinfo", "shutil.unpack_archive",
}  # fmt: skip


class Watch:
    """Sees files opened and code run that should not be."""

    def __init__(self, outside: str) -> None:
        self.outside = outside
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith((self.outside, "/etc/", "/proc/")) and path.endswith(
                ("canary.png", "passwd", "environ")
            ):
                self.seen.append(f"open {path}")
        elif event == "import":
            if str(arguments[0]).startswith(("hostile", "antigravity", "this")):
                self.seen.append(f"import {arguments[0]}")
        elif event == "ctypes.dlopen" and str(arguments[0]).startswith(sys.prefix):
            return  # threadpoolctl asks libraries that are loaded already
        elif event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.200}")


def run(case: Path, watch: Watch) -> dict[str, Any]:
    os.chdir(case)
    told = io.StringIO()
    watch.seen, code = [], None
    signal.alarm(SECONDS)
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        watch.active = True
        try:
            app(["run", "pipeline.yaml", "--quiet", "--memory", "900MiB", "--threads", "1"])
        except SystemExit as stopped:
            code = stopped.code
        finally:
            watch.active = False
            signal.alarm(0)
    return {"case": case.name, "code": code, "said": told.getvalue(), "seen": watch.seen, "peak": peak_memory()}


def peak_memory() -> int:
    """Return the most memory resident since the last call, in KiB; since the start where the system cannot tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def stuck(*_: object) -> None:
    raise TimeoutError(f"still busy after {SECONDS} s")


def main(root: Path) -> None:
    signal.signal(signal.SIGALRM, stuck)
    watch = Watch(str(root / "outside"))
    cases = sorted(path for path in root.iterdir() if (path / "pipeline.yaml").exists())
    cases.sort(key=lambda path: path.name != "good")  # loads and compiles what all need
    for case in cases:
        found = run(case, watch)
        if case.name == "good":  # libraries are loaded by it
            found["seen"] = []
        with (root / "found.jsonl").open("a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
