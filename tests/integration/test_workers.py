"""A task that ends in any way reaches the run, and workers that say nothing more are noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from featpipe.errors import RunError
from featpipe.graph import ThreadWorkers, Workers, open_workers
from featpipe.graph.shared import describe
from featpipe.spec.cluster import Cluster
from tests.integration.commands import wait_for
from tests.integration.endings import ENDINGS, Ending, Waiting
from tests.integration.test_clusters import Processes, receipts, run, running, take, write_pipeline

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def local() -> Iterator[Workers]:
    with open_workers(Cluster.model_validate({"local": {"workers": 2}})) as workers:
        yield workers


@pytest.fixture(params=["threads", "processes"])
def workers(request: pytest.FixtureRequest) -> Workers:
    found: Workers = ThreadWorkers(2) if request.param == "threads" else request.getfixturevalue("local")
    return found


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.end()


@pytest.mark.parametrize("how", ENDINGS)
def test_a_task_that_ends_in_any_way_fails_the_run(how: str, workers: Workers) -> None:
    done: list[int] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011
        workers.run(Ending(how), range(8), done.append, threading.Event())
    assert how in describe(caught.value)
    if how in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "OddError"):
        assert isinstance(caught.value, RunError)
        assert "task 3 ended with" in str(caught.value)
    assert {0, 1, 2} >= set(done) - {4, 5, 6, 7}


def test_an_error_of_a_worker_tells_where_it_happened(local: Workers) -> None:
    with pytest.raises(ValueError, match=r"^7\n") as caught:
        local.run(Ending("ValueError"), range(4), lambda _: None, threading.Event())
    assert "in run" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("how", ["result with a lock", "result that cannot be read"])
def test_a_result_that_cannot_travel_fails_the_run(how: str, local: Workers) -> None:
    with pytest.raises((RunError, TypeError), match=r"task 3 ended with|pickle"):
        local.run(Ending(how), range(8), lambda _: None, threading.Event())


def test_no_thread_is_at_a_task_any_more_when_a_run_has_failed(tmp_path: Path) -> None:
    class Some(Waiting):
        def run(self, index: int) -> int:
            if index == 1:
                wait_for((tmp_path / "began-0").exists)
                threading.Timer(0.2, (tmp_path / "go").touch).start()
                raise ValueError("no")
            found = super().run(index)
            (tmp_path / f"ended-{index}").touch()
            return found

    done: list[int] = []
    with pytest.raises(ValueError, match="no"):
        ThreadWorkers(2).run(Some(tmp_path), range(20), done.append, threading.Event())
    began, ended = (sorted(file.name[6:] for file in tmp_path.glob(f"{word}-*")) for word in ("began", "ended"))
    assert began == ended == sorted(map(str, done))
    assert "0" in began


HASTY = """
import sys
from featpipe.cli import main
from featpipe.graph import watch
watch.PACE, watch.SILENCE = 0.5, 3.0  # for the sake of time
sys.argv[0] = "featpipe"
main()
"""


@pytest.mark.slow
def test_a_local_worker_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    file = write_pipeline(tmp_path, 60)
    run(file, "-q")
    whole = take(tmp_path / "out.zarr")
    words = [sys.executable, "-c", HASTY, "run", str(file), "-q", "--workers", "2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            wait_for(lambda: receipts(tmp_path) >= 4)
            spawned = [one for one in psutil.Process(child.pid).children() if "spawn_main" in " ".join(one.cmdline())]
            spawned[0].send_signal(signal.SIGSTOP)
            _, told = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 0, told
    assert take(tmp_path / "out.zarr") == whole


@pytest.mark.slow
def test_the_tasks_of_a_worker_that_is_stopped_go_to_others(tmp_path: Path, processes: Processes) -> None:
    file = write_pipeline(tmp_path, 160)
    run(file, "-q")
    whole = take(tmp_path / "out.zarr")
    address = processes.scheduler()
    workers = [processes.worker(address, "--no-nanny") for _ in range(2)]
    words = [sys.executable, "-c", HASTY, "run", str(file), "-q", "--scheduler", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            wait_for(lambda: receipts(tmp_path) >= 4)
            os.killpg(workers[0].pid, signal.SIGSTOP)
            _, told = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 0, told
    assert take(tmp_path / "out.zarr") == whole


@pytest.mark.slow
def test_workers_that_somebody_restarts_cost_no_feature(tmp_path: Path, processes: Processes) -> None:
    """Then the scheduler forgets all tasks, of whomever."""
    from distributed import Client

    file = write_pipeline(tmp_path, 160)
    run(file, "-q")
    whole = take(tmp_path / "out.zarr")
    address = processes.scheduler()
    for _ in range(2):
        processes.worker(address)
    with Client(address, set_as_default=False) as client, running(file, "-q", "--scheduler", address) as child:
        wait_for(lambda: receipts(tmp_path) >= 4)
        client.restart(timeout=60)
        _, told = child.communicate(timeout=120)
    assert child.returncode == 0, told
    assert take(tmp_path / "out.zarr") == whole


FORGET = """
def forget(dask_scheduler):
    keys = [key for key in dask_scheduler.tasks if str(key).startswith("featpipe-")]
    for client in list(dask_scheduler.clients):
        dask_scheduler.client_releases_keys(keys=keys, client=client, stimulus_id="forget")
    return len(keys)
"""


def test_tasks_that_the_scheduler_forgets_are_sent_again(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    from featpipe.graph import watch

    monkeypatch.setattr(watch, "PACE", 0.5)
    address = processes.scheduler()
    processes.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    processes.worker(address)
    done: list[int] = []
    names: dict[str, Any] = {}
    exec(FORGET, names)
    with open_workers(Cluster.model_validate({"address": address})) as workers:
        job = threading.Thread(
            target=workers.run, args=(Waiting(tmp_path), range(6), done.append, threading.Event()), daemon=True
        )
        job.start()
        wait_for(lambda: list(tmp_path.glob("began-*")))
        with Client(address, set_as_default=False) as client:
            assert client.run_on_scheduler(names["forget"]) > 1
        (tmp_path / "go").touch()
        job.join(60)
        assert not job.is_alive()
    assert sorted(done) == list(range(6))
