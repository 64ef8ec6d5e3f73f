"""The benchmarks at tiny sizes: every contender does the work, gives featpipe's result, and lands in the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skimage", reason="the benchmarks' pictures come with scikit-image")
pytest.importorskip("resource", reason="the benchmarks measure memory where getrusage is")

from benchmarks import kernels, machine
from benchmarks.harness import Bench, difference
from benchmarks.registry import FAMILIES
from benchmarks.work import Size

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_one_command_checks_times_and_records_a_work(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--quick",
        "--repeats",
        "1",
        "--only",
        "K,W1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert record["machine"]["gflops"]["1"] > 0
    assert len(record["kernels"]) == 2
    (work,) = record["works"]
    assert work["name"] == "W1-32"
    assert work["contenders"]["featpipe"]["ratio"] == 1
    assert all(facts["peak_bytes"] > 2**20 for facts in work["contenders"].values())
    assert all(facts["difference"] <= work["tolerance"] for facts in list(work["contenders"].values())[1:])
    assert "W1-32" in done.stdout


@pytest.mark.parametrize("family", ["W2", "W3", "W4"])
def test_every_contender_gives_the_same_result(family: str, tmp_path: Path) -> None:
    size = Size(quick=True)
    (work,) = FAMILIES[family](size)
    work.setup(tmp_path)
    bench = Bench(work, size, tmp_path)
    for name, contender in bench.contenders.items():
        contender.prepare(tmp_path, bench.out(name), **contender.settings[0])()
    differences = bench.check()
    assert set(differences) == set(bench.contenders) - {"featpipe"}


def test_a_contender_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    size = Size(quick=True)
    (work,) = FAMILIES["W1"](size)
    work.setup(tmp_path)
    bench = Bench(work, size, tmp_path)
    theirs, ours = (work.contenders[name] for name in ("featpipe, 1 thread", "featpipe"))
    ours.prepare(tmp_path, bench.out("featpipe"))()
    np.save(tmp_path / "patches.npy", np.load(tmp_path / "patches.npy")[::-1])
    theirs.prepare(tmp_path, bench.out("featpipe, 1 thread"))()
    bench.contenders = {name: bench.contenders[name] for name in ("featpipe", "featpipe, 1 thread")}
    with pytest.raises(RuntimeError, match="featpipe, 1 thread differs from featpipe by"):
        bench.check()


def test_difference_is_relative_to_the_largest_value() -> None:
    ours = np.array([1.0, 2.0, 4.0])
    assert difference(ours, ours + np.array([0, 0.5, 0])) == pytest.approx(0.125)
    assert difference(ours, ours[:2]) == float("inf")
    assert not difference(ours, ours * np.nan) <= 1


def test_rows_count_the_operations_and_bytes_that_are_needed() -> None:
    row = kernels.Row(edge=12, channels=3, kernels=5, size=3, pool=4)
    assert row.outputs == 8  # of 10 that fit, two whole windows of 4
    assert row.flop == 2 * 8 * 8 * 5 * 27
    assert row.moved == 4 * (12 * 12 * 3 + 5 * 27 + 2 * 2 * 5)


def test_the_default_rows_hold_every_bank_size_channel_count_and_pooling() -> None:
    rows = kernels.rows()
    assert 30 <= len(rows) <= 40
    assert {8, 40, 100} <= {row.kernels for row in rows}
    assert {1, 3, 16, 64} <= {row.channels for row in rows}
    assert {3, 5, 7, 11, 31} <= {row.size for row in rows}
    assert {(row.pool, row.by) for row in rows} >= set(kernels.POOLS)
    assert len(kernels.rows(full=True)) == 7 + 3 * 4 * 5 * 7


def test_the_measured_peak_is_that_of_this_machine_within_reason() -> None:
    limits = machine.measure(quick=True)
    assert 1 < limits["gflops"]["1"] < 2000
    assert 0.5 < limits["copy_gbs"]["1"] < 2000
