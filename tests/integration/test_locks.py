"""One run at a time writes a store; the lock of a run that died is no obstacle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import featpipe
from featpipe.errors import RunError, StoreError
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.spec.load import parse_pipeline
from featpipe.store.fence import LEGACY, lock_key
from featpipe.store.lock import StoreLock
from featpipe.store.place import LocalPlace
from tests.integration.commands import wait_for


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path / "a.zarr")


ELSEWHERE = {"host": "elsewhere", "boot": "another"}
FIRST = lock_key(1)


def write_lock(place: LocalPlace, key: str = FIRST, **changes: Any) -> None:
    """Leave the lock of a run elsewhere."""
    with StoreLock(LocalPlace(place.path.with_name("other.zarr"))).held() as lock:
        holder = lock.holder()
    assert holder is not None
    for old in (FIRST, key):
        place.beside.remove([old])
    place.beside.write(key, [json.dumps({**holder, "token": "other", **changes}).encode()])


def test_who_holds_a_lock_is_named_to_who_wants_it(place: LocalPlace) -> None:
    with StoreLock(place).held():
        said = (
            rf"a\.zarr: is being written by process {os.getpid()} of .* on .*, since .*, last heard of 0 s ago\. Wait"
        )
        with pytest.raises(StoreError, match=said) as caught, StoreLock(place).held():
            pass
        assert caught.value.exit_code == 2
    with StoreLock(place).held():
        pass
    assert [file.name for file in place.beside.path.iterdir()] == [lock_key(2)]  # the number is never given again


def test_of_many_who_want_a_free_lock_one_gets_it(place: LocalPlace) -> None:
    barrier, done, held = threading.Barrier(8), threading.Event(), []

    def take() -> None:
        barrier.wait()
        try:
            with StoreLock(place).held():
                held.append(True)
                done.wait(60)
        except StoreError:
            held.append(False)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(held) == 8)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(held) == [False] * 7 + [True]


@pytest.mark.parametrize("key", [FIRST, LEGACY])
def test_a_lock_elsewhere_is_taken_over_when_its_heartbeat_lapses(place: LocalPlace, key: str) -> None:
    write_lock(place, key, **ELSEWHERE)
    with pytest.raises(StoreError, match="on elsewhere"), StoreLock(place, lapse=0.5).held():
        pass
    wait_for(lambda: (place.beside.age(key) or 0) > 0.5)
    with StoreLock(place, lapse=0.5).held() as lock:
        assert (lock.holder() or {})["token"] == lock.token
    assert place.beside.names() == [lock_key(lock.generation)]


def test_a_lock_of_an_older_featpipe_is_respected_beside_newer_ones(place: LocalPlace) -> None:
    with StoreLock(place).held():
        pass
    write_lock(place, LEGACY, **ELSEWHERE)
    with pytest.raises(StoreError, match="on elsewhere"), StoreLock(place).held():
        pass


def test_a_heartbeat_keeps_a_lock(place: LocalPlace) -> None:
    with StoreLock(place, lapse=0.5, beat=0.05).held():
        time.sleep(1)
        with pytest.raises(StoreError, match="is being written"), StoreLock(place, lapse=0.5).held():
            pass


def test_the_lock_of_a_process_that_has_gone_is_stale_at_once(place: LocalPlace) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    write_lock(place, pid=int(child.stdout))
    with StoreLock(place).held():
        pass
    write_lock(place, process_started=0.0)  # the number is another process's by now
    with StoreLock(place).held():
        pass


def test_a_damaged_lock_lapses_too(place: LocalPlace) -> None:
    place.beside.write(FIRST, [b""])
    with pytest.raises(StoreError, match="is being written by another run"), StoreLock(place).held():
        pass
    wait_for(lambda: (place.beside.age(FIRST) or 0) > 0.2)
    with StoreLock(place, lapse=0.2).held():
        pass


def test_unlocking_spares_those_who_live_unless_forced(place: LocalPlace) -> None:
    assert StoreLock(place).break_stale() is None
    write_lock(place, **ELSEWHERE)
    with pytest.raises(StoreError, match=r"on elsewhere.*--force"):
        StoreLock(place).break_stale()
    assert (StoreLock(place).break_stale(force=True) or {})["host"] == "elsewhere"
    assert StoreLock(place).holder() is None


def make_pipeline(folder: Path, count: int) -> dict[str, Any]:
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (count, 96, 96), np.uint8))
    bank = {"bank": "gabor", "frequencies": [0.1, 0.2], "orientations": 8, "padding": "reflect"}
    return {
        "images": {"path": str(folder / "images.npy")},
        "features": {"a": {"layers": [{"convolve": bank}, {"pool": {"mean": 4}}]}},
        "store": {"path": str(folder / "a.zarr"), "batch": 2},
    }


def test_a_run_that_loses_its_lock_stops_and_another_ends_it(place: LocalPlace, tmp_path: Path) -> None:
    plan = plan_run(parse_pipeline(make_pipeline(tmp_path, 8)), default_resources(threads=1))

    class Thief(Watching):
        def update(self, receipt: Any) -> None:  # noqa: ARG002
            StoreLock(place).break_stale(force=True)

    with pytest.raises(
        RunError, match=r"the lock of this run was removed with featpipe unlock, by process .*Run again"
    ):
        run_plan(plan, progress=Thief())
    assert featpipe.open(tmp_path / "a.zarr").status == "partial"
    assert run_plan(plan).status == "complete"


class Watching:
    """Watches a run go on."""

    def start(self, plan: Any, tasks: Any) -> None: ...

    def tell(self, what: str) -> None: ...

    def stopping(self) -> None: ...

    def crew(self, crew: Any) -> None: ...

    def update(self, receipt: Any) -> None: ...


def test_of_two_runs_at_once_one_proceeds_and_one_names_it(tmp_path: Path) -> None:
    data = make_pipeline(tmp_path, 400)
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(data))
    words = [sys.executable, "-m", "featpipe", "run", str(file), "-q", "--threads", "1"]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(StoreLock(LocalPlace(tmp_path / "a.zarr")).holder)
    os.kill(first.pid, signal.SIGSTOP)  # however slow this machine, it is not done yet
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 2
    assert f"is being written by process {first.pid} of " in second.stderr
    assert first.wait(120) == 0, first.communicate()
    first.communicate()
    assert featpipe.open(tmp_path / "a.zarr").status == "complete"
    assert StoreLock(LocalPlace(tmp_path / "a.zarr")).holder() is None
