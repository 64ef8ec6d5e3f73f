"""Runs a command and prints, as JSON, the peak memory of its process and of each process below it, in bytes.

It imports nothing: a process inherits the peak of the one it was forked from.
"""

import json
import os
import resource
import subprocess
import sys
import time


def peak_of(process: int | str) -> int:
    """Return the most that a process held so far; 0 where it has gone."""
    try:
        with open(f"/proc/{process}/status") as file:  # noqa: PTH123
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0


def processes_below(process: int) -> list[int]:
    """Return the processes that a process started, and those that they did."""
    found = []
    try:
        threads = os.listdir(f"/proc/{process}/task")  # noqa: PTH208
        for thread in threads:
            with open(f"/proc/{process}/task/{thread}/children") as file:  # noqa: PTH123
                found += [int(word) for word in file.read().split()]
    except OSError:
        return found
    return found + [below for child in found for below in processes_below(child)]


def main(words: list[str]) -> None:
    """Run, look again and again, and tell."""
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peaks: dict[int, int] = {}
    while child.poll() is None:
        for process in processes_below(child.pid):
            peaks[process] = max(peaks.get(process, 0), peak_of(process))
        peaks[child.pid] = max(peaks.get(child.pid, 0), peak_of(child.pid))
        time.sleep(0.02)
    own = peaks.pop(child.pid, 0)
    if not peaks:
        own = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    assert child.stderr is not None
    error = child.stderr.read().decode()
    print(json.dumps({"code": child.returncode, "own": own, "below": sorted(peaks.values()), "error": error}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
