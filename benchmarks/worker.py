"""One contender, once, in a process of its own; started by the harness."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.registry import find_work
from benchmarks.work import Size


def main(work: str, contender: str, folder: str, out: str, options: str) -> None:
    """Do the work and print its seconds."""
    given = json.loads(options)
    found = find_work(work, Size(**given["size"])).contenders[contender]
    job = found.prepare(Path(folder), Path(out), **given["settings"])
    start = time.perf_counter()
    job()
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
