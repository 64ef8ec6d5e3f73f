"""A run whose lock was taken over changes nothing any more, wherever it was stopped and however long it slept."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featpipe.errors import StoreError, WriteError
from featpipe.run.ingest import ingest
from featpipe.spec.pipeline import Images
from featpipe.store import cloud
from featpipe.store.fence import lock_key
from featpipe.store.lock import StoreLock
from featpipe.store.place import LocalPlace, Place, open_place
from featpipe.store.receipts import Journal
from tests.endpoint import Bucket
from tests.integration.commands import wait_for
from tests.integration.fencing import Scene, take_over, wait_until_stopped

ROUNDS = int(os.environ.get("FENCED", "3"))
"""Takeovers, and starts of three runs at once, of a campaign."""
STALE = -1.0
"""A lapse that makes any lock stale."""


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return open_place(tmp_path / "a.zarr")
    bucket: Bucket = request.getfixturevalue("bucket")
    return open_place(f"{bucket.url}/a.zarr")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    return Scene(folder, str(folder / "a.zarr"))


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.slow)])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    if request.param == "bucket":
        return Scene(tmp_path, request.getfixturevalue("bucket").url + "/a.zarr")
    scene: Scene = request.getfixturevalue("local")
    scene.clear()
    return scene


def content(place: Place) -> dict[str, bytes | None]:
    return {key: place.read(key) for key, _ in place.files()}


def test_who_was_taken_over_changes_nothing_in_this_process_or_another(place: Place) -> None:
    with StoreLock(place).held() as first:
        first.fenced.write("a", [b"first"])
        mine = Journal(first.fenced, first.generation)
        mine.begin([])
        with StoreLock(place, lapse=STALE).held() as second:
            second.fenced.write("a", [b"second"])
            second.fenced.write("b/c", [b"second"])
            Journal(second.fenced, second.generation).begin([])
            before = content(place), content(place.beside)
            changes: list[Callable[[Place], Any]] = [
                lambda fenced: fenced.write("a", [b"first"]),
                lambda fenced: fenced.write("new", [b"first"]),
                lambda fenced: fenced.remove(["a"]),
                lambda fenced: fenced.beside.write("a", [b"first"]),
                lambda fenced: Journal(fenced, first.generation).begin([]),
            ]
            taken = r"the lock was taken from this run by process .*; it has stopped\. Let that run end, then run"
            for fenced in (first.fenced, pickle.loads(pickle.dumps(first.fenced))):
                for change in changes:
                    with pytest.raises(WriteError, match=taken):
                        change(fenced)
            with pytest.raises(WriteError, match=taken):
                mine.add([])
            assert (content(place), content(place.beside)) == before
            second.fenced.write("a", [b"again"])
        with pytest.raises(WriteError, match=taken):
            first.fenced.write("a", [b"first"])
    assert content(place) == {"a": b"again", "b/c": b"second"}
    if isinstance(place, LocalPlace):
        assert not [path for path in place.beside.path.iterdir() if path.is_dir()]


def test_a_writer_that_sleeps_right_before_its_last_step_replaces_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[Iterator[StoreLock]] = []

    def taken_over() -> None:
        """Let another run take over, and write."""
        if not holders:
            held = StoreLock(place, lapse=STALE).held()
            holders.append(held)  # type: ignore[arg-type]
            held.__enter__().fenced.write("a", [b"second"])

    class Sleeping(cloud.ObjectPlace):
        def _put(self, key: str, content: bytes, mode: Any) -> bool:
            if content == b"first":
                taken_over()
            return super()._put(key, content, mode)

    def parts() -> Iterator[bytes]:
        yield b"first"
        taken_over()  # on disk: all is written, and what is left is the rename

    for key in ("a", "z"):
        with StoreLock(place, lapse=STALE).held() as first:
            first.fenced.write("a", [b"zero"])
            asleep = first.fenced
            if isinstance(asleep, cloud.ObjectPlace):
                asleep = Sleeping(asleep.url, asleep.fence)
                with pytest.raises(WriteError, match="the lock was taken from this run"):
                    asleep.write("a", [b"first"])
            else:
                with pytest.raises(WriteError, match="the lock was taken from this run"):
                    asleep.write(key, parts())
            assert content(place) == {"a": b"second"}
        holders.pop().__exit__(None, None, None)  # type: ignore[attr-defined]


def test_a_store_that_is_mounted_by_itself_is_fenced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = LocalPlace(tmp_path / "a.zarr")
    place.write("a", [b"zero"])
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        if ("a.zarr.run" in path.parts) != ("a.zarr.run" in target.parts):
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    with StoreLock(place).held() as first:
        first.fenced.write("a", [b"first"])
        with StoreLock(place, lapse=STALE).held() as second:
            second.fenced.write("a", [b"second"])
            with pytest.raises(WriteError, match="the lock was taken from this run"):
                first.fenced.write("a", [b"first"])
    assert content(place) == {"a": b"second"}


def test_lines_of_a_run_that_was_taken_over_do_not_count(place: Place) -> None:
    with StoreLock(place).held() as first:
        old = Journal(first.fenced, first.generation)
        old.begin([])
        with StoreLock(place, lapse=STALE).held() as second:
            new = Journal(second.fenced, second.generation)
            new.begin([])
            late = old.key + "/00000009" if isinstance(place, cloud.ObjectPlace) else old.key
            place.beside.write(late, [b'{"late": 1}\n'])
            assert Journal(place)._valid() == [new.key]
            new.remove()
        place.beside.write(late, [b'{"late": 1}\n'])
        if isinstance(place, cloud.ObjectPlace):
            assert not Journal(place).exists()


def test_a_lock_whose_process_was_killed_in_another_container_is_stale_at_once(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "a.zarr")
    code = (
        "import sys, time, pathlib; from featpipe.store import lock, place; lock._boot = lambda: lock_boot + ' other'; "
        "lock_boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()\n"
        "with lock.StoreLock(place.LocalPlace(pathlib.Path(sys.argv[1]))).held(): print(flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(place.path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder, holder.stdout:
        holder.stdout.readline()
        with pytest.raises(StoreError, match="is being written by process"), StoreLock(place).held():
            pass
        holder.kill()
        holder.wait()
    with StoreLock(place).held() as lock:
        assert lock.generation == 2


# -- processes --------------------------------------------------------------------------------------------------------


def test_a_run_that_sleeps_while_another_takes_over_ends_in_words_and_the_store_is_the_others(scene: Scene) -> None:
    take_over(scene, scene.steps // 2)


def test_a_run_that_slept_and_was_left_alone_goes_on_as_if_nothing_had_been(local: Scene) -> None:
    local.clear()
    asleep = local.start(local.steps // 2)
    assert wait_until_stopped(asleep)
    local.wait_until_stale()
    os.kill(asleep.pid, signal.SIGCONT)
    assert local.end(asleep).code == 0
    assert local.tree() == local.whole


def start_three(scene: Scene, step: int) -> None:
    """Leave a stale lock, start three runs at once: one ends the store, or each after the other, none harms another."""
    dead = scene.start(step)
    assert wait_until_stopped(dead)
    dead.kill()
    dead.communicate()
    runs = [scene.start(lapse=60) for _ in range(3)]
    ended = [scene.end(run) for run in runs]
    assert any(one.code == 0 for one in ended), ended
    for one in ended:
        assert one.code == 0 or (one.code == 2 and "is being written by" in one.said), ended
    assert scene.tree() == scene.whole


def test_of_three_runs_that_meet_one_stale_lock_one_takes_it_over(local: Scene) -> None:
    local.clear()
    start_three(local, local.steps // 2)


def test_of_many_who_meet_one_stale_lock_one_takes_it_over(place: Place) -> None:
    with StoreLock(place).held() as lock:
        gone = {**(lock.holder() or {}), "process_started": 0.0}
    place.beside.write(lock_key(1), [json.dumps(gone).encode()])
    barrier, done, held = threading.Barrier(6), threading.Event(), []

    def take() -> None:
        barrier.wait()
        try:
            with StoreLock(place).held() as lock:
                lock.fenced.write("a", [b"held"])
                held.append(True)
                done.wait(60)
        except StoreError:
            held.append(False)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(held) == 6)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(held) == [False] * 5 + [True]


# -- ingest -----------------------------------------------------------------------------------------------------------


def make_photos(folder: Path) -> Images:
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (9, 12, 17, 3), np.uint8))
    return Images(path=str(folder / "images.npy"))


def test_an_ingest_that_is_taken_over_stops_in_words_and_the_others_copy_is_whole(tmp_path: Path) -> None:
    images, target = make_photos(tmp_path), tmp_path / "in.zarr"
    done: list[int] = []

    def taken_over(row: int, _total: int) -> None:
        if row == 4:
            with pytest.raises(StoreError, match=r"in\.zarr: is being written by process"):
                ingest(images, target)
            assert not target.exists()
            ingest(images, target, lambda row, _: done.append(row), lapse=STALE)

    with pytest.raises(StoreError, match=r"in\.zarr: the lock .* it has stopped\."):
        ingest(images, target, taken_over)
    assert done == list(range(1, 10))
    there: Any = zarr.open_array(str(target / "images"), mode="r")
    np.testing.assert_array_equal(there[...], np.load(tmp_path / "images.npy"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy", "in.zarr"]


def test_a_killed_ingest_is_nothing_to_the_next(tmp_path: Path) -> None:
    images, target = make_photos(tmp_path), tmp_path / "in.zarr"
    code = (
        "import os, signal, sys, pathlib; from featpipe.run.ingest import ingest; "
        "from featpipe.spec.pipeline import Images\n"
        "ingest(Images(path=sys.argv[1]), pathlib.Path(sys.argv[2]), lambda *_: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, images.path, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob(".*")] == [".in.zarr.run"]
    ingest(images, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy", "in.zarr"]


# -- campaigns --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_stopped_anywhere_across_a_takeover_the_store_is_as_of_an_undisturbed_run(scene: Scene) -> None:
    rng = random.Random(0)
    for _ in range(ROUNDS):
        take_over(scene, rng.randint(1, scene.steps - 1))
        scene.clear()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_three_runs_started_at_once_the_store_is_as_of_an_undisturbed_run(scene: Scene) -> None:
    rng = random.Random(0)
    for _ in range(ROUNDS):
        start_three(scene, rng.randint(1, scene.steps - 1))
        scene.clear()
