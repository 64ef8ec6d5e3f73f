"""Stores that are not as they were written: ``verify`` names what is damaged, ``run`` mends it to the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featpipe
from featpipe.errors import RunError, StoreError
from featpipe.run import plan_run
from featpipe.run.standing import look
from featpipe.run.verify import verify_store
from featpipe.spec.load import parse_pipeline
from featpipe.store.place import LocalPlace, Part
from featpipe.store.seal import seal_state
from tests.endpoint import Bucket
from tests.integration.commands import Done
from tests.integration.damage import (
    RESOURCES,
    Patient,
    flipped,
    make_images,
    pipeline,
    put_back,
    run,
    tree_of,
)

FLIPS = int(os.environ.get("DAMAGE_FLIPS", "20"))
"""Of each campaign, and files that are cut short; 2000, and all files, for a release."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("damage") / "images")


@pytest.fixture(scope="module")
def patient(images: Path) -> Patient:
    """A store with a learned bank, labels, and blocks of large images."""
    return Patient(pipeline(images, str(images.parent / "blocks.zarr")))


@pytest.fixture(scope="module")
def batches(images: Path) -> Patient:
    """The same with batches of small images."""
    return Patient(pipeline(images, str(images.parent / "batches.zarr"), blocks=False))


# -- one file ---------------------------------------------------------------------------------------------------------


def kinds(whole: Iterable[str]) -> list[str]:
    """Return a file of each kind that is made, listed and mended in a way of its own."""
    wanted: tuple[str, ...] = (
        "zarr.json",
        "path/c",
        "path/zarr",
        "ok/c",
        "ok/zarr",
        "label/c",
        "cells/zarr",
        "edges/scale1/x/zarr",
    )
    wanted += ("edges/scale1/features/c", "edges/scale1/features/zarr", "fits/zarr", "fits/", "receipts/zarr")
    wanted += ("receipts/key/c", "receipts/path/c", "checksums/zarr", "checksums/sha256/c")
    return [max(key for key in whole if key.startswith(prefix)) for prefix in wanted]


def test_a_file_cut_to_nothing_is_named_and_mended(patient: Patient) -> None:
    for key in kinds(patient.whole):
        patient.harm(key, b"")


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices have no names there")
def test_a_pipe_or_a_device_in_place_of_a_file_is_named_and_mended(batches: Patient) -> None:
    for i, key in enumerate(kinds(batches.whole)):
        file = Path(batches.path, key)
        file.unlink()
        if i % 2:
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
        assert batches.named() == {key}
        assert run(batches.data).status == "complete"
        assert tree_of(batches.place) == batches.whole


def test_a_flipped_bit_anywhere_is_named_and_mended(batches: Patient) -> None:
    draw = random.Random(0)
    for _ in range(8):
        key = draw.choice(sorted(batches.whole))
        batches.harm(key, flipped(batches.whole[key], draw))


def test_a_missing_file_is_named_and_mended(batches: Patient) -> None:
    for key in ("zarr.json", "receipts/zarr.json", "label/c/0", "edges/scale1/features/c/1/0/0/0"):
        batches.place.remove([key])
        assert batches.named() == {key}
        assert run(batches.data).status == "complete"
        assert tree_of(batches.place) == batches.whole


