"""Images that cannot be reached, and images that fail in a part: what a store holds of them, and the next run does."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import featpipe
from featpipe.errors import FeatpipeError, RunError, StoreError, UnavailableError
from featpipe.graph import ThreadWorkers
from featpipe.plan.model import Plan
from featpipe.run import RunReport, default_resources, plan_run, run_plan
from featpipe.run.ingest import ingest
from featpipe.run.verify import verify_store
from featpipe.spec.load import parse_pipeline
from tests.flaky import flaky
from tests.integration.commands import Done

RESOURCES = default_resources(threads=2)
LEARNED: dict[str, Any] = {
    "layers": [
        {"convolve": {"bank": {"fit": "pca", "kernels": 4, "size": 3, "patches": 300}}},
        {"pool": {"max": {"grid": [2, 2]}}},
    ]
}
PLAIN: dict[str, Any] = {"layers": [{"convolve": {"bank": "sobel"}}, {"pool": {"mean": {"grid": [2, 2]}}}]}
LARGE: dict[str, Any] = {
    "layers": [
        {"convolve": {"bank": "sobel", "padding": "reflect"}},
        {"save": "m"},
        {"pool": {"mean": {"grid": [2, 2]}}},
    ]
}


def save(folder: Path, count: int = 12, shape: tuple[int, int] = (24, 20)) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, shape, np.uint8)).save(folder / f"{i:04}.png")
    return folder


def save_large(folder: Path, *, other: tuple[int, int] = (180, 200), bad: tuple[int, int] | None = (3, 3)) -> Path:
    """Write two TIFFs of tiles; one value of the second is NaN, so that one of its blocks cannot be read."""
    folder.mkdir(exist_ok=True)
    first, second = (np.random.default_rng(i).random(s).astype("f4") for i, s in enumerate([(180, 200), other]))
    if bad is not None:
        second[bad] = np.nan
    for name, values in (("a.tif", first), ("b.tif", second)):
        tifffile.imwrite(folder / name, values, tile=(16, 16))
    return folder


def planned(folder: Path, store: dict[str, Any] | None = None, **features: Any) -> Plan:
    where = {"path": str(folder.parent / "out.zarr"), "batch": 4, **(store or {})}
    images = {"path": str(folder)}
    wish = {"images": images, "features": features or {"plain": PLAIN}, "store": where}
    return plan_run(parse_pipeline(wish), RESOURCES)


def run(
    folder: Path, store: dict[str, Any] | None = None, features: dict[str, Any] | None = None, **options: Any
) -> RunReport:
    return run_plan(planned(folder, store, **(features or {})), **options)


def content(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*")) if file.is_file()}


def undisturbed(folder: Path, features: dict[str, Any] | None = None) -> dict[str, bytes]:
    """Return the files of a store that was made without trouble."""
    run(folder, features=features)
    made = content(folder.parent / "out.zarr")
    for path in folder.parent.glob("out.zarr*"):
        shutil.rmtree(path)
    return made


# -- images that cannot be reached -------------------------------------------------------------------------------------


def test_what_could_not_be_reached_is_tried_again_by_the_next_run_alone(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    want = undisturbed(photos)
    (photos / "0001.png").write_bytes(b"no image")
    plan = planned(photos)  # its header is read here
    with flaky(photos, always="0006.png"):
        report = run_plan(plan)
    assert {failure.image: failure.unavailable for failure in report.failures} == {1: False, 6: True}
    stack = featpipe.open(tmp_path / "out.zarr")
    assert np.flatnonzero(~stack.ok).tolist() == [1, 6]
    assert stack.unavailable == ("0006.png",)
    assert "could not be reached" in stack.failures["0006.png"]
    attributes = zarr.open_group(tmp_path / "out.zarr")["ok"].attrs
    assert attributes["unavailable"] == [6]
    again = run(photos)
    assert (again.status, again.tasks) == ("complete", 1)
    assert [failure.image for failure in again.failures] == [1]
    assert run(photos).status == "unchanged"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 20), np.uint8)).save(photos / "0001.png")
    run(photos, overwrite=True)
    assert shards(content(tmp_path / "out.zarr")) == shards(want)


def shards(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if "/features/c/" in name}


def test_a_header_that_could_not_be_reached_costs_no_finished_row(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    run(photos)
    with flaky(photos, always="0006.png"):
        assert run(photos).status == "unchanged"
    for i in (12, 13):
        shutil.copy(photos / f"{i - 12:04}.png", photos / f"{i:04}.png")
    with flaky(photos, always="0006.png"):
        report = run(photos)
    assert not report.failures
    assert report.tasks == 1
    assert featpipe.open(tmp_path / "out.zarr").ok.all()


def test_an_image_whose_header_could_not_be_reached_gets_its_features_later(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    want = undisturbed(photos)
    with flaky(photos, always="0006.png"):
        report = run(photos)
        assert [failure.image for failure in report.failures if failure.unavailable] == [6]
        assert run(photos).status == "unchanged"  # it still cannot be
    assert run(photos).status == "complete"
    assert content(tmp_path / "out.zarr") == want


def test_a_fit_stops_where_an_image_cannot_be_reached(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    features = {"learned": LEARNED}
    want = undisturbed(photos, features)
    plan = planned(photos, **features)
    with flaky(photos, always="0006.png"), pytest.raises(RunError, match=r"to learn from could not be reached"):
        run_plan(plan)
    assert not list((tmp_path / "out.zarr").glob("fits/*/weights"))
    with flaky(photos, always="0006.png"), pytest.raises(RunError, match=r"to learn from could not be reached"):
        run(photos, features=features)  # its header cannot be either
    run(photos, features=features)
    assert content(tmp_path / "out.zarr") == want


def test_a_damaged_image_that_a_fit_leaves_out_is_told(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    damaged = (photos / "0006.png").read_bytes()
    (photos / "0006.png").write_bytes(damaged[:60] + bytes(20) + damaged[80:])
    told: list[str] = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return told.append if name == "tell" else lambda *_: None

    report = run(photos, features={"learned": LEARNED}, progress=Listening())
    assert [failure.image for failure in report.failures] == [6]
    assert any("0006.png" in line and "left out" in line for line in told)


def test_the_command_says_what_could_not_be_reached_and_exits_with_1(
    tmp_path: Path, featpipe: Callable[..., Done]
) -> None:
    photos = save(tmp_path / "photos", 4)
    file = tmp_path / "p.yaml"
    file.write_text(
        "images: {path: photos, size: [16, 16]}\nfeatures: {a: {layers: [{convolve: {bank: sobel}}]}}\n"
        "store: {path: out.zarr}\n"
    )
    with flaky(photos, always="0002.png"):
        done = featpipe("run", file, "--quiet")
    assert done.code == 1
    assert "1 image could not be reached; run again to try it again." in done.out
    assert "1 image could not be reached" in featpipe("info", tmp_path / "out.zarr").out
    with flaky(photos, share=0.3):
        again = featpipe("run", file, "--json")
    facts = json.loads(again.out)
    assert (again.code, facts["status"], facts["failed"], facts["unavailable"]) == (0, "complete", 0, 0)
    assert facts["reads_retried"] > 0


# -- images that fail in a part ----------------------------------------------------------------------------------------


def failed_rows(store: Path) -> list[Any]:
    """Return all that a store holds of its images without features."""
    stack, group = featpipe.open(store), zarr.open_group(store, mode="r")
    rows = np.flatnonzero(~stack.ok).tolist()
    assert rows
    found: list[Any] = []
    for name in stack.maps:
        for row in rows:
            place = f"{name}/features" if stack.is_stacked(name) else f"images/{row}/{name}/features"
            array: Any = group[place]
            found.append(array[row] if stack.is_stacked(name) else array[...])
    return found


@pytest.mark.parametrize("other", [(180, 200), (150, 210)], ids=["stacked", "own"])
@pytest.mark.parametrize("bad", [(3, 3), (100, 100), (179, 140)])
def test_an_image_that_fails_in_one_block_is_nan_whole(other: Any, bad: Any, tmp_path: Path) -> None:
    folder = save_large(tmp_path / "large", other=other, bad=(bad[0] % other[0], bad[1] % other[1]))
    made = []
    for threads in (1, 2):
        report = run_plan(
            plan_run(
                parse_pipeline(
                    {
                        "images": {"path": str(folder)},
                        "features": {"large": LARGE},
                        "store": {"path": str(tmp_path / f"{threads}.zarr"), "block": 64},
                    }
                ),
                default_resources(threads=threads),
            )
        )
        assert [failure.image for failure in report.failures] == [1]
        store = tmp_path / f"{threads}.zarr"
        for values in failed_rows(store):
            assert np.isnan(values).all()
        assert not verify_store(str(store), resources=RESOURCES, recompute=100).problems
        made.append(shards(content(store)))
    assert made[0] == made[1]


def test_an_image_that_failed_is_computed_whole_when_it_is_tried_again(tmp_path: Path) -> None:
    folder = save_large(tmp_path / "large", bad=None)
    want = undisturbed_blocks(folder)
    save_large(folder)
    run(folder, {"block": 64}, {"large": LARGE})
    times = (folder / "b.tif").stat()
    save_large(folder, bad=None)
    os.utime(folder / "b.tif", ns=(times.st_atime_ns, times.st_mtime_ns))
    report = run(folder, {"block": 64}, {"large": LARGE}, retry_failed=True)
    assert not report.failures
    assert shards(content(tmp_path / "out.zarr")) == want


def undisturbed_blocks(folder: Path) -> dict[str, bytes]:
    run(folder, {"block": 64}, {"large": LARGE})
    made = shards(content(folder.parent / "out.zarr"))
    for path in folder.parent.glob("out.zarr*"):
        shutil.rmtree(path)
    return made


def test_a_part_that_could_not_be_reached_is_computed_whole_by_the_next_run(tmp_path: Path) -> None:
    folder = save_large(tmp_path / "large", bad=None)
    want = undisturbed_blocks(folder)
    plan = planned(folder, {"block": 64}, large=LARGE)
    with flaky(folder, always="b.tif", spare=40) as trouble:
        report = run_plan(plan)
    assert trouble.spare < 0
    assert [failure.unavailable for failure in report.failures] == [True]
    for values in failed_rows(tmp_path / "out.zarr"):
        assert np.isnan(values).all()
    assert run(folder, {"block": 64}, {"large": LARGE}).status == "complete"
    assert shards(content(tmp_path / "out.zarr")) == want


def test_features_of_an_earlier_run_become_nan_where_their_image_has_failed_since(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    run(photos)
    times, good = (photos / "0006.png").stat(), (photos / "0006.png").read_bytes()
    (photos / "0006.png").write_bytes(good[:80] + bytes(20) + good[100:])  # as a disk does, its time unchanged
    os.utime(photos / "0006.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    both = {"plain": PLAIN, "more": PLAIN}
    with pytest.raises(
        RunError, match=r"^0006\.png: holds other bytes than .* though its size and its time are the same"
    ):
        run(photos, features=both)
    with pytest.raises(StoreError, match=r"holds the features of 1 image that has changed \(0006\.png\)"):
        run(photos, features=both)
    report = run_plan(planned(photos, **both), overwrite=True)
    assert [failure.image for failure in report.failures] == [6]
    for values in failed_rows(tmp_path / "out.zarr"):
        assert np.isnan(values).all()
    resumed = content(tmp_path / "out.zarr")
    for path in tmp_path.glob("out.zarr*"):
        shutil.rmtree(path)
    run(photos, features={"plain": PLAIN, "more": PLAIN})
    assert shards(content(tmp_path / "out.zarr")) == shards(resumed)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_run_stopped_after_any_task_ends_in_the_same_bytes(blocks: bool, tmp_path: Path) -> None:
    if blocks:
        folder, store, features = save_large(tmp_path / "large", bad=(100, 100)), {"block": 96}, {"large": LARGE}
    else:
        folder, store, features = save(tmp_path / "photos", 6), {"batch": 2}, {"plain": PLAIN, "learned": LEARNED}
        good = (folder / "0003.png").read_bytes()
        (folder / "0003.png").write_bytes(good[:80] + bytes(20) + good[100:])
    plan = planned(folder, store, **features)
    run_plan(plan)
    want = content(tmp_path / "out.zarr")
    for stop in sorted({*range(1, len(plan.tasks), 3), len(plan.tasks)}):
        for path in tmp_path.glob("out.zarr*"):
            shutil.rmtree(path)
        with pytest.raises(FeatpipeError, match="stopped by the test"):
            run_plan(plan, progress=StopsAfter(stop))
        run(folder, store, features)
        assert content(tmp_path / "out.zarr") == want


class StopsAfter:
    """Watches a run, and fails when so many tasks have been done."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks

    def update(self, receipt: Any) -> None:
        del receipt
        self.left -= 1
        if self.left == 0:
            raise FeatpipeError("stopped by the test")

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class StopsBeforeTheSecondRound(ThreadWorkers):
    """Threads that somebody interrupts when failed images are about to become NaN whole."""

    rounds = 0

    def run(self, job: Any, tasks: Any, on_receipt: Any, stop: threading.Event, **options: Any) -> None:
        self.rounds += 1
        if self.rounds == 2:
            stop.set()
        super().run(job, tasks, on_receipt, stop, **options)


