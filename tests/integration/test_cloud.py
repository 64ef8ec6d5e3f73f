"""Stores in an object store, spoken to over S3's protocol by a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import featpipe
from featpipe.errors import StoreError
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.run.verify import verify_store
from featpipe.spec.load import parse_pipeline
from featpipe.store.lock import StoreLock
from featpipe.store.place import open_place
from tests.endpoint import KEY, SECRET, Bucket

RESOURCES = default_resources(threads=2)
EDGES: dict[str, Any] = {
    "layers": [{"convolve": {"bank": "gabor", "frequencies": [0.2], "orientations": 4}}, {"pool": {"mean": 4}}]
}
BANK = {"fit": "pca", "kernels": 4, "size": 3, "patches": 200}
LEARNED: dict[str, Any] = {"layers": [{"convolve": {"bank": BANK}}, {"pool": {"max": "global"}}]}


def make_pipeline(folder: Path, store: str, count: int = 24) -> dict[str, Any]:
    if not (folder / "images.npy").exists():
        np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (count, 64, 64), np.uint8))
    return {
        "images": {"path": str(folder / "images.npy")},
        "features": {"edges": EDGES, "learned": LEARNED},
        "store": {"path": store, "batch": 2},
    }


def run(data: dict[str, Any]) -> Any:
    return run_plan(plan_run(parse_pipeline(data), RESOURCES))


def without_paths(tree: dict[str, bytes]) -> dict[str, Any]:
    """Return the files of a store, its headers without where it and its images lie, nor their seals."""
    headed = {name: _scrubbed(json.loads(tree[name])) for name in ("zarr.json", "checksums/zarr.json")}
    return {**tree, **headed}


def _scrubbed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    kept = {key: _scrubbed(value) for key, value in node.items() if key != "seal"}
    if isinstance(kept.get("pipeline"), dict):
        for part in ("store", "images"):
            del kept["pipeline"][part]["path"]
    return kept


def tree_of(folder: Path) -> dict[str, Any]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return without_paths({file.relative_to(folder).as_posix(): file.read_bytes() for file in files})


def objects_of(bucket: Bucket, prefix: str) -> dict[str, Any]:
    return without_paths({name.removeprefix(f"{prefix}/"): bucket.read(name) for name in bucket.names(prefix)})


def test_a_store_in_a_bucket_holds_the_bytes_of_one_on_disk(tmp_path: Path, bucket: Bucket) -> None:
    run(make_pipeline(tmp_path, str(tmp_path / "a.zarr")))
    report = run(make_pipeline(tmp_path, f"{bucket.url}/deep/a.zarr"))
    assert report.status == "complete"
    assert objects_of(bucket, "deep/a.zarr") == tree_of(tmp_path / "a.zarr")
    beside = {name.split("/")[2] for name in bucket.names("deep/a.zarr.run")}
    assert beside == {"lock-00000001.json", "plan.json", "runs", "stamps.npz"}
    there, here = featpipe.open(f"{bucket.url}/deep/a.zarr"), featpipe.open(tmp_path / "a.zarr")
    np.testing.assert_array_equal(there.xy()[0], here.xy()[0])
    np.testing.assert_array_equal(there["edges/scale1"].dask().compute(), here["edges/scale1"][...])
    assert there.to_xarray()["edges/scale1"].features.shape == here["edges/scale1"].shape
    assert run(make_pipeline(tmp_path, f"{bucket.url}/deep/a.zarr")).status == "unchanged"
    assert verify_store(f"{bucket.url}/deep/a.zarr", recompute=3, resources=RESOURCES).problems == []


def test_objects_written_again_cost_nothing_and_other_ones_are_replaced_only_if_told_to(
    tmp_path: Path, bucket: Bucket
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 256, (48, 64), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i}.png", compress_level=0)
    store = {"path": str(tmp_path / "a.zarr"), "batch": 2}
    images = {"path": bucket.put_folder(tmp_path / "photos", "photos")}
    data = {"images": images, "features": {"edges": EDGES}, "store": store}
    run(data)
    before = tree_of(tmp_path / "a.zarr")
    bucket.put_folder(tmp_path / "photos", "photos")
    assert run(data).status == "unchanged"
    bucket.put("photos/2.png", (tmp_path / "photos" / "3.png").read_bytes())
    with pytest.raises(StoreError, match=r"1 image that has changed \(2.png\)"):
        run(data)
    bucket.objects.delete("photos/4.png")
    with pytest.raises(StoreError, match=r"1 image that is no longer there \(4.png\)"):
        run(data)
    assert tree_of(tmp_path / "a.zarr") == before
    assert run_plan(plan_run(parse_pipeline(data), RESOURCES), overwrite=True).status == "complete"
    bucket.put("photos/2.png", (tmp_path / "photos" / "2.png").read_bytes())
    bucket.put_folder(tmp_path / "photos", "photos")
    with pytest.raises(StoreError, match=r"1 image that has changed \(2.png\)"):
        run(data)


def test_a_damaged_object_is_found_and_computed_again(tmp_path: Path, bucket: Bucket) -> None:
    data = make_pipeline(tmp_path, f"{bucket.url}/a.zarr")
    run(data)
    before = objects_of(bucket, "a.zarr")
    key = "a.zarr/edges/scale1/features/c/3/0/0/0"
    bucket.put(key, bytes(len(bucket.read(key))))
    bucket.objects.delete("a.zarr/edges/scale1/features/c/4/0/0/0")
    found = verify_store(f"{bucket.url}/a.zarr", resources=RESOURCES).problems
    assert sorted(problem.what for problem in found) == ["has other bytes than were written.", "is missing."]
    bucket.objects.delete(key)
    assert run(data).tasks == 2
    assert objects_of(bucket, "a.zarr") == before


def test_from_a_bucket_into_a_bucket_killed_and_run_again_gives_the_bytes_of_here(
    tmp_path: Path, bucket: Bucket
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(80):
        noise = np.random.default_rng(i).integers(0, 256, (48, 64), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i:03}.png")
    features = {"edges": EDGES, "learned": LEARNED}
    here = {"images": {"path": str(tmp_path / "photos")}, "features": features}
    run({**here, "store": {"path": str(tmp_path / "a.zarr"), "batch": 2}})
    data = {
        "images": {"path": bucket.put_folder(tmp_path / "photos", "photos")},
        "features": features,
        "store": {"path": f"{bucket.url}/a.zarr", "batch": 2},
    }
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(data))
    words = [sys.executable, "-m", "featpipe", "run", str(file), "-q"]
    for enough in (3, 20):
        child = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while sum("receipts-" in name for name in bucket.names("a.zarr.run")) < enough:
            assert time.monotonic() < deadline
            assert child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert featpipe.open(f"{bucket.url}/a.zarr").status == "partial"
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["tasks_resumed"] > 0
    there, local = objects_of(bucket, "a.zarr"), tree_of(tmp_path / "a.zarr")
    differ = {key for key in there if there[key] != local.get(key)}
    others = ("receipts/input/", "receipts/fits/", "fits/", "receipts/zarr.json", "checksums/", "zarr.json")
    assert not {key for key in differ if not key.startswith(others)}  # all of these tell of other files' times and tags
    assert there.keys() == local.keys()
    assert verify_store(f"{bucket.url}/a.zarr", recompute=5, resources=RESOURCES).problems == []


def test_a_store_in_a_bucket_has_one_writer(bucket: Bucket) -> None:
    place = open_place(f"{bucket.url}/a.zarr")
    refused = pytest.raises(StoreError, match="is being written by process")
    with StoreLock(place).held(), refused, StoreLock(place).held():
        pass
    with StoreLock(place).held():
        pass


def test_what_a_bucket_says_no_with_is_told_without_credentials(tmp_path: Path, bucket: Bucket) -> None:
    data = make_pipeline(tmp_path, f"{bucket.url}-none/a.zarr")
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(data))
    done = subprocess.run(
        [sys.executable, "-m", "featpipe", "run", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no such bucket" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
