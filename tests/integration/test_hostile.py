"""Hostile sources through the command line: none reads outside, runs code, fills memory, hangs or fails unexplained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zarr

from tests.integration.hostile_cases import CANARY, CASES, write_case

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
MOST_KIB = 900 * 2**10
"""Of memory resident in any case, in KiB: what each run is given (--memory 900MiB)."""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all cases, each of which has been run, in one process."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "outside").mkdir()
    (root / "outside/canary.png").write_bytes(CANARY)
    for name, case in CASES.items():
        write_case(root / name, case)
    command = [sys.executable, str(Path(__file__).with_name("hostile_child.py")), str(root)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "400"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, dict[str, Any]]:
    lines = (root / "found.jsonl").read_text().splitlines()
    return {told["case"]: told for told in map(json.loads, lines)}


def test_there_are_enough_cases_and_the_good_one_runs(root: Path, found: dict[str, dict[str, Any]]) -> None:
    assert len(found) == len(CASES) > 100
    assert found["good"]["code"] == 0, found["good"]["said"]
    store: Any = zarr.open(str(root / "good/out.zarr"), mode="r")
    assert store["ok"][:].all()


@pytest.mark.parametrize("name", [name for name in CASES if name != "good"])
def test_a_hostile_source_is_refused_in_words(name: str, root: Path, found: dict[str, dict[str, Any]]) -> None:
    told, case = found[name], CASES[name]
    said = told["said"]
    assert told["seen"] == []
    assert "Traceback" not in said
    assert "bug in featpipe" not in said
    assert "hunter2" not in said
    assert told["peak"] < MOST_KIB
    assert not list(root.glob("*/pwned"))
    if not case.row:
        assert told["code"] in {1, 2}, said
        assert len(said) > 20
        assert not (root / name / "out.zarr").exists() or told["code"] == 1
        return
    assert told["code"] == 0, said
    store: Any = zarr.open(str(root / name / "out.zarr"), mode="r")
    rows = dict(zip(store["path"][:].tolist(), store["ok"][:].tolist(), strict=True))
    assert rows[case.row] is False, rows
    assert any(rows.values())
    reasons = store["ok"].attrs["reasons"]
    assert len(reasons[str(list(rows).index(case.row))]) > 5
