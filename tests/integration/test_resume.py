"""Stores that are there already: gone on with, grown, changed, damaged; what is computed again, and what is not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image

import featpipe
from featpipe.errors import FeatpipeError, Problem, RunError, StoreError
from featpipe.plan import identity
from featpipe.run import RunReport, default_resources, plan_run, run_plan
from featpipe.run.standing import look
from featpipe.run.verify import verify_store
from featpipe.spec.load import parse_pipeline
from featpipe.store.fence import generations, lock_key
from featpipe.store.place import LocalPlace
from tests.integration.commands import command, wait_for

EDGES: dict[str, Any] = {"layers": [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": {"mean": 4}}]}
BLOBS: dict[str, Any] = {
    "scales": [1, 2],
    "layers": [{"convolve": {"bank": "log", "sigmas": [1]}}, {"pool": {"max": "global"}}],
}
RESOURCES = default_resources(threads=2)
KILLS = int(os.environ.get("FEATPIPE_KILLS", "12"))
"""Runs that a campaign kills."""


def draw(seed: int, shape: tuple[int, ...] = (24, 20)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(folder: Path, names: range, shape: tuple[int, ...] = (24, 20)) -> None:
    folder.mkdir(exist_ok=True)
    for i in names:
        Image.fromarray(draw(i, shape)).save(folder / f"{i:04}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save(tmp_path / "photos", range(20))
    return tmp_path / "photos"


def pipeline(folder: Path, store: dict[str, Any] | None = None, **features: Any) -> dict[str, Any]:
    where = {"path": str(folder.parent / "out.zarr"), "batch": 4}
    return {
        "images": {"path": str(folder)},
        "features": features or {"edges": EDGES},
        "store": {key: value for key, value in {**where, **(store or {})}.items() if value is not None},
    }


def run(data: dict[str, Any], **options: Any) -> RunReport:
    return run_plan(plan_run(parse_pipeline(data), RESOURCES), **options)


class Broken:
    """Watches a run, and breaks it when so many tasks are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def start(self, plan: Any, tasks: Any) -> None: ...

    def tell(self, what: str) -> None: ...

    def stopping(self) -> None: ...

    def crew(self, crew: Any) -> None: ...

    def update(self, receipt: Any) -> None:  # noqa: ARG002
        self.left -= 1
        if not self.left:
            raise RunError("broken on purpose")


def stand(data: dict[str, Any]) -> dict[str, Any]:
    plan = plan_run(parse_pipeline(data), RESOURCES)
    return look(LocalPlace(Path(data["store"]["path"])), plan).facts()


def tree(store: Path) -> dict[str, bytes]:
    return {file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()}


def times(store: Path) -> dict[str, int]:
    found = store.rglob("features/c/**/*")
    return {file.relative_to(store).as_posix(): file.stat().st_mtime_ns for file in found if file.is_file()}


def shards_of(store: Path) -> list[Path]:
    return sorted(file for file in store.rglob("features/c/**/*") if file.is_file())


def fresh(data: dict[str, Any]) -> dict[str, bytes]:
    """Return what a run gives where nothing is there, at the same path."""
    store = Path(data["store"]["path"])
    aside = store.with_name("aside.zarr")
    store.rename(aside)
    run(data)
    made = tree(store)
    shutil.rmtree(store)
    aside.rename(store)
    return made


# -- what is computed again -------------------------------------------------------------------------------------------


def test_appended_images_cost_their_shards_and_the_partial_last_one(photos: Path) -> None:
    save(photos, range(20, 22))
    data = pipeline(photos, edges=EDGES, blobs=BLOBS)
    run(data)
    store = photos.parent / "out.zarr"
    before = times(store)
    save(photos, range(22, 30))
    assert stand(data)["reasons"] == {"new images": 3 * 3}  # of eight batches of three maps, 6 and 7 and the grown 5
    report = run(data)
    after = times(store)
    assert (report.resumed, report.tasks) == (5, 3)
    assert {key for key in before if before[key] == after[key]} == {key for key in before if "/c/5/" not in key}
    assert tree(store) == fresh(data)
    assert not [*(photos.parent / "out.zarr.run").glob("receipts-*")]


def test_an_added_branch_costs_its_shards_and_no_more(photos: Path) -> None:
    data = pipeline(photos)
    run(data)
    store = photos.parent / "out.zarr"
    before = times(store)
    data = pipeline(photos, edges=EDGES, blobs=BLOBS)
    facts = stand(data)
    assert (facts["kept"], facts["missing"], facts["reasons"]) == (5, 10, {"new map": 10})
    assert "5 of 15 shards. It computes 10: 10 for new map blobs/scale1, blobs/scale2." in facts["there"]
    run(data)
    assert before.items() <= times(store).items()
    assert tree(store) == fresh(data)


