"""The plan's promise of memory, for every kind of source: measured in processes of their own, no more than planned.

The plan's peak holds for each process: this one with threads, or the client of workers and each of them. ``python -m
tests.integration.test_memory FOLDER [SOURCE ...]`` prints the table, and keeps the sources in the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.endpoint import Bucket
from tests.integration.commands import command
from tests.integration.memory_sources import SOURCES, write_folder, write_parquet

WATCH = Path(__file__).with_name("memory_watch.py")
MEMORY = "1536MiB"
LESS = dict.fromkeys(("npy", "npy, float32", "npy, Fortran", "npy, Fortran, float32"), "600MiB")
"""For sources that are read by parts: less than one image of them."""
POOL: dict[str, Any] = {"pool": {"mean": 32}}
BANK = {"fit": "kmeans", "kernels": 8, "size": 6, "patches": 20_000, "iterations": 3}
CHAINS: dict[str, list[Any]] = {
    "none": [{"convolve": {"bank": "sobel"}}, "modulus", POOL],
    "fit": [{"convolve": {"bank": BANK}}, POOL],
}
WAYS = {"threads": ("--threads", "2"), "workers": ("--workers", "2")}
SAMPLE = [
    ("npy, float32", "none", "threads"),
]
"""Of the table, what is measured each time."""
MOST = ("jpeg", "tiff16", "tiled tiff", "tar", "parquet, one row group", "npy, Fortran, float32", "zarr")
WHOLE = os.environ.get("FEATPIPE_MEMORY_TABLE") == "whole"
TABLE = list(SOURCES) if WHOLE else MOST
"""What a campaign measures, with threads and workers, with a fit and without; the whole takes half an hour."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


class Found(NamedTuple):
    """What was planned and measured, in bytes."""

    planned: int
    base: int
    fit: int
    own: int
    """The most of the process that was started."""
    below: int
    """The most of a process that it started: of a worker."""

    @property
    def measured(self) -> int:
        return max(self.own, self.below)

    def told(self) -> str:
        parts = " ".join(f"{name} {value >> 20:4}" for name, value in self._asdict().items())
        return f"{parts} ratio {self.planned / self.measured:.2f}"


def measure(folder: Path, images: Path | str, fit: str, way: str, memory: str) -> Found:
    """Plan and run a pipeline, each in a process of its own."""
    folder.mkdir(parents=True)
    source = {"path": str(images), "color": "rgb"}
    if str(images).endswith((".npy", "images.zarr")):
        source = {"path": str(images), "axes": "nyx"}
    data = {"images": source, "features": {"a": {"layers": CHAINS[fit]}}, "store": {"path": "out.zarr"}}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(data))
    options = [folder / "pipeline.yaml", "--memory", memory, *WAYS[way]]
    plan = subprocess.run(command("plan", "--json", *options), capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr
    planned = json.loads(plan.stdout)["memory"]
    words = [sys.executable, str(WATCH), *command("run", "-q", *options)]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert told["code"] == 0, told["error"]
    return Found(planned["peak"], planned["base"], planned["fit"], told["own"], max(told["below"], default=0))


def check(folder: Path, images: Path | str, fit: str, way: str, memory: str = MEMORY) -> None:
    if way == "workers":
        pytest.importorskip("distributed")
    if fit == "fit":
        pytest.importorskip("sklearn")
    found = measure(folder, images, fit, way, memory)
    assert found.measured <= found.planned, found.told()


@pytest.mark.parametrize(("name", "fit", "way"), SAMPLE, ids=map(" · ".join, SAMPLE))
def test_measured_peak_memory_is_at_most_the_planned(tmp_path: Path, name: str, fit: str, way: str) -> None:
    check(tmp_path / "run", SOURCES[name](tmp_path), fit, way, LESS.get(name, MEMORY))


def check_all(folder: Path, images: Path | str, memory: str = MEMORY) -> None:
    """Check a source in every way, with a fit and without."""
    for fit in CHAINS:
        for way in WAYS:
            check(folder / f"{fit}-{way}", images, fit, way, memory)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TABLE)
def test_measured_peak_memory_is_at_most_the_planned_for_any_source(tmp_path: Path, name: str) -> None:
    if name.startswith("parquet"):
        pytest.importorskip("pyarrow")
    source = tmp_path / "source"
    source.mkdir()
    check_all(tmp_path, SOURCES[name](source), LESS.get(name, MEMORY))
    shutil.rmtree(source)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not WHOLE, reason="many minutes; FEATPIPE_MEMORY_TABLE=whole")
@pytest.mark.parametrize("kind", ["objects", "parquet"])
def test_measured_peak_memory_is_at_most_the_planned_for_objects(tmp_path: Path, bucket: Bucket, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        images = bucket.put("images.parquet", write_parquet(tmp_path / "a.parquet", 20).read_bytes())
    else:
        images = bucket.put_folder(write_folder(tmp_path / "images", "jpeg"), "images")
    check_all(tmp_path, images)


def tabulate(root: Path, names: list[str]) -> None:
    """Print the table."""
    for name in names:
        place = root / name.replace(" ", "-").replace(",", "")
        kept = place / "where"
        if not kept.exists():
            place.mkdir(parents=True)
            kept.write_text(str(SOURCES[name](place)))
        for fit in CHAINS:
            for way in WAYS:
                shutil.rmtree(place / "run", ignore_errors=True)
                found = measure(place / "run", kept.read_text(), fit, way, LESS.get(name, MEMORY))
                bad = "" if found.measured <= found.planned else "  MORE THAN PLANNED"
                print(f"{name:24} {fit:5} {way:8} {found.told()}{bad}", flush=True)  # noqa: T201


if __name__ == "__main__":
    tabulate(Path(sys.argv[1]), sys.argv[2:] or list(SOURCES))
