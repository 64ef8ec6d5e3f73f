"""Dask clusters of real processes: the same bytes from each, and nothing lost when parts of them die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import featpipe
from tests.integration.commands import command, wait_for

pytest.importorskip("distributed")

EDGES: dict[str, Any] = {
    "layers": [
        {"convolve": {"bank": "gabor", "frequencies": [0.1, 0.2], "orientations": 8, "padding": "reflect"}},
        "modulus",
        {"pool": {"mean": 4}},
    ]
}
LEARNED: dict[str, Any] = {
    "layers": [
        {"convolve": {"bank": {"fit": "pca", "kernels": 4, "size": 3, "patches": 200}}},
        {"pool": {"max": {"grid": [2, 2]}}},
    ]
}
CHAOS = """
import sys
from distributed import Client
from distributed.chaos import KillWorker
with Client(sys.argv[1]) as client:
    client.register_plugin(KillWorker(delay=3, mode="segfault"), name="chaos")
"""


class Processes:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *map(str, words)]
        child = subprocess.Popen(
            command, cwd=self.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        self.all.append(child)
        return child

    def scheduler(self, *options: object, port: int = 0) -> str:
        """Start a scheduler and return its address."""
        file = self.folder / f"scheduler-{len(self.all)}.json"
        words = ("--host", "127.0.0.1", "--port", port, "--scheduler-file", file, "--no-dashboard")
        self.start("distributed.cli.dask_scheduler", *words, *options)
        wait_for(lambda: file.exists() and file.read_text().strip().endswith("}"))
        address: str = json.loads(file.read_text())["address"]
        return address

    def worker(self, address: str, *options: object) -> subprocess.Popen[bytes]:
        words = ("--nthreads", 1, "--memory-limit", "2GiB", "--no-dashboard", "--host", "127.0.0.1")
        return self.start("distributed.cli.dask_worker", address, *words, *options)

    def end(self) -> None:
        for child in reversed(self.all):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.end()


def write_pipeline(folder: Path, count: int, **features: Any) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (count, 96, 96), np.uint8)
    np.save(folder / "images.npy", images)
    data = {
        "images": {"path": "images.npy"},
        "features": features or {"edges": EDGES},
        "store": {"path": "out.zarr", "batch": 2},
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(data))
    return folder / "p.yaml"


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command("run", *words), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def take(store: Path) -> dict[str, bytes]:
    """Return the files of a store, and remove it."""
    found = {file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()}
    shutil.rmtree(store)
    return found


def receipts(folder: Path) -> int:
    return sum(file.read_text().count('"map"') for file in (folder / "out.zarr.run").glob("receipts-*"))


@contextmanager
def running(*words: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command("run", *words), **pipes, **options)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_threads_local_processes_and_a_scheduler_with_workers_write_the_same_bytes(
    tmp_path: Path, processes: Processes
) -> None:
    file = write_pipeline(tmp_path, 24, edges=EDGES, learned=LEARNED)
    run(file, "-q", "--threads", 2)
    whole = take(tmp_path / "out.zarr")
    told = run(file, "--workers", 2).stderr
    assert "2 workers, 2 threads; dashboard: http://127.0.0.1:" in told
    assert take(tmp_path / "out.zarr") == whole
    address = processes.scheduler()
    for _ in range(2):
        processes.worker(address)
    run(file, "-q", "--scheduler", address)
    assert take(tmp_path / "out.zarr") == whole
    run(file, "-q", "--scheduler", tmp_path / "scheduler-0.json")
    assert take(tmp_path / "out.zarr") == whole
    with file.open("a") as text:
        text.write(f"cluster: {{address: '{address}'}}\n")
    run(file, "-q")
    assert take(tmp_path / "out.zarr") == whole


def test_workers_killed_on_the_way_cost_no_feature(tmp_path: Path, processes: Processes) -> None:
    file = write_pipeline(tmp_path, 160)
    run(file, "-q")
    whole = take(tmp_path / "out.zarr")
    address = processes.scheduler()
    workers = [processes.worker(address, "--no-nanny") for _ in range(2)]
    with running(file, "--scheduler", address) as child:
        for i, worker in enumerate(workers):
            enough = 4 + 20 * i
            wait_for(lambda: receipts(tmp_path) >= enough)  # noqa: B023
            os.killpg(worker.pid, signal.SIGKILL)
            processes.worker(address, "--no-nanny")
        _, told = child.communicate(timeout=120)
        assert child.returncode == 0, told
    assert "lost)" in told
    assert take(tmp_path / "out.zarr") == whole


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_chaos_costs_no_feature(tmp_path: Path, processes: Processes) -> None:
    """Workers that Dask's own plugin kills every few seconds, and that their nannies start again."""
    file = write_pipeline(tmp_path, 240)
    run(file, "-q")
    whole = take(tmp_path / "out.zarr")
    address = processes.scheduler()
    for _ in range(2):
        processes.worker(address)
    with running(file, "-q", "--scheduler", address) as child:
        wait_for(lambda: receipts(tmp_path) >= 2)
        subprocess.run([sys.executable, "-c", CHAOS, address], check=True, capture_output=True)
        _, told = child.communicate(timeout=600)
    if child.returncode:  # a worker died at its first breath once too often: the same command goes on
        assert child.returncode == 1, told
        run(file, "-q")
    assert take(tmp_path / "out.zarr") == whole


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_run_and_another_goes_on(tmp_path: Path, processes: Processes) -> None:
    file = write_pipeline(tmp_path, 160)
    run(file, "-q")
    whole = take(tmp_path / "out.zarr")
    address = processes.scheduler()
    processes.worker(address)
    with running(file, "-q", "--scheduler", address) as child:
        wait_for(lambda: receipts(tmp_path) >= 10)
        os.killpg(processes.all[0].pid, signal.SIGKILL)
        out, told = child.communicate(timeout=90)
    assert child.returncode == 1
    assert told.strip() == (
        f"cluster: the scheduler at {address} is gone. Start it, then run again: it goes on from here."
    ), told + out
    address = processes.scheduler()
    processes.worker(address)
    facts = json.loads(run(file, "-q", "--json", "--scheduler", address).stdout)
    assert facts["tasks_resumed"] >= 10
    assert take(tmp_path / "out.zarr") == whole


