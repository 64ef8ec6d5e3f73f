"""Planning, and what a task does beside its arithmetic, take work in proportion to the branches, layers and kernels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import featpipe
from featpipe.images.reader import open_reader
from featpipe.plan.budget import Resources
from featpipe.plan.identity import Identities, plan_digests
from featpipe.plan.layout import array_plans
from featpipe.report.plan import plan_facts
from featpipe.report.text import render_plan
from featpipe.run.planning import plan_run
from featpipe.spec.load import parse_pipeline
from featpipe.store.place import LocalPlace
from featpipe.store.write import NoWriter
from featpipe.task import Work

ROOMY = Resources(memory_bytes=64 << 30, threads=1, base_bytes=0)
CODE = str(Path(featpipe.__file__).parent)


def steps(work: Callable[[], None]) -> int:
    """Count the interpreter's steps in featpipe's own code: no clock is asked, and all loops are seen."""
    count = 0

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return step

    def step(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def branches(count: int) -> dict[str, Any]:
    return {
        f"b{i}": {"layers": [{"convolve": {"bank": "gaussian", "sigmas": [1 + i / 999]}}, {"pool": {"mean": 2}}]}
        for i in range(count)
    }


def cells(count: int) -> dict[str, Any]:
    return {
        f"b{i}": {"layers": [{"convolve": {"bank": "gaussian", "sigmas": [1]}}, {"pool": {"mean": {"grid": [2, 2]}}}]}
        for i in range(count)
    }


def layers(count: int) -> dict[str, Any]:
    smooth = {"convolve": {"bank": "gaussian", "sigmas": [0.4], "padding": "reflect", "channels": "sum"}}
    return {"b": {"layers": [smooth, {"activate": "relu"}] * count}}


def kernels(count: int) -> dict[str, Any]:
    bank = {"bank": "gabor", "frequencies": [0.3], "orientations": 8 * count, "padding": "reflect"}
    return {"b": {"layers": [{"convolve": bank}, "modulus", {"pool": {"mean": 2}}]}}


CASES: dict[str, tuple[Callable[[int], dict[str, Any]], dict[str, Any], int]] = {
    "branches": (branches, {}, 6),
    "branches in blocks": (branches, {"block": [16, 16]}, 5),
    "branches of cells in blocks": (cells, {"block": [16, 16]}, 5),
    "layers": (layers, {}, 8),
    "kernels": (kernels, {}, 5),
}


@pytest.mark.parametrize("case", CASES)
def test_twice_as_much_takes_twice_the_steps(tmp_path: Path, case: str) -> None:
    make, store, few = CASES[case]
    np.save(tmp_path / "images.npy", np.zeros((2, 24, 24), np.uint8))

    def plan_and_run(count: int) -> None:
        data = {
            "images": {"path": str(tmp_path / "images.npy")},
            "features": make(count),
            "store": {"path": str(tmp_path / "out.zarr"), **store},
        }
        plan = plan_run(parse_pipeline(data), ROOMY)
        with (tmp_path / "plan.txt").open("w") as file:
            Console(file=file).print(render_plan(plan_facts(plan)))
        plan_digests(plan)
        identities = Identities(plan, [""] * len(plan.collection))
        assert all(identities.of(a_map, plan.tasks[0].images) for a_map in plan.maps)
        assert list(array_plans(plan))
        reader = open_reader(plan.pipeline.images, plan.collection)
        Work(plan, reader, NoWriter(LocalPlace(tmp_path / "out.zarr"))).run(0)

    plan_and_run(1)  # compiles, imports and fills caches
    one, two, four = (steps(partial(plan_and_run, few * times)) for times in (1, 2, 4))
    assert four - two <= 2.05 * (two - one), (one, two, four)
