"""What plans, runs and stores say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from featpipe.cli.progress import LineProgress
from featpipe.images.scan import scan
from featpipe.plan.budget import Resources
from featpipe.plan.build import make_plan
from featpipe.plan.model import Failure, Plan
from featpipe.report.plan import plan_facts
from featpipe.report.run import group_failures, run_facts
from featpipe.report.text import render_plan, render_run
from featpipe.run import RunReport
from featpipe.spec.load import parse_pipeline
from featpipe.task import Receipt


def plan_of(folder: Path, shape: tuple[int, ...] = (6, 100, 80), store: dict[str, Any] | None = None) -> Plan:
    np.save(folder / "images.npy", np.zeros(shape, np.uint8))
    pipeline = parse_pipeline(
        {
            "images": {"path": str(folder / "images.npy")},
            "features": {
                "a": {"layers": [{"convolve": {"bank": "sobel", "padding": "same"}}, "modulus", {"pool": {"max": 2}}]},
                "b": {
                    "scales": [1, 2],
                    "layers": [{"convolve": {"bank": "box", "size": 4}}, {"pool": {"mean": "global"}}],
                },
            },
            "store": {"path": str(folder / "out.zarr"), **(store or {})},
        }
    )
    return make_plan(pipeline, scan(pipeline.images), Resources(1 << 30, 2, 100 << 20))


def text_of(renderable: Any, width: int = 120) -> str:
    console = Console(width=width, force_terminal=False, markup=False)
    with console.capture() as captured:
        console.print(renderable, crop=False)
    return captured.get()


@pytest.mark.parametrize(
    "store", [{}, {"batch": 2}, {"block": [32, 16]}, {"batch": 4, "block": [64, 64], "dtype": "float16"}]
)
def test_shards_and_bytes_of_the_maps_add_up_to_the_plans(store: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(tmp_path, store=store)
    maps = plan_facts(plan)["store"]["maps"]
    assert sum(one["bytes"] for one in maps) == plan.output_bytes
    # Blocks of the blocked maps and batches of the others are tasks; a task writes one shard of each of its maps.
    by_kind = {one.batched: facts["shards"] for one, facts in zip(plan.maps, maps, strict=True)}
    assert sum(by_kind.values()) == len(plan.tasks)


def test_windows_and_halos_of_layers_are_told(tmp_path: Path) -> None:
    facts = plan_facts(plan_of(tmp_path))
    convolve, modulus, pool = facts["branches"][0]["layers"]
    assert (convolve["window"], convolve["stride"], convolve["halo"]) == ([3, 3], [1, 1], [[1, 1], [1, 1]])
    assert modulus["window"] == [3, 3]
    assert (pool["window"], pool["stride"], pool["most"]) == ([4, 4], [2, 2], [50, 40, 1])
    assert convolve["flop_per_image"] == 2 * 9 * 2 * 100 * 80
    halved, even, cells = facts["branches"][2]["layers"]
    assert (halved["window"], halved["halo"]) == ([5, 5], [[2, 1], [2, 1]])
    assert even["window"] == [5 + 3 * 2] * 2
    assert cells["window"] is None
    text = text_of(render_plan(facts))
    assert "2+1" in text
    assert "cell" in text


def test_a_narrow_terminal_loses_columns_not_words(tmp_path: Path) -> None:
    facts = plan_facts(plan_of(tmp_path))
    heads = {width: text_of(render_plan(facts), width).splitlines() for width in (120, 76, 44)}
    columns = {width: next(line for line in lines if "output" in line).split() for width, lines in heads.items()}
    assert "weights" in columns[120]
    assert "weights" not in columns[76]
    assert {"layer", "output", "window", "stride"} <= set(columns[76])
    assert columns[44][:2] == ["layer", "output"]
    for lines in heads.values():
        assert any("convolve" in line and facts["branches"][0]["layers"][0]["layer"] in line for line in lines)


def test_memory_is_told_with_its_parts(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    memory = plan_facts(plan)["memory"]
    assert memory["peak"] == memory["base"] + memory["threads"] * memory["task"] == plan.memory.peak
    assert "100 MiB for the process + 2 threads ×" in text_of(render_plan(plan_facts(plan)))


def test_reasons_are_grouped_with_the_commonest_first() -> None:
    paths = [f"{i}.png" for i in range(200)]
    failures = [Failure(0, "0.png: odd"), *(Failure(i, f"{i}.png: not a readable PNG") for i in range(1, 150))]
    groups = group_failures(failures, paths)
    assert [(group["reason"], group["count"], len(group["paths"])) for group in groups] == [
        ("not a readable PNG", 149, 100),
        ("odd", 1, 1),
    ]


@dataclass
class Runs:
    """Reports of runs that ended in some way."""

    plan: Plan
    failures: list[Failure] = field(default_factory=list)

    def text(self, status: Any, tasks: int, width: int = 100) -> str:
        report = RunReport(
            "/data/out.zarr", status, len(self.plan.collection), self.failures, tasks=tasks, pixels=10**6,
            bytes_written=2**20, seconds=2.0, phases={"read": 1.0, "compute": 2.0, "write": 1.0},
        )  # fmt: skip
        return text_of(render_run(run_facts(report, self.plan)), width)


def test_a_runs_end_is_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, store={"batch": 1})
    runs = Runs(plan)
    done = runs.text("complete", len(plan.tasks))
    for words in (
        "6 images done, none failed",
        "3 images/s",
        "500 kpixel/s read",
        "512 KiB/s",
        "read 25% · compute 50%",
    ):
        assert words in done
    interrupted = runs.text("interrupted", 2)
    assert "2 of 6 tasks done" in interrupted
    assert "featpipe.open" not in interrupted
    assert "nothing to do" in runs.text("unchanged", 0)
    failed = Runs(runs.plan, [Failure(2, "2: bad")]).text("unchanged", 0)
    assert "1 of them FAILED in an earlier run; --retry-failed tries" in failed


def test_many_reasons_are_told_in_part(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, (10, 20, 20))
    runs = Runs(plan, [Failure(i, f"{i}: reason {i}") for i in range(8)])
    text = runs.text("complete", len(plan.tasks), 80)
    assert "2 of 10 images done, 8 FAILED" in text
    assert "reason 4" in text
    assert "reason 5" not in text
    assert "3 other reasons" in text


def test_the_line_to_open_a_store_is_never_broken(tmp_path: Path) -> None:
    folder = tmp_path / "a rather long name of a folder, as they happen to be"
    folder.mkdir()
    plan = plan_of(folder)
    report = RunReport(str(folder / 'with "quotes".zarr'), "unchanged", 6)
    line = next(
        line for line in text_of(render_run(run_facts(report, plan)), 60).splitlines() if "featpipe.open" in line
    )
    assert eval(line.partition("featpipe.open")[2]) == report.store


def test_plain_progress_tells_the_beginning_the_end_and_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, (10, 20, 20), {"batch": 1})
    progress = LineProgress(seconds=1000)
    progress.start(plan, range(len(plan.tasks)))
    for task in plan.tasks:
        failures = (Failure(3, "bad"),) if task.index == 3 else ()
        progress.update(Receipt(task.index, 1, failures, 400, 100, {}))
    progress.stopping()
    first, last, stopping = capsys.readouterr().err.splitlines()
    assert "10 images in 10 tasks on 2 threads" in first
    assert "10 of 10 images (100%)" in last
    assert last.endswith("1 failed")
    assert "Ctrl-C again" in stopping


def test_progress_counts_what_an_earlier_run_did_but_not_as_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, (10, 20, 20), {"batch": 1})
    progress = LineProgress(seconds=0)
    progress.start(plan, range(8, 10))
    progress.tally.began -= 10  # seconds
    progress.update(Receipt(8, 1, (), 400, 100, {}))
    first, line = capsys.readouterr().err.splitlines()
    assert "10 images in 10 tasks (8 of them done before)" in first
    assert "9 of 10 images (90%), " in line
    assert float(line.partition("(90%), ")[2].partition(" images/s")[0]) < 0.2


def test_progress_is_told_now_and_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path, (10, 20, 20), {"batch": 1})
    progress = LineProgress(seconds=0)
    progress.start(plan, range(len(plan.tasks)))
    progress.update(Receipt(0, 1, (), 400, 100, {}))
    line = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 10 images (10%)" in line
    assert line.endswith(" left")
