"""What lies beside a store, and whoever reads it from elsewhere, later, or without the right to write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featpipe.pages.facts import gather_facts
from featpipe.pages.report import make_report
from featpipe.store.create import create_store
from featpipe.store.history import History
from featpipe.store.place import LocalPlace
from tests.integration.commands import Done
from tests.unit.store_examples import attributes, make_collection, own_pairs, stacked_pairs

LAYERS = [{"convolve": {"bank": "sobel"}}, {"pool": {"mean": "global"}}]


@pytest.fixture
def store(tmp_path: Path, featpipe: Callable[..., Done]) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(3):
        level = np.random.default_rng(i).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(level).save(tmp_path / "images" / f"{i}.png")
    pipeline = {"images": {"path": "images"}, "features": {"a": {"layers": LAYERS}}, "store": {"path": "out.zarr"}}
    (tmp_path / "p.yaml").write_text(json.dumps(pipeline))
    assert featpipe("run", tmp_path / "p.yaml", "-q").code == 0
    return tmp_path / "out.zarr"


@pytest.mark.parametrize(
    "change",
    [
        {"history": 2},
        {"seconds_computing": None},
        {"seconds": "long"},
        {"pixels": {}},
        {"phases": {"read": []}},
    ],
)
def test_a_run_whose_record_cannot_be_understood_is_left_out(store: Path, change: dict[str, Any]) -> None:
    (file,) = Path(f"{store}.run/runs").iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert gather_facts(str(store)).runs == ()


def test_what_another_version_left_beside_a_store_does_not_spoil_its_page(store: Path) -> None:
    beside = Path(f"{store}.run")
    plan = json.loads((beside / "plan.json").read_text())
    (beside / "plan.json").write_text(json.dumps({**plan, "history": 2, "images": "many", "branches": 3}))
    (beside / "probes").mkdir()
    (beside / "probes" / "ridge.json").write_text(json.dumps({"history": 2, "found": {"accuracies": []}}))
    (beside / "probes" / "deep.json").write_text("[" * 100_000)
    assert "tells their shapes and windows" in make_report(str(store))
    assert History(LocalPlace(store)).probes() == []


def test_what_is_not_all_there_is_told_in_words(tmp_path: Path, featpipe: Callable[..., Done]) -> None:
    whole, part = tmp_path / "whole.zarr", tmp_path / "part.zarr"
    create_store(LocalPlace(whole), [*stacked_pairs(), *own_pairs()], make_collection(), attributes())
    files = sorted((file for file in whole.rglob("*") if file.is_file()), key=lambda file: file.stat().st_mtime_ns)
    for kept in (1, 9, 14, 20, 36, 64):  # as a run leaves it that was killed at once
        shutil.rmtree(part, ignore_errors=True)
        for file in files[:kept]:
            (part / file.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, part / file.relative_to(whole))
        for command in ("info", "report"):
            done = featpipe(command, part, "-q") if command == "report" else featpipe(command, part)
            assert done.code == 2, (command, kept)
            assert "it is not all there, as while a run begins. Wait for that run" in done.err


def test_a_store_is_reported_on_from_within(
    store: Path, featpipe: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store)
    done = featpipe("report", ".")
    assert (done.code, done.err) == (0, "")
    assert "<h1>out.zarr " in (store.parent / "out.report.html").read_text()
    away = featpipe("report", ".", "-o", "s3://bucket/a.html")
    assert away.err.startswith("s3://bucket/a.html: is no local file, and reports are. ")
    assert featpipe("unlock", ".").out == ". is not locked\n"
    assert featpipe("report", "/").err == "/: is not a feature stack. Give the directory that featpipe run wrote.\n"


def test_the_age_of_what_may_only_be_read_is_told_too(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 4070:  # beyond that, no name is short enough for anything but the lock's
        folder /= "d" * min(200, 4070 - len(str(folder)) - 1)
    folder.mkdir(parents=True)
    (folder / "lock.json").touch()
    with pytest.raises(OSError, match="too long"):
        (folder / ("x" * 40)).touch()
    age = LocalPlace(folder).age("lock.json")
    assert age is not None
    assert -1 < age < 60
