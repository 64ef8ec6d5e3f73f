"""Ctrl-C at any instant ends a command with exit code 130 and a word, and what it was writing is as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil
import pytest

from tests.fuzz.assets import make_assets

INTERRUPTS = int(os.environ.get("FEATPIPE_INTERRUPTS", "12"))
COMMANDS = (
    ("plan", "p.yaml"),
    ("run", "p.yaml", "--overwrite", "--set", "store.path=n.zarr"),
    ("fit", "p.yaml", "-o", "f.npz"),
    ("ingest", "p.yaml", "in.zarr"),
    ("preview", "p.yaml", "-o", "v.png"),
    ("info", "s.zarr"),
    ("verify", "s.zarr", "--recompute", "2"),
    ("probe", "s.zarr"),
    ("report", "s.zarr", "-o", "r.html"),
    ("export", "s.zarr", "-o", "e.npz", "--overwrite"),
)


def busy(process: psutil.Process) -> float:
    """Return the time that a process has had of the processor, in seconds; without end if it has gone."""
    try:
        times = process.cpu_times()
        return float(times.user + times.system)
    except psutil.Error:
        return float("inf")


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(os.name == "nt", reason="a signal of POSIX")
def test_an_interrupt_at_any_instant_is_told_in_words(tmp_path: Path) -> None:
    make_assets(tmp_path / "good")
    random, interrupted = Random(0), 0
    for number in range(INTERRUPTS):
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "good", folder)
        words = random.choice(COMMANDS)
        command = [sys.executable, "-m", "featpipe", *words]
        started = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process, moment = psutil.Process(started.pid), random.uniform(0.8, 4.0)
        while started.poll() is None and busy(process) < moment:
            time.sleep(0.002)
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=120)
        about = (number, words, moment, started.returncode, said[-500:])
        assert started.returncode in (0, 130, -signal.SIGINT), about  # the last once all is done and Python ends
        assert "Traceback" not in said, about
        assert "bug" not in said, about
        interrupted += started.returncode != 0
    assert interrupted
