"""What tasks share is never written to: it is sent to workers, and read by many threads, while tasks are on."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featpipe.caches import Cache
from featpipe.chain.execute import run_whole
from featpipe.fit.gather import PatchWork
from featpipe.images.reader import open_reader
from featpipe.plan.budget import Resources
from featpipe.plan.model import Plan
from featpipe.plan.resolve import make_program
from featpipe.run.planning import plan_run
from featpipe.spec.load import parse_pipeline
from featpipe.store.place import LocalPlace
from featpipe.store.write import NoWriter
from featpipe.task import Work

ROOMY = Resources(memory_bytes=8 << 30, threads=2, base_bytes=0)
GABOR: dict[str, Any] = {
    "convolve": {"bank": "gabor", "frequencies": [0.1, 0.2], "orientations": 2, "padding": "reflect"}
}
POOLED: dict[str, Any] = {"g": {"scales": [1, 2], "layers": [GABOR, "modulus", {"pool": {"mean": {"grid": [2, 2]}}}]}}


def write_images(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = [folder / f"{i:03}.png" for i in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(file)
    return files


def mixed(folder: Path) -> str:
    sizes = np.random.default_rng(1).integers(20, 90, (40, 2))
    write_images(folder / "photos", [(int(y), int(x)) for y, x in sizes])
    return str(folder / "photos")


def zipped(folder: Path) -> str:
    files = write_images(folder / "photos", [(40, 40)] * 6)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    return str(folder / "photos.zip")


def stacked(folder: Path) -> str:
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (6, 40, 40), np.uint8))
    return str(folder / "images.npy")


def make_work(folder: Path, source: str, features: dict[str, Any], **store: Any) -> Work:
    data = {
        "images": {"path": source, **({"color": "gray"} if not source.endswith(".npy") else {})},
        "features": features,
        "store": {"path": str(folder / "out.zarr"), **store},
    }
    plan: Plan = plan_run(parse_pipeline(data), ROOMY)
    reader = open_reader(plan.pipeline.images, plan.collection)
    return Work(plan, reader, NoWriter(LocalPlace(folder / "out.zarr")))


def test_a_job_can_be_pickled_while_its_tasks_run(tmp_path: Path) -> None:
    work = make_work(tmp_path, mixed(tmp_path), POOLED, batch=1)
    done = threading.Event()

    def pickle_again_and_again() -> int:
        sizes = {len(pickle.dumps(work))}
        while not done.is_set():
            sizes.add(len(pickle.dumps(work)))
        return len(sizes)

    with ThreadPoolExecutor(4) as pool:
        sizes = [pool.submit(pickle_again_and_again) for _ in range(2)]
        try:
            list(pool.map(work.run, list(range(len(work.plan.tasks))) * 2))
        finally:
            done.set()
        assert [size.result() for size in sizes] == [1, 1]


WINDOWS: dict[str, Any] = {"w": {"layers": [GABOR, "modulus", {"pool": {"max": 2}}, GABOR]}}
DRAWN: dict[str, Any] = {"d": {"layers": [{"local": {"kernels": {"fit": "random", "kernels": 2, "size": 3}}}]}}
CASES: dict[str, tuple[Callable[[Path], str], dict[str, Any], dict[str, Any]]] = {
    "files of many sizes, cells": (mixed, POOLED, {}),
    "files of many sizes, blocks and streams": (mixed, {**POOLED, **WINDOWS}, {"block": [32, 32]}),
    "an archive": (zipped, WINDOWS, {"batch": 2}),
    "an array, blocks and streams": (stacked, {**POOLED, **WINDOWS}, {"block": [32, 32]}),
    "an array, drawn kernels": (stacked, DRAWN, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_running_tasks_changes_nothing_of_what_they_share(tmp_path: Path, case: str) -> None:
    find, features, store = CASES[case]
    work = make_work(tmp_path, find(tmp_path), features, **store)
    before = pickle.dumps(work)
    for task in work.plan.tasks:
        work.run(task.index)
        work.try_images(task.index, task.images)
    assert pickle.dumps(work) == before


def test_cutting_patches_changes_nothing_of_what_tasks_share(tmp_path: Path) -> None:
    bank = {"fit": "pca", "kernels": 2, "size": 3, "patches": 50}
    plan = make_work(tmp_path, stacked(tmp_path), {"p": {"layers": [GABOR, {"convolve": {"bank": bank}}]}}).plan
    sources = np.array([[i % 6, i, 2 * i, 0] for i in range(12)], np.int64)
    reader = open_reader(plan.pipeline.images, plan.collection)
    work = PatchWork(plan, plan.program.fits[0], reader, sources)
    before = pickle.dumps(work)
    assert len(work.run(0).patches) == 12
    assert pickle.dumps(work) == before


def test_what_was_worked_out_goes_with_the_program() -> None:
    program = make_program(parse_pipeline({"features": POOLED}).features, ("gray",))
    run_whole(program, np.zeros((1, 40, 40, 1), np.float32))
    gone = weakref.ref(program)
    del program
    gc.collect()
    assert gone() is None


def test_a_cache_keeps_no_more_than_it_may() -> None:
    class Owner:
        pass

    owner, made = Owner(), []
    cache: Cache[int] = Cache(3)

    def make(i: int) -> Callable[[], int]:
        return lambda: made.append(i) or i  # type: ignore[func-returns-value]

    assert [cache.get(owner, i % 3, make(i)) for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert made == [0, 1, 2]
    assert cache.get(owner, 3, make(3)) == 3
    assert [cache.get(owner, i, make(i)) for i in (3, 0)] == [3, 0]
    assert made == [0, 1, 2, 3, 0]