def test_a_branch_added_to_large_images_costs_its_own_blocks(photos: Path) -> None:
    save(photos, range(20), (70, 90))
    coarse = {"layers": [{"convolve": {"bank": "sobel"}}, {"pool": {"max": 16}}]}
    fine = {"layers": [{"convolve": {"bank": "scharr", "padding": "reflect"}}]}
    store = {"batch": None, "block": [32, 32]}
    run(pipeline(photos, store, fine=fine))
    before = times(photos.parent / "out.zarr")
    data = pipeline(photos, store, fine=fine, coarse=coarse)
    run(data)
    assert before.items() <= times(photos.parent / "out.zarr").items()
    assert tree(photos.parent / "out.zarr") == fresh(data)


def test_banks_that_would_be_learned_anew_are_not_mixed_with_old_features(photos: Path) -> None:
    fit = {"layers": [{"convolve": {"bank": {"fit": "pca", "kernels": 4, "size": 3, "patches": 100}}}]}
    data = pipeline(photos, learned=fit, edges=EDGES)
    run(data)
    before = times(photos.parent / "out.zarr")
    save(photos, range(20, 22))
    with pytest.raises(StoreError, match=r"of banks learned from other images \(learned/scale1\), written by"):
        run(data)
    assert times(photos.parent / "out.zarr") == before
    run(data, overwrite=True)
    after = times(photos.parent / "out.zarr")
    assert {key for key in before if before[key] == after[key]} == {key for key in before if key.startswith("edges")}
    assert tree(photos.parent / "out.zarr") == fresh(data)


def test_new_images_come_after_those_that_are_there_whatever_their_names(photos: Path) -> None:
    data = pipeline(photos)
    run(data)
    before = times(photos.parent / "out.zarr")
    Image.fromarray(draw(99)).save(photos / "0003b.png")
    assert run(data).tasks == 1
    stack = featpipe.open(photos.parent / "out.zarr")
    assert stack.paths.tolist() == [*(f"{i:04}.png" for i in range(20)), "0003b.png"]
    assert before.items() <= times(photos.parent / "out.zarr").items()
    assert run(data).status == "unchanged"
    there = dict(zip(stack.paths.tolist(), stack["edges/scale1"][...], strict=True))
    shutil.rmtree(photos.parent / "out.zarr")
    run(data)
    stack = featpipe.open(photos.parent / "out.zarr")
    for path, features in zip(stack.paths.tolist(), stack["edges/scale1"][...], strict=True):
        np.testing.assert_array_equal(there[path], features)


def test_labels_and_splits_cost_nothing(tmp_path: Path) -> None:
    save(tmp_path / "photos", range(8))
    table = tmp_path / "photos" / "list.csv"
    table.write_text("path,label\n" + "".join(f"{i:04}.png,{'ab'[i % 2]}\n" for i in range(8)))
    data = pipeline(table, {"path": str(tmp_path / "out.zarr")})
    run(data)
    table.write_text("path,label\n" + "".join(f"{i:04}.png,{'abc'[i % 3]}\n" for i in range(8)))
    report = run(data)
    assert (report.status, report.tasks) == ("complete", 0)
    assert featpipe.open(tmp_path / "out.zarr").classes == ("a", "b", "c")


def test_a_shard_that_is_gone_or_cut_is_computed_again(photos: Path) -> None:
    data = pipeline(photos)
    run(data)
    shards = shards_of(photos.parent / "out.zarr")
    before = tree(photos.parent / "out.zarr")
    shards[-1].unlink()
    shards[-2].write_bytes(shards[-2].read_bytes()[:-1])
    assert stand(data)["reasons"] == {"lost files": 2}
    assert run(data).tasks == 2
    assert tree(photos.parent / "out.zarr") == before


# -- what nobody asked to lose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": {"edges": {"layers": ["modulus"]}}}, r"of another pipeline \(edges/scale1\), written by"),
        ({"features": {"blobs": BLOBS}}, r"of another pipeline \(edges/scale1\), written by"),
        ({"store": {"dtype": "float16", "batch": 4}}, r"of another pipeline \(edges/scale1\)"),
        ({"store": {"batch": 5}, "features": {"edges": EDGES, "blobs": BLOBS}}, r"of other batches or blocks"),
    ],
)
def test_features_of_another_pipeline_are_kept_unless_told_otherwise(
    photos: Path, change: dict[str, Any], said: str
) -> None:
    run(pipeline(photos))
    store = photos.parent / "out.zarr"
    before = tree(store)
    data = {**pipeline(photos), **change}
    data["store"] = {**pipeline(photos)["store"], **data["store"]}
    if data["features"] == {"edges": {"layers": ["modulus"]}}:
        data["features"] = {"edges": {"layers": [{"convolve": {"bank": "scharr"}}]}}
    with pytest.raises(StoreError, match=said) as caught:
        run(data)
    assert "--overwrite" in str(caught.value)
    assert caught.value.exit_code == 2
    assert tree(store) == before
    assert "A run will refuse this place" in stand(data)["there"]
    run(data, overwrite=True)
    assert tree(store) == fresh(data)