DEADLY = """
import os, signal
from featpipe.images import png
real = getattr(png._decode, "real", png._decode)  # Dask imports a preloaded module and loads it again
def deadly(file, header):
    file.seek(0)
    if b"deadly" in file.read():
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(file, header)
deadly.real = real
png._decode = deadly
"""


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_found_and_left_out(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32), np.uint8)
        file = tmp_path / "photos" / f"{i:04}.png"
        Image.fromarray(noise).save(file)
        if i in (5, 11):
            file.write_bytes(file.read_bytes() + b"deadly")
    data = {"images": {"path": "photos"}, "features": {"edges": EDGES}, "store": {"path": "out.zarr", "batch": 4}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(data))
    (tmp_path / "deadly.py").write_text(DEADLY)
    processes.environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "0"  # for the sake of time
    address = processes.scheduler()
    for _ in range(2):
        processes.worker(address, "--preload", tmp_path / "deadly.py")
    facts = json.loads(run(tmp_path / "p.yaml", "-q", "--json", "--scheduler", address).stdout)
    assert facts["failures"] == [
        {"reason": "a worker process died whenever this image was read or computed", "count": 2,
         "paths": ["0005.png", "0011.png"]}
    ]  # fmt: skip
    stack = featpipe.open(tmp_path / "out.zarr")
    assert np.flatnonzero(~stack.ok).tolist() == [5, 11]
    features = stack["edges/scale1"][...]
    assert np.isnan(features[[5, 11]]).all()
    run(tmp_path / "p.yaml", "-q", "--retry-failed")
    stack = featpipe.open(tmp_path / "out.zarr")
    assert stack.ok.all()
    good = np.setdiff1d(np.arange(12), [5, 11])
    np.testing.assert_array_equal(stack["edges/scale1"][...][good], features[good])


def test_ctrl_c_in_a_terminal_finishes_what_has_begun_on_local_processes(tmp_path: Path) -> None:
    """A terminal interrupts the workers, too: all processes of its foreground group."""
    file = write_pipeline(tmp_path, 1)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (60, 1024, 1024), np.uint8))
    with running(file, "-q", "--workers", "1", start_new_session=True) as child:
        wait_for(lambda: receipts(tmp_path) >= 2)
        done = receipts(tmp_path)
        os.killpg(child.pid, signal.SIGINT)
        _, told = child.communicate(timeout=90)
    assert child.returncode == 130, told
    assert not told
    assert done <= receipts(tmp_path) <= done + 2, "one was running, and one may have ended meanwhile"


IMPATIENT = """
import sys
from featpipe.cli import main
from featpipe.graph import cluster
cluster.PATIENCE, cluster.ANSWER = 3.0, 1.0  # for the sake of time
sys.argv[0] = "featpipe"
main()
"""


@pytest.mark.slow
def test_a_scheduler_that_answers_no_more_is_given_up(tmp_path: Path, processes: Processes) -> None:
    file = write_pipeline(tmp_path, 400)
    address = processes.scheduler()
    processes.worker(address)
    words = [sys.executable, "-c", IMPATIENT, "run", str(file), "-q", "--scheduler", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        wait_for(lambda: receipts(tmp_path) >= 2)
        processes.all[0].send_signal(signal.SIGSTOP)
        try:
            _, told = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 1
    assert told.startswith(f"cluster: the scheduler at {address} is gone.")
    assert told.count("\n") == 1


def test_progress_as_json_tells_rate_time_left_workers_and_failures(tmp_path: Path) -> None:
    file = write_pipeline(tmp_path, 12)
    lines = [json.loads(line) for line in run(file, "--workers", "1", "--log-format", "json").stderr.splitlines()]
    assert {"start", "workers", "progress"} <= {line["event"] for line in lines}
    last = lines[-1]
    assert (last["done"], last["total"], last["failed"], last["workers"]) == (12, 12, 0, 1)
    assert last["rate"] > 0
    assert {"time", "eta_seconds", "bytes_written", "workers_lost"} <= last.keys()


def test_a_cluster_speaks_tls_where_it_is_told_to(tmp_path: Path, processes: Processes) -> None:
    pytest.importorskip("cryptography")
    from distributed.security import Security

    made = Security.temporary()
    files = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, content in files.items():
        (tmp_path / f"{name}.pem").write_text(content)
    words = {"ca-file": "ca", "cert": "cert", "key": "key"}
    tls = [f"--tls-{word}={tmp_path / name}.pem" for word, name in words.items()]
    address = processes.scheduler("--protocol", "tls", *tls)
    assert address.startswith("tls://")
    processes.worker(address, *tls)
    file = write_pipeline(tmp_path, 8)
    with file.open("a") as text:
        text.write(f"cluster: {{address: '{address}', tls: {{ca: ca.pem, cert: cert.pem, key: key.pem}}}}\n")
    run(file, "-q")
    refused = run(write_pipeline(tmp_path, 8), "-q", "--scheduler", address, "--overwrite", code=1)
    assert "no Dask scheduler with workers answers at tls://" in refused.stderr
    assert "there are no certificates for it; give them as cluster.tls." in refused.stderr