def test_a_run_interrupted_before_its_failed_images_are_nan_is_not_complete(tmp_path: Path) -> None:
    folder = save_large(tmp_path / "large", bad=(100, 100))
    run(folder, {"block": 96}, {"large": LARGE})
    want = content(tmp_path / "out.zarr")
    for path in tmp_path.glob("out.zarr*"):
        shutil.rmtree(path)
    workers = StopsBeforeTheSecondRound(2)
    assert run(folder, {"block": 96}, {"large": LARGE}, workers=workers).status == "interrupted"
    assert workers.rounds == 2
    assert featpipe.open(tmp_path / "out.zarr").status == "partial"
    run(folder, {"block": 96}, {"large": LARGE})
    assert content(tmp_path / "out.zarr") == want


def test_ingest_takes_no_image_that_could_not_be_reached_for_a_broken_one(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos", 4)
    images = parse_pipeline({"images": {"path": str(photos)}, "features": {"plain": PLAIN}}).images
    with flaky(photos, always="0002.png"), pytest.raises(UnavailableError, match="run again"):
        ingest(images, tmp_path / "a.zarr")
    resized = images.model_copy(update={"size": (16, 16), "fit": "stretch"})
    with flaky(photos, always="0002.png"), pytest.raises(UnavailableError, match="could not be reached"):
        ingest(resized, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    assert not ingest(images, tmp_path / "a.zarr").failed


def test_verify_does_not_call_shards_wrong_whose_images_it_cannot_reach(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos", 4)
    run(photos)
    with flaky(photos, always="0002.png", spare=1):
        report = verify_store(str(tmp_path / "out.zarr"), resources=RESOURCES, recompute=1)
    assert ["could not be reached" in str(problem) for problem in report.problems] == [True]


# -- ok ----------------------------------------------------------------------------------------------------------------


def test_ok_is_false_of_what_has_not_been_computed(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos")
    for name in ("0001.png", "0009.png"):
        good = (photos / name).read_bytes()
        (photos / name).write_bytes(good[:80] + bytes(20) + good[100:])
    with pytest.raises(RunError, match="images failed"):
        run_plan(planned(photos), max_failures=1)
    stack = featpipe.open(tmp_path / "out.zarr")
    assert stack.status == "partial"
    values = np.asarray(stack["plain/scale1"])
    there = ~np.isnan(values).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(stack.ok, there)
    assert not stack.ok[[1, 9]].any()
    assert stack.info()["ok"] == there.sum()
    assert set(stack.failures) == {"0001.png", "0009.png"}
    assert len(stack.xy(allow_partial=True)[0]) == there.sum()
    xarray = pytest.importorskip("xarray")
    assert xarray is not None
    np.testing.assert_array_equal(stack.to_xarray()["ok"].values, there)


def test_ok_of_a_store_that_is_gone_on_with_is_that_of_what_is_there(tmp_path: Path) -> None:
    folder = save_large(tmp_path / "large", bad=None)
    run(folder, {"block": 64, "batch": 2}, {"large": LARGE})

    tifffile.imwrite(folder / "c.tif", np.random.default_rng(3).random((180, 200)).astype("f4"), tile=(16, 16))
    with pytest.raises(FeatpipeError, match="stopped by the test"):
        run(folder, {"block": 64, "batch": 2}, {"large": LARGE}, progress=StopsAfter(1))
    stack = featpipe.open(tmp_path / "out.zarr")
    assert stack.status == "partial"
    assert stack.ok.tolist()[2] is False
    stored: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")["ok"]
    assert not stored[2]
