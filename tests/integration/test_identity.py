"""Images that have new times, have changed, are gone or listed in another order: features stay with them."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from PIL import Image

import featpipe
from featpipe.errors import StoreError
from featpipe.plan.identity import stamps_digest, table_digest
from featpipe.run import RunReport
from featpipe.store.place import LocalPlace
from featpipe.store.receipts import Journal
from tests.integration.test_resume import EDGES, Broken, draw, fresh, run, stand, times, tree

COUNT = 10
Source = Callable[[Path, dict[int, int]], Path]
"""Makes a source of images whose pixels are drawn from seeds; gone are those that have none."""


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw(seed)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def pixels(seeds: dict[int, int]) -> Any:
    return np.stack([draw(seed) for seed in seeds.values()])


def folder(place: Path, seeds: dict[int, int]) -> Path:
    root = place / "photos"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for i, seed in seeds.items():
        (root / f"{i:04}.png").write_bytes(png(seed))
    return root


def pattern(place: Path, seeds: dict[int, int]) -> Path:
    return folder(place, seeds) / "*.png"


def manifest(place: Path, seeds: dict[int, int]) -> Path:
    root = folder(place, seeds)
    (root / "list.csv").write_text("path\n" + "".join(f"{i:04}.png\n" for i in seeds))
    return root / "list.csv"


def tar(place: Path, seeds: dict[int, int]) -> Path:
    with tarfile.open(place / "a.tar", "w") as archive:
        for i, seed in seeds.items():
            info = tarfile.TarInfo(f"{i:04}.png")
            info.size = len(png(seed))
            archive.addfile(info, io.BytesIO(png(seed)))
    return place / "a.tar"


def zipped(place: Path, seeds: dict[int, int]) -> Path:
    with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i, seed in seeds.items():
            archive.writestr(f"{i:04}.png", png(seed))
    return place / "a.zip"


def parquet(place: Path, seeds: dict[int, int]) -> Path:
    pq.write_table(pa.table({"image": [png(seed) for seed in seeds.values()]}), place / "a.parquet", row_group_size=4)
    return place / "a.parquet"


def npy(place: Path, seeds: dict[int, int]) -> Path:
    np.save(place / "a.npy", pixels(seeds))
    return place / "a.npy"


def zarray(place: Path, seeds: dict[int, int]) -> Path:
    shutil.rmtree(place / "a.zarr", ignore_errors=True)
    array = zarr.create_array(str(place / "a.zarr"), shape=(len(seeds), 24, 20), chunks=(3, 24, 20), dtype="uint8")
    array[...] = pixels(seeds)
    return place / "a.zarr"


def tiffs(place: Path, seeds: dict[int, int]) -> Path:
    root = place / "tiffs"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for i, seed in seeds.items():
        tifffile.imwrite(root / f"{i:04}.tif", draw(seed, (96, 80)), tile=(16, 16))
    return root


SOURCES: list[Source] = [folder, pattern, manifest, tar, zipped, parquet, npy, zarray, tiffs]
SEEDS = {i: i for i in range(COUNT)}


def pipeline(source: Path, place: Path, **features: Any) -> dict[str, Any]:
    store: dict[str, Any] = {"path": str(place / "out.zarr"), "batch": 4}
    if source.name == "tiffs":
        store = {"path": str(place / "out.zarr"), "block": [32, 32]}
    images = {"path": str(source), **({"axes": "nyx"} if source.suffix in {".npy", ".zarr"} else {})}
    layers = {"layers": [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": {"mean": 4}}]}
    return {"images": images, "features": features or {"edges": layers}, "store": store}


def age(source: Path, time: int = 1_000_000_000) -> None:
    """Give all that a source is made of another time."""
    root = source.parent if source.suffix in {".csv", ".png"} else source
    for file in [root, *root.rglob("*")] if root.is_dir() else [root]:
        os.utime(file, ns=(time, time))


def unchanged(data: dict[str, Any]) -> bool:
    """Tell whether a run finds nothing to do, and writes nothing into the store."""
    store = Path(data["store"]["path"])
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*")}
    report: RunReport = run(data)
    return report.status == "unchanged" and before == {file: file.stat().st_mtime_ns for file in store.rglob("*")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.__name__)
def test_images_with_new_times_are_compared_once_and_cost_nothing(source: Source, tmp_path: Path) -> None:
    data = pipeline(source(tmp_path, SEEDS), tmp_path)
    run(data)
    before = tree(tmp_path / "out.zarr")
    assert stand(data)["there"] == "These features are there already, complete: a run has nothing to do."
    age(source(tmp_path, SEEDS))
    facts = stand(data)
    assert (facts["missing"], facts["to_compare"], facts["refused"]) == (0, COUNT, False)
    assert "compares their content first" in facts["there"]
    assert "finished" not in facts["there"]
    assert unchanged(data)
    assert stand(data)["there"] == "These features are there already, complete: a run has nothing to do."
    assert tree(tmp_path / "out.zarr") == before == fresh(data)


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.__name__)
def test_a_changed_image_is_replaced_only_if_told_to(source: Source, tmp_path: Path) -> None:
    data = pipeline(source(tmp_path, SEEDS), tmp_path)
    run(data)
    before = tree(tmp_path / "out.zarr")
    age(source(tmp_path, {**SEEDS, 5: 500}))
    whole = source is zarray
    said = "10 images of an array that has changed" if whole else r"1 image that has changed \(0*5(\.png|\.tif)?\)"
    with pytest.raises(StoreError, match=f"holds the features of {said}, written by .* --overwrite") as caught:
        run(data)
    assert caught.value.exit_code == 2
    assert tree(tmp_path / "out.zarr") == before
    report = run(data, overwrite=True)
    assert report.tasks == (3 if whole else 9 if source is tiffs else 1)
    assert tree(tmp_path / "out.zarr") == fresh(data)
    assert unchanged(data)


@pytest.mark.parametrize("left", [COUNT - 1, 3, 1])
@pytest.mark.parametrize("source", [folder, pattern, manifest, tar, zipped, npy, tiffs], ids=lambda one: one.__name__)
def test_features_of_images_that_are_gone_are_dropped_only_if_told_to(
    source: Source, left: int, tmp_path: Path
) -> None:
    data = pipeline(source(tmp_path, SEEDS), tmp_path)
    data["store"].pop("batch", None)
    run(data)
    before = tree(tmp_path / "out.zarr")
    source(tmp_path, {i: i for i in range(COUNT - left, COUNT)} if source is not npy else {i: i for i in range(left)})
    gone = COUNT - left
    told = f"{gone} images that are" if gone > 1 else "1 image that is"
    facts = stand(data)
    assert facts["refused"]
    assert f"holds the features of {told} no longer there (" in facts["there"]
    assert not {"batches", "finished", "another pipeline"} & set(facts["there"].replace(",", " ").split())
    with pytest.raises(StoreError, match=f"{told} no longer there"):
        run(data)
    assert tree(tmp_path / "out.zarr") == before
    run(data, overwrite=True)
    assert tree(tmp_path / "out.zarr") == fresh(data)
    assert unchanged(data)


@pytest.mark.parametrize("source", [manifest, tar, zipped], ids=lambda one: one.__name__)
def test_features_stay_with_images_that_are_listed_in_another_order(source: Source, tmp_path: Path) -> None:
    data = pipeline(source(tmp_path, SEEDS), tmp_path)
    run(data)
    before, paths = tree(tmp_path / "out.zarr"), featpipe.open(tmp_path / "out.zarr").paths.tolist()
    source(tmp_path, dict(sorted(SEEDS.items(), key=lambda one: (one[0] * 7) % COUNT)))
    assert unchanged(data)
    assert tree(tmp_path / "out.zarr") == before
    source(tmp_path, {20: 20, **dict(reversed(SEEDS.items()))})
    assert stand(data)["reasons"] == {"new images": 1}
    assert run(data).tasks == 1
    stack = featpipe.open(tmp_path / "out.zarr")
    assert stack.paths.tolist() == [*paths, "0020.png"]
    assert run(data).status == "unchanged"


def test_a_plan_says_that_the_rows_are_in_another_order_than_the_list(tmp_path: Path) -> None:
    from featpipe.run import default_resources, plan_run
    from featpipe.spec.load import parse_pipeline

    data = pipeline(manifest(tmp_path, SEEDS), tmp_path)
    run(data)
    manifest(tmp_path, dict(reversed(SEEDS.items())))
    notes = plan_run(parse_pipeline(data), default_resources(threads=1)).notes
    assert any("keep their order" in note for note in notes)


def test_a_list_may_name_an_image_twice_whatever_its_order(tmp_path: Path) -> None:
    file = manifest(tmp_path, SEEDS)
    names = ["0001.png", "0000.png", "0001.png", "0002.png"]
    file.write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in zip(names, "abcd", strict=True)))
    data = pipeline(file, tmp_path)
    run(data)
    assert unchanged(data)
    file.write_text(
        "path,label\n" + "".join(f"{name},{label}\n" for name, label in zip(names[::-1], "dcba", strict=True))
    )
    assert run(data).tasks == 0
    stack = featpipe.open(tmp_path / "out.zarr")
    assert stack.paths.tolist() == names
    assert [stack.classes[i] for i in stack.labels[[1, 3]]] == ["b", "d"]


def test_a_listed_file_that_is_missing_now_does_not_cost_its_features(tmp_path: Path) -> None:
    file = manifest(tmp_path, SEEDS)
    data = pipeline(file, tmp_path)
    run(data)
    before = tree(tmp_path / "out.zarr")
    (file.parent / "0006.png").rename(file.parent / "aside")
    said = r"holds the features of 1 image that cannot be read now \(0006.png: no such file\), written by"
    with pytest.raises(StoreError, match=said):
        run(data)
    assert tree(tmp_path / "out.zarr") == before
    report = run(data, overwrite=True)
    assert (report.tasks, [one.image for one in report.failures]) == (1, [6])
    assert tree(tmp_path / "out.zarr") == fresh(data)
    (file.parent / "aside").rename(file.parent / "0006.png")  # nothing is lost by what is there again
    assert stand(data)["reasons"] == {"failed images that have changed": 1}
    assert run(data).tasks == 1
    assert tree(tmp_path / "out.zarr") == before


def test_an_image_that_failed_and_is_another_now_is_computed_freely(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, SEEDS), tmp_path)
    data["images"] |= {"size": [24, 20], "color": "gray"}
    broken = tmp_path / "photos" / "0006.png"
    broken.write_bytes(png(6)[:300])
    run(data)
    before = tree(tmp_path / "out.zarr")
    os.utime(broken, (1, 1))  # it is as broken as it was
    assert unchanged(data)
    broken.write_bytes(png(6)[:299])
    assert stand(data)["reasons"] == {"failed images that have changed": 1}
    assert run(data).tasks == 1
    assert tree(tmp_path / "out.zarr") != before  # by the content of the broken one
    broken.write_bytes(png(6))
    assert run(data).failures == []
    assert tree(tmp_path / "out.zarr") == fresh(data)


def test_times_that_nobody_noted_are_found_out_again(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, SEEDS), tmp_path)
    run(data)
    shutil.rmtree(tmp_path / "out.zarr.run")
    assert "The times of 10 images were not noted: it compares their content first." in stand(data)["there"]
    assert unchanged(data)
    assert stand(data)["to_compare"] == 0
    (tmp_path / "out.zarr.run" / "stamps.npz").write_bytes(b"PK damaged")
    assert stand(data)["to_compare"] == COUNT
    assert unchanged(data)


def test_an_unfinished_store_keeps_what_it_has_when_times_change(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, {i: i for i in range(20)}), tmp_path)
    with pytest.raises(Exception, match="on purpose"):
        run(data, progress=Broken(3))
    receipts = Journal(LocalPlace(tmp_path / "out.zarr")).read()
    there = times(tmp_path / "out.zarr")
    done = {shard.key: there[shard.key] for receipt in receipts for shard in receipt.shards}
    age(tmp_path / "photos")
    assert stand(data)["kept"] == len(done) >= 3
    run(data)
    assert done.items() <= times(tmp_path / "out.zarr").items()
    assert tree(tmp_path / "out.zarr") == fresh(data)


def test_an_unfinished_store_loses_no_finished_rows_either(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, {i: i for i in range(20)}), tmp_path)
    with pytest.raises(Exception, match="on purpose"):
        run(data, progress=Broken(4))
    finished = Journal(LocalPlace(tmp_path / "out.zarr")).read()[0].images[0]
    (tmp_path / "photos" / f"{finished:04}.png").unlink()
    with pytest.raises(StoreError, match="of 1 image that is no longer there"):
        run(data)
    run(data, overwrite=True)
    assert tree(tmp_path / "out.zarr") == fresh(data)


def test_banks_learned_from_images_with_new_times_are_the_same(tmp_path: Path) -> None:
    fit = {"layers": [{"convolve": {"bank": {"fit": "pca", "kernels": 4, "size": 3, "patches": 100}}}]}
    data = pipeline(folder(tmp_path, SEEDS), tmp_path, learned=fit, edges=EDGES)
    run(data)
    before = tree(tmp_path / "out.zarr")
    age(tmp_path / "photos")
    assert not stand(data)["refused"]
    assert unchanged(data)
    assert tree(tmp_path / "out.zarr") == before == fresh(data)
    (tmp_path / "photos" / "0003.png").write_bytes(png(300))
    with pytest.raises(StoreError, match=r"banks learned from other images \(learned/scale1\) and of 1 image that has"):
        run(data)
    run(data, overwrite=True)
    assert tree(tmp_path / "out.zarr") == fresh(data)


def test_reasons_are_told_together_and_are_true(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, SEEDS), tmp_path)
    run(data)
    (tmp_path / "photos" / "0001.png").write_bytes(png(1) + b"more")
    (tmp_path / "photos" / "0002.png").write_bytes(b"")
    (tmp_path / "photos" / "0009.png").unlink()
    data["store"]["batch"] = 5
    data["features"]["blobs"] = EDGES
    said = stand(data)["there"]
    assert (
        "holds the features of 1 image that is no longer there (0009.png) and of 1 image that has changed (0001.png) "
        "and of 1 image that cannot be read now (0002.png: is empty (0 bytes)), written by featpipe"
    ) in said
    run(data, overwrite=True)
    assert tree(tmp_path / "out.zarr") == fresh(data)


def as_of_01(store: Path, data: dict[str, Any]) -> None:
    """Make a complete store what featpipe 0.1 would have written."""
    from featpipe.run import default_resources, plan_run
    from featpipe.spec.load import parse_pipeline
    from featpipe.store.format import read_node

    plan = plan_run(parse_pipeline(data), default_resources(threads=1))
    place = LocalPlace(store)
    group: Any = zarr.open_group(str(store / "receipts"), mode="r+", use_consolidated=False)
    rows = [np.arange(first, last + 1) for first, last in zip(group["first"][:], group["last"][:], strict=True)]
    group["input"][:] = np.array([stamps_digest(plan.collection, one, one) for one in rows], np.dtypes.StringDType())
    for name in ("failed", "reason", "unavailable", "path", "content"):
        shutil.rmtree(store / "receipts" / name)
    for key in ("", "receipts", "path"):
        node = read_node(place, key)
        assert node is not None
        node["attributes"].pop("sha256", None)
        if key == "receipts":
            node["attributes"] = {}
        if not key:
            header = node["attributes"]["featpipe"]
            assert header["digests"]["images"] == table_digest(plan.collection)
            header["digests"]["images"] = plan.collection.digest
            header.pop("seal")
            node.pop("consolidated_metadata", None)
        place.write(f"{key}/zarr.json".lstrip("/"), [json.dumps(node).encode()])
    for folder in (store / "content", store / "checksums", store.with_name("out.zarr.run")):
        shutil.rmtree(folder)


def test_a_store_of_featpipe_01_goes_on_as_long_as_times_are_the_same(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, SEEDS), tmp_path)
    run(data)
    as_of_01(tmp_path / "out.zarr", data)
    assert unchanged(data)
    before = times(tmp_path / "out.zarr")
    (tmp_path / "photos" / "0010.png").write_bytes(png(10))
    assert run(data).tasks == 1
    after = times(tmp_path / "out.zarr")
    assert sorted(key for key in before if before[key] == after[key]) == sorted(before)[:2]
    assert tree(tmp_path / "out.zarr") == fresh(data)
    age(tmp_path / "photos")  # its contents are known by now
    assert unchanged(data)


def test_a_store_of_featpipe_01_whose_images_have_new_times_is_not_replaced_unasked(tmp_path: Path) -> None:
    data = pipeline(folder(tmp_path, SEEDS), tmp_path)
    run(data)
    as_of_01(tmp_path / "out.zarr", data)
    os.utime(tmp_path / "photos" / "0001.png", (1, 1))
    said = r"features of 4 images that have other times or sizes.*featpipe 0.1.*\(0000.png, 0001.png, 0002.png, …\)"
    with pytest.raises(StoreError, match=said):
        run(data)
    assert run(data, overwrite=True).tasks == 1
    assert tree(tmp_path / "out.zarr") == fresh(data)