def test_what_verify_found_in_a_shard_is_computed_again_and_no_more(batches: Patient) -> None:
    key = "edges/scale1/features/c/1/0/0/0"
    batches.place.write(key, [flipped(batches.whole[key], random.Random(1))])
    plan = plan_run(parse_pipeline(batches.data), RESOURCES)
    assert look(batches.place, plan).complete  # its size is right, and nobody has read it
    found = verify_store(batches.data["store"]["path"], resources=RESOURCES)
    assert [str(problem) for problem in found.problems] == [
        f"{batches.path}/{key}: has other bytes than were written. Run its pipeline again: it mends this."
    ]
    facts = look(batches.place, plan).facts()
    assert facts["reasons"] == {"lost files": 1}
    assert facts["there"].startswith(f"What is there is damaged (1 file, {key} first): a run mends it, computing 1 ")
    assert run(batches.data).tasks == 1
    assert tree_of(batches.place) == batches.whole
    assert not list(Path(f"{batches.path}.run").glob("damage.json"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("blocks", [True, False])
def test_many_flipped_bits_and_every_file_cut_are_named_and_mended(images: Path, tmp_path: Path, blocks: bool) -> None:
    campaign(Patient(pipeline(images, str(tmp_path / "out.zarr"), blocks=blocks)), FLIPS, seed=blocks)


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_in_an_object_store_too(images: Path, bucket: Bucket) -> None:
    few = FLIPS if FLIPS >= 100 else FLIPS // 4  # ten seconds each
    campaign(Patient(pipeline(images, f"{bucket.url}/out.zarr")), few, seed=2)


def campaign(patient: Patient, flips: int, seed: int) -> None:
    draw = random.Random(seed)
    whole = sorted(patient.whole)
    for key in whole if flips >= len(whole) else draw.sample(whole, flips):
        patient.harm(key, b"")
        patient.harm(key, patient.whole[key][: draw.randrange(1, len(patient.whole[key]))])
    for _ in range(flips):
        key = draw.choice(sorted(patient.whole))
        patient.harm(key, flipped(patient.whole[key], draw), look=True)
    print(f"{flips} flips, {patient.shown} of them seen by a reader, in a store of {len(patient.whole)} files")  # noqa: T201
    assert patient.shown >= flips // 5


# -- several files ----------------------------------------------------------------------------------------------------


def written_in_order(images: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make a store; return its files in the order in which they were written last."""
    order: dict[str, None] = {}
    write = LocalPlace.write

    def recorded(self: LocalPlace, key: str, parts: Iterable[Part]) -> None:
        write(self, key, parts)
        if self.path == store:
            order.pop(key, None)
            order[key] = None

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlace, "write", recorded)
        run(pipeline(images, str(store), blocks=False))
    return [key for key in order if (store / key).exists()]


def test_a_power_failure_that_loses_what_was_written_last_is_mended(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "out.zarr"
    order, place, data = written_in_order(images, store, monkeypatch), LocalPlace(store), None
    whole, data = tree_of(place), pipeline(images, str(store), blocks=False)
    assert set(order) == set(whole)
    assert order[-1] == "zarr.json"
    last = len(order) - 1
    first = [min(i for i, key in enumerate(order) if key.startswith(name)) for name in ("ok/", "receipts/", "checks")]
    shards = [i for i, key in enumerate(order) if "/features/c/" in key]
    ends = {0, shards[0], shards[-1] - 1, shards[-1], last, last - 1, *first}
    for start in sorted(ends):
        put_back(place, whole)
        shutil.rmtree(f"{store}.run")
        for key in order[start:]:
            (store / key).write_bytes(b"")
        assert run(data).status == "complete", order[start]
        assert tree_of(place) == whole, order[start]


def test_an_empty_journal_lock_or_history_is_as_if_it_was_never_written(batches: Patient) -> None:
    beside = Path(f"{batches.path}.run")
    for name in ("receipts-00000007-ab.jsonl", "receipts-ab-0.jsonl", "damage.json", "plan.json", "probes/ridge.json"):
        (beside / name).parent.mkdir(exist_ok=True)
        (beside / name).write_bytes(b"")
    for file in [*(beside / "runs").iterdir(), *beside.glob("lock-*")]:
        file.write_bytes(b"")
    assert run(batches.data).status == "unchanged"
    assert not batches.named()
    shutil.rmtree(beside)
    assert run(batches.data).status == "unchanged"


def test_a_run_cut_short_by_a_power_failure_goes_on_with_what_has_outlived_it(images: Path, tmp_path: Path) -> None:
    data = pipeline(images, str(tmp_path / "out.zarr"), blocks=False)
    run(data)
    whole = tree_of(LocalPlace(tmp_path / "out.zarr"))
    for lost in ("journal", "shards", "root"):
        shutil.rmtree(tmp_path / "out.zarr")
        with pytest.raises(RunError, match="on purpose"):
            run(data, progress=Broken())
        if lost == "journal":
            for file in (tmp_path / "out.zarr.run").glob("receipts-*"):
                file.write_bytes(b"")
        for file in (tmp_path / "out.zarr").rglob("features/c/**/*" if lost == "shards" else "zarr.json"):
            if file.is_file() and (lost == "shards" or file.parent.name == "out.zarr"):
                file.write_bytes(b"")
        assert run(data).status == "complete"
        assert tree_of(LocalPlace(tmp_path / "out.zarr")) == whole


class Broken:
    """Breaks a run when its first task is done."""

    def start(self, plan: Any, tasks: Any) -> None: ...

    def tell(self, what: str) -> None: ...

    def stopping(self) -> None: ...

    def crew(self, crew: Any) -> None: ...

    def update(self, receipt: Any) -> None:  # noqa: ARG002
        raise RunError("broken on purpose")


def test_rows_keep_their_order_whatever_is_lost_or_the_run_refuses(images: Path, tmp_path: Path) -> None:
    """A directory's images are sorted, but for those that came later: that order is in no file but the store's."""
    shutil.copytree(images, tmp_path / "images")
    data = pipeline(tmp_path / "images", str(tmp_path / "out.zarr"), blocks=False)
    run(data)
    late = tmp_path / "images" / "test" / "a" / "0a.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (40, 48), np.uint8)).save(late)
    run(data, overwrite=True)  # its bank is learned from other images now
    patient = Patient(data)
    assert featpipe.open(patient.path).paths.tolist()[-1] == "test/a/0a.png"
    for key in ("path/c/0", "path/zarr.json", "zarr.json", "receipts/path/c/0"):
        patient.harm(key, b"")
    for key in ("path/c/0", "receipts/path/c/0"):
        patient.place.write(key, [b""])
    before = tree_of(patient.place)
    with pytest.raises(StoreError, match="has lost its receipts") as caught:
        run(data)
    assert "--overwrite" in str(caught.value)
    assert tree_of(patient.place) == before


def test_a_store_that_has_lost_receipts_and_checksums_is_refused_in_words(batches: Patient) -> None:
    for keys in (("receipts/zarr.json", "checksums/zarr.json"), ("receipts/key/c/0", "checksums/key/c/0")):
        for key in keys:
            batches.place.write(key, [flipped(batches.whole[key], random.Random(2))])
        with pytest.raises(StoreError, match="has lost its receipts") as caught:
            run(batches.data)
        assert (caught.value.exit_code, "--overwrite" in str(caught.value)) == (2, True)
        assert run(batches.data, overwrite=True).tasks > 0
        assert tree_of(batches.place) == batches.whole


def test_a_bank_that_is_learned_again_must_be_the_same(batches: Patient) -> None:
    key = next(key for key in batches.whole if key.startswith("fits/") and "/weights/c/" in key)
    batches.harm(key, b"")
    group = "/".join(key.split("/")[:2])
    beside = Path(f"{batches.path}.run", "damage.json")
    batches.place.write(key, [b""])
    beside.write_text(json.dumps({"files": {f"{group}/bias/c/0": [1, "another"]}}))
    with pytest.raises(RunError, match="was lost, and learned from the same images it is another bank now"):
        run(batches.data)
    with pytest.raises(RunError, match="another bank now"):  # again, until somebody decides
        run(batches.data)
    beside.unlink()
    run(batches.data)
    assert tree_of(batches.place) == batches.whole


# -- stores of others -------------------------------------------------------------------------------------------------


def make_old(store: Path) -> None:
    """Make a store what featpipe 0.1 would have written, which knew neither seals nor checksums."""
    shutil.rmtree(store / "checksums")
    for name in ("failed", "reason", "unavailable", "path"):
        shutil.rmtree(store / "receipts" / name)
    for name in ("", "receipts", "path"):
        node = json.loads((store / name / "zarr.json").read_text())
        node["attributes"] = {} if name else node["attributes"]
        node["attributes"].get("featpipe", {}).pop("seal", None)
        node.pop("consolidated_metadata", None)
        (store / name / "zarr.json").write_text(json.dumps(node, indent=2))


def test_a_store_of_featpipe_0_1_is_read_verified_and_gone_on_with(images: Path, tmp_path: Path) -> None:
    store = tmp_path / "out.zarr"
    data = pipeline(images, str(store), blocks=False)
    run(data)
    whole = tree_of(LocalPlace(store))
    make_old(store)
    report = verify_store(str(store), recompute=2, resources=RESOURCES)
    assert (report.problems, report.recomputed) == ([], 2)
    assert run(data).status == "unchanged"
    assert len(featpipe.open(store).failures) == 1
    (store / "label" / "c" / "0").write_bytes(b"")  # a size tells, of an old store too
    assert run(data).status == "complete"
    assert tree_of(LocalPlace(store)) == whole


def test_verify_names_what_a_reader_would_take_for_a_part_of_the_store(batches: Patient) -> None:
    for key in ("more/zarr.json", "label/c/9", "edges/scale1/features/c/9/0/0/0"):
        batches.place.write(key, [b"{}"])
        problems = verify_store(batches.path, resources=RESOURCES).problems
        assert [(one.where, one.what) for one in problems] == [
            (f"{batches.path}/{key}", "was not written by a run of this store.")
        ]
        batches.place.remove([key])
    batches.place.tidy()


def test_a_directory_of_others_is_not_taken_for_a_store_that_is_damaged(tmp_path: Path, images: Path) -> None:
    for node in (b"", b"{}", json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()):
        folder = tmp_path / f"{len(node)}.zarr"
        folder.mkdir()
        (folder / "zarr.json").write_bytes(node)
        (folder / "letters.txt").write_text("mine")
        with pytest.raises(StoreError, match="is a directory that featpipe did not write"):
            run(pipeline(images, str(folder)))
        with pytest.raises(StoreError, match="is not a feature stack"):
            verify_store(str(folder), resources=RESOURCES)


# -- other commands ---------------------------------------------------------------------------------------------------


def ask(featpipe: Callable[..., Done], store: str, folder: Path, commands: Iterable[str]) -> None:
    """Run commands on a damaged store: each does its work, or says in words what it cannot read."""
    options: dict[str, tuple[object, ...]] = {
        "export": ("-o", folder / "a.npz", "--overwrite", "-q"), "probe": ("-q",), "info": (),
        "report": ("-o", folder / "a.html", "-q"),
    }  # fmt: skip
    for command in commands:
        done = featpipe(command, store, *options[command])
        assert "bug" not in done.err, (command, done.err)
        assert "Traceback" not in done.err
        assert done.code == 0 or (done.code == 2 and store in done.err), (command, done)


def test_no_command_takes_damage_for_a_bug(batches: Patient, tmp_path: Path, featpipe: Callable[..., Done]) -> None:
    for key in ("zarr.json", "label/zarr.json", "edges/scale1/features/zarr.json", "cells/scale1/features/c/0/0/0/0"):
        for content in (b"", flipped(batches.whole[key], random.Random(3))):
            put_back(batches.place, batches.whole)
            batches.place.write(key, [content])
            ask(featpipe, batches.path, tmp_path, ("info", "export", "probe"))
    put_back(batches.place, batches.whole)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_command_takes_any_damage_for_a_bug(images: Path, tmp_path: Path, featpipe: Callable[..., Done]) -> None:
    patient, draw = Patient(pipeline(images, str(tmp_path / "out.zarr"), blocks=False)), random.Random(4)
    harms = [(key, b"") for key in kinds(patient.whole)]
    some = (draw.choice(sorted(patient.whole)) for _ in range(FLIPS))
    harms += [(key, flipped(patient.whole[key], draw)) for key in some]
    for key, content in harms:
        put_back(patient.place, patient.whole)
        patient.place.write(key, [content])
        ask(featpipe, patient.path, tmp_path, ("info", "export", "probe", "report"))


def test_a_damaged_file_is_named_by_whoever_cannot_read_it(batches: Patient, featpipe: Callable[..., Done]) -> None:
    batches.place.write("label/zarr.json", [b"{"])
    batches.place.write("zarr.json", [batches.whole["zarr.json"][:-40]])
    done = featpipe("info", batches.path)
    assert (done.code, f"{batches.path}/zarr.json: is damaged. Run its pipeline again: it mends this." in done.err) == (
        2,
        True,
    )
    batches.place.write("zarr.json", [batches.whole["zarr.json"]])
    batches.place.write("label/c/0", [b"\x28\xb5\x2f\xfd"])
    done = featpipe("info", batches.path)
    assert done.code == 2
    assert f"{batches.path}/label/c/0: has 4 bytes; " in done.err
    assert f"{batches.path}/label/zarr.json: has 1 bytes; " in done.err
    put_back(batches.place, batches.whole)


# -- what reaches the disk --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know what a descriptor stands for")
def test_with_fsync_new_directories_and_every_file_reach_the_disk(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def recorded(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", recorded)
    store = tmp_path / "far" / "away" / "out.zarr"
    run(pipeline(images, str(store), blocks=False), fsync=True)
    folders = {folder for file in store.rglob("*") for folder in file.parents if folder.is_relative_to(tmp_path)}
    assert {str(folder) for folder in folders} <= set(synced)
    files = sum(file.is_file() for file in store.rglob("*"))
    assert sum(not Path(path).is_dir() for path in synced) >= files
    last = [path for path in synced if Path(path) == store][-1]
    assert last == str(store)  # the root's new name, after all else
    assert seal_state((store / "zarr.json").read_bytes()) == "whole"
