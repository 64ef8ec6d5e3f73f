"""Runs that are stopped on their way, and what they leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from featpipe.store.fence import generations
from featpipe.store.format import read_header
from featpipe.store.place import Place, open_place
from tests.integration.commands import wait_for

CHILD = Path(__file__).with_name("fence_child.py")
LAPSE = 0.4
"""Seconds of silence after which a lock is taken over."""
TAKEN = "the lock was taken from this run by process "
Tree = dict[str, bytes]


class Ended(NamedTuple):
    """How a run ended."""

    code: int
    said: str


class Scene:
    """A pipeline, where its store lies, and the bytes of an undisturbed run of it.

    Parameters
    ----------
    folder : Path
    store : str
        Path or URL.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.folder = folder
        self.file = folder / "p.yaml"
        self.place: Place = open_place(store)
        np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (12, 48, 48), np.uint8))
        fit = {"convolve": {"bank": {"fit": "pca", "kernels": 4, "size": 3, "patches": 100}}}
        gabor = {"convolve": {"bank": "gabor", "frequencies": [0.2], "orientations": 4}}
        data = {
            "images": {"path": str(folder / "images.npy")},
            "features": {"a": {"layers": [gabor, {"pool": {"mean": 4}}]}, "b": {"layers": [fit, {"pool": {"max": 4}}]}},
            "store": {"path": store, "batch": 2},
        }
        self.file.write_text(yaml.safe_dump(data))
        assert self.end(self.start()).code == 0
        self.steps = int((folder / "steps").read_text())
        """Changes of the store that an undisturbed run makes."""
        self.whole = self.tree()
        self.clear()

    def tree(self) -> Tree:
        """Return the files of the store."""
        return {key: self.place.read(key) or b"" for key, _ in self.place.files()}

    def clear(self) -> None:
        """Remove the store and all that lies beside it."""
        for place in (self.place, self.place.beside):
            place.remove([key for key, _ in place.files()])
        for path in (getattr(self.place, "path", None), getattr(self.place.beside, "path", None)):
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)

    def start(self, step: int = 0, *, lapse: float = LAPSE) -> subprocess.Popen[str]:
        """Start a run that stops before one of the steps that change the store."""
        said = [sys.executable, *map(str, (CHILD, lapse, step, self.folder / "steps", "run", self.file))]
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*said, "-q", "--threads", "2"], stdout=quiet, stderr=subprocess.PIPE, text=True)

    def end(self, run: subprocess.Popen[str]) -> Ended:
        """Wait for a run to end."""
        _, said = run.communicate(timeout=120)
        assert "Traceback" not in said, said
        assert "bug" not in said, said
        return Ended(run.returncode, said)

    def wait_until_stale(self) -> None:
        """Wait until the lock that is there has been silent for too long."""
        key = f"lock-{generations(self.place.beside)[-1]:08}.json"
        wait_for(lambda: (self.place.beside.age(key) or 0) > LAPSE)


def wait_until_stopped(run: subprocess.Popen[str]) -> bool:
    """Wait until a process has stopped itself; return False if it ended instead."""
    if not hasattr(os, "waitid"):
        raise NotImplementedError
    os.waitid(os.P_PID, run.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return run.poll() is None


def take_over(scene: Scene, step: int) -> None:
    """Stop a run before a step, let another take over and end, wake the first: what is there is the other's, whole."""
    asleep = scene.start(step)
    try:
        assert wait_until_stopped(asleep)
        scene.wait_until_stale()
        finished = (read_header(scene.place) or {}).get("status") == "complete"
        other = scene.end(scene.start())
        assert other.code == 0, other
        assert scene.tree() == scene.whole
    finally:
        os.kill(asleep.pid, signal.SIGCONT)
    woken = scene.end(asleep)
    assert (finished and woken.code == 0) or (woken.code, TAKEN in woken.said) == (1, True), woken
    assert scene.tree() == scene.whole
    assert not [key for key, _ in scene.place.beside.files() if "partial" in key or key.startswith("receipts")]