def test_a_store_of_other_images_is_kept_unless_told_otherwise(photos: Path) -> None:
    run(pipeline(photos))
    shutil.rmtree(photos)
    save(photos, range(100, 110))
    with pytest.raises(StoreError, match="holds the features of other images, written by featpipe"):
        run(pipeline(photos))
    run(pipeline(photos), overwrite=True)
    assert tree(photos.parent / "out.zarr") == fresh(pipeline(photos))


def test_what_is_overwritten_keeps_the_maps_that_stay(photos: Path) -> None:
    run(pipeline(photos, edges=EDGES, blobs=BLOBS))
    before = times(photos.parent / "out.zarr")
    other = {"layers": [{"convolve": {"bank": "scharr"}}, {"pool": {"max": "global"}}]}
    run(pipeline(photos, edges=EDGES, blobs=other), overwrite=True)
    after = times(photos.parent / "out.zarr")
    assert {key for key in before if before[key] == after.get(key)} == {
        key for key in before if key.startswith("edges")
    }
    assert not (photos.parent / "out.zarr/blobs/scale2").exists()


def test_shards_of_other_arithmetic_never_mix(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(pipeline(photos))
    save(photos, range(20, 30))
    monkeypatch.setattr(identity, "ARITHMETIC", identity.ARITHMETIC + 1)
    with pytest.raises(StoreError, match="holds the features of other versions"):
        run(pipeline(photos))
    assert run(pipeline(photos), overwrite=True).tasks == 8


def test_a_store_without_receipts_and_checksums_is_not_trusted(photos: Path) -> None:
    run(pipeline(photos))
    shutil.rmtree(photos.parent / "out.zarr/receipts")
    shutil.rmtree(photos.parent / "out.zarr/checksums")
    with pytest.raises(StoreError, match="has lost its receipts, or never had any"):
        run(pipeline(photos))


def test_a_run_begun_for_another_pipeline_leaves_nothing_behind(photos: Path) -> None:
    """Killed between the old pipeline and the new one, and back: no shard of the one is taken for the other's."""
    first, second = pipeline(photos), pipeline(photos, edges={"layers": [{"convolve": {"bank": "scharr"}}]})
    whole = {}
    for data in (first, second):
        run(data, overwrite=True)
        whole[data is first] = tree(photos.parent / "out.zarr")
    for _ in range(2):  # the store holds the second's
        with pytest.raises(RunError, match="on purpose"):
            run(first, overwrite=True, progress=Broken(2))
        run(second, overwrite=True)
        assert tree(photos.parent / "out.zarr") == whole[False]
    with pytest.raises(RunError, match="on purpose"):
        run(first, overwrite=True, progress=Broken(2))
    run(first)
    assert tree(photos.parent / "out.zarr") == whole[True]


# -- images that fail -------------------------------------------------------------------------------------------------


def test_failed_images_are_tried_again_when_asked_to(photos: Path) -> None:
    good = (photos / "0006.png").read_bytes()
    (photos / "0006.png").write_bytes(good[:200])
    kept = (photos / "0006.png").stat()
    data = pipeline(photos)
    assert [failure.image for failure in run(data).failures] == [6]
    (photos / "0006.png").write_bytes(good[:200])
    os.utime(photos / "0006.png", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert run(data).status == "unchanged"
    report = run(data, retry_failed=True)
    assert (report.tasks, [failure.image for failure in report.failures]) == (1, [6])
    (photos / "0006.png").write_bytes(good)
    report = run(data)  # it is another file now
    assert (report.tasks, report.failures) == (1, [])
    assert tree(photos.parent / "out.zarr") == fresh(data)


def test_too_many_failures_end_the_run_and_it_can_go_on(photos: Path) -> None:
    for i in (3, 4, 5, 17):
        (photos / f"{i:04}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    data = pipeline(photos)
    with pytest.raises(RunError, match=r"4 of 20 images failed, and 3 may; the commonest reason: not a") as caught:
        run(data, max_failures=3)
    assert caught.value.exit_code == 1
    assert not (photos.parent / "out.zarr").exists()
    assert len(run(data, max_failures=0.2).failures) == 4
    again = run(data)  # complete as the store is, what failed is told, and counts
    assert (again.status, [one.image for one in again.failures]) == ("unchanged", [3, 4, 5, 17])
    with pytest.raises(RunError, match="4 of 20 images failed, and 3 may"):
        run(data, max_failures=3)


def test_where_every_image_failed_the_next_run_tries_them_again(photos: Path) -> None:
    whole = {file: file.read_bytes() for file in photos.glob("*.png")}
    known = {file: file.stat() for file in whole}
    for file, content in whole.items():
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        os.utime(file, ns=(known[file].st_atime_ns, known[file].st_mtime_ns))
    data = pipeline(photos, {"batch": 4})
    data["images"] |= {"size": [24, 20], "color": "gray"}  # so that no header is looked at beforehand but a few
    with pytest.raises(FeatpipeError, match="none of the 20"):
        run(data)
    for file, content in whole.items():
        file.write_bytes(content)
        os.utime(file, ns=(known[file].st_atime_ns, known[file].st_mtime_ns))
    assert run(data).failures == []


def test_what_was_begun_before_there_was_a_header_is_no_obstacle(photos: Path) -> None:
    store = photos.parent / "out.zarr"
    store.mkdir()
    (store / "zarr.json.0123.partial").write_bytes(b"{")
    assert run(pipeline(photos)).status == "complete"
    assert not list(store.rglob("*.partial"))


def test_failures_that_show_on_the_way_count_too(photos: Path) -> None:
    for i in (3, 4, 17):
        content = bytearray((photos / f"{i:04}.png").read_bytes())
        content[len(content) // 2] ^= 255
        (photos / f"{i:04}.png").write_bytes(content)
    data = pipeline(photos)
    with pytest.raises(RunError, match="images failed, and 1 may"):
        run(data, max_failures=1)
    assert featpipe.open(photos.parent / "out.zarr").status == "partial"
    report = run(data)
    assert report.resumed > 0
    assert [failure.image for failure in report.failures] == [3, 4, 17]
    assert tree(photos.parent / "out.zarr") == fresh(data)


# -- killed -----------------------------------------------------------------------------------------------------------


def kill_often(folder: Path, kills: int, seed: int) -> None:
    """Kill runs of one pipeline at any instants of their writing until one is left alone: its store is as any other."""
    save(folder / "photos", range(160), (96, 96))
    fit = {
        "layers": [
            {"convolve": {"bank": {"fit": "zca-patches", "kernels": 4, "size": 3, "patches": 200}}},
            {"pool": {"max": 4}},
        ]
    }
    data = pipeline(folder / "photos", {"batch": 2}, learned=fit, edges=EDGES)
    file, store, beside = folder / "p.yaml", folder / "out.zarr", LocalPlace(folder / "out.zarr.run")
    file.write_text(yaml.safe_dump(data))

    def start() -> subprocess.Popen[bytes]:
        """Start a run; return once it holds the lock, or has ended as it found all done."""
        before = generations(beside)
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(command("run", file, "-q"), stderr=quiet, stdout=quiet, start_new_session=True)
        wait_for(lambda: child.poll() is not None or generations(beside) != before)
        return child

    first = start()
    started = time.monotonic()
    assert first.wait() == 0
    lasted = time.monotonic() - started
    whole = tree(store)
    shutil.rmtree(store)
    draw, killed = random.Random(seed), 0
    while killed < kills:
        child = start()
        time.sleep(draw.uniform(0, lasted) if draw.random() < 0.5 else draw.uniform(0, lasted / 20))
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        if draw.random() < 0.2 or child.returncode == 0:  # runs that go on from where many died soon have little to do
            done = subprocess.run(command("run", file, "--json", "-q"), check=True, capture_output=True, text=True)
            assert json.loads(done.stdout)["status"] in ("complete", "unchanged")
            assert tree(store) == whole
            shutil.rmtree(store)
    done = subprocess.run(command("run", file, "--json", "-q"), check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["status"] in ("complete", "unchanged")
    assert tree(store) == whole
    assert sorted(path.name for path in folder.iterdir()) == ["out.zarr", "out.zarr.run", "p.yaml", "photos"]
    left = (path.name for path in beside.path.iterdir() if not path.name.endswith(".partial"))
    assert sorted(left) == [lock_key(generations(beside)[-1]), "plan.json", "runs", "stamps.npz"]


def test_killed_at_any_instant_and_run_again_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    kill_often(tmp_path, 6, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_very_often_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    kill_often(tmp_path, KILLS, seed=1)


def test_synced_or_not_the_bytes_are_the_same(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pipeline(photos)
    run(data)
    before = tree(photos.parent / "out.zarr")
    shutil.rmtree(photos.parent / "out.zarr")
    synced: list[int] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(file)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    run(data, fsync=True)
    assert tree(photos.parent / "out.zarr") == before
    assert len(synced) > 2 * 5 + 5  # each shard and its directory, and each receipt


# -- what verify finds ------------------------------------------------------------------------------------------------


def problems(store: Path, **options: Any) -> list[Problem]:
    return verify_store(str(store), resources=RESOURCES, **options).problems


def test_a_store_as_it_was_written_verifies_and_computes_again(photos: Path) -> None:
    fit = {"layers": [{"convolve": {"bank": {"fit": "zca-patches", "kernels": 4, "size": 3, "patches": 200}}}]}
    run(pipeline(photos, edges=EDGES, learned=fit))
    report = verify_store(str(photos.parent / "out.zarr"), recompute=100, resources=RESOURCES)
    assert (report.problems, report.shards, report.recomputed) == ([], 10, 10)


def test_verify_finds_every_kind_of_damage(photos: Path) -> None:
    store = photos.parent / "out.zarr"
    run(pipeline(photos))
    shards = shards_of(store)
    content = bytearray(shards[1].read_bytes())
    content[len(content) // 2] ^= 1
    shards[1].write_bytes(content)
    shards[2].write_bytes(shards[2].read_bytes()[:-3])
    shards[3].unlink()
    (store / "edges/scale1/features/c/9").mkdir()
    (store / "edges/scale1/features/c/9/0").write_bytes(b"stray")
    said = sorted(problem.what for problem in problems(store))
    assert [text.split(";")[0].split(" bytes")[0] for text in said] == [
        f"has {len(content) - 3:,}", "has other", "is missing.", "was not written by a run of this store.",
    ]  # fmt: skip


def test_verify_tells_a_shard_that_hashes_well_from_one_that_its_images_give(photos: Path) -> None:
    store = photos.parent / "out.zarr"
    run(pipeline(photos))
    aside = store.with_name("aside.zarr")
    store.rename(aside)
    for file in photos.glob("*.png"):
        known = file.stat()
        Image.fromarray(draw(int(file.stem) + 500)).save(file)
        os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
        pad = known.st_size - file.stat().st_size
        assert pad <= 0 or file.write_bytes(file.read_bytes() + bytes(pad))
        os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
    aside.rename(store)
    assert not problems(store)
    found = problems(store, recompute=5)
    assert found
    assert all("other bytes" in problem.what or "images have changed" in problem.what for problem in found)


def test_verify_asks_for_a_complete_store(photos: Path) -> None:
    with pytest.raises(StoreError, match="is not a feature stack"):
        problems(photos)
    with pytest.raises(RunError, match="on purpose"):
        run(pipeline(photos), progress=Broken(2))
    with pytest.raises(StoreError, match="is not complete"):
        problems(photos.parent / "out.zarr")


# -- full disks -------------------------------------------------------------------------------------------------------

FILL = """
import os, subprocess, sys
small, file, python = sys.argv[1:4]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
ballast = os.path.join(small, "ballast")
open(ballast, "wb").write(os.urandom(3_000_000))
run = [python, "-m", "featpipe", "run", file, "-q"]
first = subprocess.run(run, capture_output=True, text=True)
print(first.returncode, first.stderr.strip())
os.unlink(ballast)
second = subprocess.run(run, capture_output=True, text=True)
print(second.returncode, second.stderr.strip())
subprocess.run(["cp", "-r", small + "/out.zarr", os.path.dirname(small) + "/copy.zarr"], check=True)
"""


@pytest.mark.slow
def test_a_disk_that_fills_ends_the_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
    wrap = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a file system of its own")
    save(tmp_path / "photos", range(60), (96, 96))
    small = tmp_path / "small"
    small.mkdir()
    data = pipeline(
        tmp_path / "photos",
        {"path": str(small / "out.zarr"), "batch": 2},
        all={"layers": [{"convolve": {"bank": "sobel"}}, {"pool": {"max": 2}}]},
    )
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(data))
    done = subprocess.run(
        [*wrap, sys.executable, "-c", FILL, str(small), str(file), sys.executable],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("1 ")
    assert " is full: about " in first
    assert " bytes) are still to be written, and " in first
    assert "then run again: it goes on from here." in first
    assert second.startswith("0")
    run(data)
    assert tree(tmp_path / "copy.zarr") == tree(small / "out.zarr")
