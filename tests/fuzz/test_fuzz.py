"""No input of any kind ends in a traceback, in "this is a bug", in a hang, or in memory running out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

INPUTS = int(os.environ.get("FEATPIPE_FUZZ_INPUTS", "200"))
FIRST = int(os.environ.get("FEATPIPE_FUZZ_FIRST", "0"))
AT_ONCE = 400
"""Inputs of one process; then the next begins, for libraries keep what they have met."""
SECONDS, MOST_KIB = 10, 1500 * 2**10
SILENT = 60
"""Seconds after which an input that says nothing is stuck where no signal reaches it."""


def complaint(found: dict[str, Any]) -> str:
    """Return what is wrong with how an input ended; nothing where it ended well."""
    said = found["said"]
    if found["code"] not in (0, 1, 2, 130):
        return f"exit code {found['code']}"
    for word in ("Traceback", "bug in featpipe", "came out", "memory ran out"):
        if word in said:
            return word
    if found["cpu"] > SECONDS or found["seconds"] > 3 * SECONDS:  # others may need the processor too
        return f"{found['seconds']:.1f} s, {found['cpu']:.1f} s busy"
    if found["peak"] > MOST_KIB:
        return f"{found['peak'] >> 10} MiB"
    if found["code"] and len(said.strip()) < 10:
        return "says nothing"
    wrote = [name for name in found["changed"] if not name.startswith("s.zarr.run")]
    if found["code"] == 2 and wrote and found["words"][0] in ("plan", "run", "fit", "ingest", "preview"):
        return f"refused, but wrote {wrote}"
    return ""


def run_inputs(root: Path, first: int, stop: int, only: str = "") -> list[dict[str, Any]]:
    """Run inputs in processes; one that kills its process, or hangs in it, is told like the others."""
    results = root / "found.jsonl"
    number = first
    while number < stop:
        words = [
            sys.executable,
            "-m",
            "tests.fuzz.child",
            str(root),
            str(number),
            str(min(stop, number + AT_ONCE)),
            only,
        ]
        with (root / "log").open("a") as log:
            child = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
            )
            ended = _watch(child, results)
        done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        number = done[-1]["number"] + 1 if done else first
        if ended:
            running = json.loads((root / "running").read_text())
            lost = {**running, "code": ended, "seconds": 0, "cpu": 0, "peak": 0, "said": ended, "changed": []}
            with results.open("a") as file:
                file.write(json.dumps(lost) + "\n")
            number = running["number"] + 1
    return [json.loads(line) for line in results.read_text().splitlines()]


def _watch(child: subprocess.Popen[bytes], results: Path) -> str:
    """Wait for a process; return how it ended where it did not end well."""
    start = size = results.stat().st_size if results.exists() else 0
    since = time.monotonic()
    while child.poll() is None:
        now = results.stat().st_size if results.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > (10 if size == start else 1) * SILENT:  # the first loads and compiles
            child.kill()
            child.wait()
            return "hangs"
        time.sleep(0.1)
    return "" if child.returncode == 0 else f"killed its process: {child.returncode}"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_input_ends_but_in_words(tmp_path: Path) -> None:
    found = run_inputs(tmp_path, FIRST, FIRST + INPUTS)
    assert [one["number"] for one in found] == list(range(FIRST, FIRST + INPUTS))
    assert {one["code"] for one in found} >= {0, 1, 2}
    wrong = [
        f"input {one['number']}: {why}\n  {one['words']}\n  {one['said'][-300:]}"
        for one in found
        if (why := complaint(one))
    ]
    assert not wrong, "\n".join(
        [f"{len(wrong)} of {len(found)}; each again by python -m tests.fuzz.child DIR N N+1", *wrong[:10]]
    )


if __name__ == "__main__":
    for one in run_inputs(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5]):
        if why := complaint(one):
            sys.stdout.write(f"{one['number']}: {why} {one['words']}\n    {one['said'].strip()[-260:]!r}\n")
