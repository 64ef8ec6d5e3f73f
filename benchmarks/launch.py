"""Run a command and tell its peak memory.

A process of its own, small, because a child's peak begins with its parent's: ``ru_maxrss`` survives a fork.
"""

import json
import resource
import subprocess
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    facts = {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr, "seconds": seconds, "peak": peak}
    json.dump(facts, sys.stdout)
