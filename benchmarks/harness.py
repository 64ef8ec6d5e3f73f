"""Doing a work with every contender: the same result first, then the clock, each in turn."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.work import Contender, Size, Work

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = Path(__file__).resolve().parent / "launch.py"


@dataclass
class Sample:
    """One run."""

    seconds: float
    """Of the work alone."""
    process_seconds: float
    """With Python's start and all imports."""
    peak: int
    """Memory of the largest process, in bytes."""


class Bench:
    """One work and where it is done.

    Parameters
    ----------
    work : Work
    size : Size
    folder : Path
        For the images and the stores; emptied of stores as it goes.
    """

    def __init__(self, work: Work, size: Size, folder: Path) -> None:
        self.work, self.size, self.folder = work, size, folder
        self.contenders = {name: found for name, found in work.contenders.items() if found.installed()}
        self.left_out = [name for name in work.contenders if name not in self.contenders]

    def run(self, repeats: int) -> dict[str, Any]:
        """Set up, check, time; return the record for ``benchmarks.json``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.work.setup(self.folder)
        chosen = {name: self._choose(name, found) for name, found in self.contenders.items()}
        errors = self.check()
        samples: dict[str, list[Sample]] = {name: [] for name in self.contenders}
        for i in range(repeats):
            names = list(self.contenders)
            for name in names if i % 2 == 0 else names[::-1]:
                say(f"  {self.work.name} {i + 1}/{repeats} {name}")
                samples[name].append(self.once(name, chosen[name]))
        self._clear()
        return self._record(chosen, errors, samples)

    def _choose(self, name: str, contender: Contender) -> Mapping[str, Any]:
        """Try every setting (quick: one) and return the fastest; this warms caches of files and compiled code, too."""
        seconds = []
        for settings in contender.settings[: 1 if self.size.quick else None]:
            seconds.append(self.once(name, settings).seconds)
            say(f"  {self.work.name} warm-up {name} {dict(settings) or ''} {seconds[-1]:.2f} s")
        return contender.settings[int(np.argmin(seconds))]

    def once(self, name: str, settings: Mapping[str, Any]) -> Sample:
        """Do the work once, in a process of its own."""
        out = self.out(name)
        shutil.rmtree(out, ignore_errors=True)
        options = json.dumps({"size": asdict(self.size), "settings": dict(settings)})
        worker = [sys.executable, "-m", "benchmarks.worker", self.work.name, name, str(self.folder), str(out), options]
        launcher = [sys.executable, "-I", "-S", str(LAUNCH), *worker]
        facts = json.loads(subprocess.run(launcher, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        if facts["status"]:
            raise RuntimeError(f"{self.work.name}, {name}: the run failed.\n{facts['stderr'][-3000:]}")
        seconds = json.loads(facts["stdout"].splitlines()[-1])["seconds"]
        return Sample(seconds, facts["seconds"], facts["peak"])

    def out(self, name: str) -> Path:
        """Return where a contender stores its result."""
        return self.folder / f"{name.replace(', ', '-').replace(' ', '-')}.zarr"

    def check(self) -> dict[str, float]:
        """Return every contender's largest difference from featpipe; refuse one beyond the tolerance.

        All must have done the work; reads what they have stored.
        """
        first, *others = self.contenders
        errors = {}
        for name in others:
            maps = self.work.contenders[name].maps(self.out(name))
            pairs = zip(self.work.contenders[first].maps(self.out(first)), maps, strict=True)
            errors[name] = max(difference(ours, theirs) for ours, theirs in pairs)
            if not errors[name] <= self.work.tolerance:
                what = f"{name} differs from {first} by {errors[name]:.1e} of the largest value"
                raise RuntimeError(f"{self.work.name}: {what}; {self.work.tolerance:.0e} is allowed.")
        return errors

    def _clear(self) -> None:
        for name in self.contenders:
            shutil.rmtree(self.out(name), ignore_errors=True)

    def _record(
        self, chosen: Mapping[str, Any], errors: Mapping[str, float], samples: Mapping[str, list[Sample]]
    ) -> dict[str, Any]:
        work = self.work
        base = statistics.median(sample.seconds for sample in next(iter(samples.values())))
        contenders = {}
        for name, runs in samples.items():
            median = statistics.median(run.seconds for run in runs)
            contenders[name] = {
                "settings": dict(chosen[name]),
                "difference": errors.get(name),
                "seconds": [run.seconds for run in runs],
                "median": median,
                "fastest": min(run.seconds for run in runs),
                "rate": work.amount / median,
                "ratio": median / base,
                "process_median": statistics.median(run.process_seconds for run in runs),
                "peak_bytes": max(run.peak for run in runs),
            }
        facts = {"name": work.name, "title": work.title, "unit": work.unit, "amount": work.amount}
        return {**facts, "tolerance": work.tolerance, "contenders": contenders, "left_out": self.left_out}


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference relative to the largest value; infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def say(text: str) -> None:
    """Tell on stderr how far it is."""
    print(text, file=sys.stderr, flush=True)
