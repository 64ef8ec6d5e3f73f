"""Wrong pipelines through the real command line: exit code 2, what to change, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from featpipe.cli import app

SOBEL = "- convolve: {bank: sobel}"


@dataclass
class Wrong:
    """A pipeline that cannot run, and what must be said of it."""

    says: tuple[str, ...]
    layers: tuple[str, ...] = (SOBEL,)
    images: str = "path: images/"
    store: str = "path: out.zarr"
    more: str = ""
    options: tuple[str, ...] = ()
    prepare: Callable[[Path], object] = lambda _: None

    def text(self) -> str:
        lines = "".join(f"      {layer}\n" for layer in self.layers)
        return f"images: {{{self.images}}}\nfeatures:\n  a:\n    layers:\n{lines}store: {{{self.store}}}\n{self.more}"


def write_manifest(folder: Path) -> None:
    (folder / "list.csv").write_text("path,kind\nimages/0.png,cat\nimages/1.png,dog\n")


def write_foreign_store(folder: Path) -> None:
    (folder / "out.zarr").mkdir()
    (folder / "out.zarr" / "precious.txt").write_text("mine")


def add_colour_image(folder: Path) -> None:
    iio.imwrite(folder / "images" / "colour.png", np.zeros((32, 32, 3), np.uint8))


FOREIGN = "a directory that is no store"
WRONG = {
    "unknown key": Wrong(("pipeline.yaml:6:", "store.pth", "path"), store="pth: out.zarr"),
    "unknown key in a layer": Wrong(
        ("convolve.pading", "Did you mean padding"), ("- convolve: {bank: sobel, pading: same}",)
    ),
    "wrong type": Wrong(
        ("pipeline.yaml:5:", "stride", "got the text 'two'"), ("- convolve: {bank: sobel, stride: two}",)
    ),
    "kernel larger than its input": Wrong(
        ("pipeline.yaml:5:", "window 41 px exceeds its 32×32 input", "Use size ≤ 32"),
        ("- convolve: {bank: box, size: 41}",),
    ),
    "missing images": Wrong(
        ("pipeline.yaml:1:16", "images.path", "no such file or directory", "nowhere"), images="path: nowhere/"
    ),
    "empty directory": Wrong(
        ("images.path", "no images"), images="path: empty/", prepare=lambda folder: (folder / "empty").mkdir()
    ),
    "output inside input": Wrong(
        ("store.path", "inside images.path", "a place of its own"), store="path: images/out.zarr"
    ),
    FOREIGN: Wrong(("did not write", "Set store.path to another path"), prepare=write_foreign_store),
    "store without .zarr": Wrong(("store.path", "must end in .zarr"), store="path: features"),
    "unknown bank": Wrong(("bank", "'sobl'", "Did you mean sobel"), ("- convolve: {bank: sobl}",)),
    "unknown layer": Wrong(("layers[0]", "convolv", "convolve"), ("- convolv: {bank: sobel}",)),
    "missing bank parameter": Wrong(
        ("convolve.frequencies", "is missing", "Add frequencies"), ("- convolve: {bank: gabor}",)
    ),
    "bad YAML": Wrong(("pipeline.yaml:6:6", "not valid YAML", "Check the indentation"), ("- convolve: {bank: sobel",)),
    "duplicate key": Wrong(("pipeline.yaml:7:1", "'store'", "Keep one of them"), more="store: {path: other.zarr}\n"),
    "missing kernels file": Wrong(
        ("kernels", "there is no file", "relative to the pipeline file"), ("- convolve: {kernels: mine.npy}",)
    ),
    "bias of the wrong length": Wrong(
        ("convolve.bias", "has 3 values for 2 kernels", "Give one"), ("- convolve: {bank: sobel, bias: [1, 2, 3]}",)
    ),
    "kernels for other channels": Wrong(
        ("pipeline.yaml:5:", "the kernels span 2 channels", "Give kernels"), ("- convolve: {kernels: [[[[1, 2]]]]}",)
    ),
    "reduce over an unknown label": Wrong(
        ("pipeline.yaml:6:", "reduce.over", "'orientatio'", "Use one of"),
        (SOBEL, "- reduce: {over: orientatio, by: max}"),
    ),
    "modulus without pairs": Wrong(("pipeline.yaml:5:", "no pairs", "component"), ("- modulus",)),
    "pool larger than its input": Wrong(
        ("pipeline.yaml:6:", "window 64 px exceeds its 30×30 input", "left by layers[0]", "Use size ≤ 30"),
        (SOBEL, "- pool: {max: 64}"),
    ),
    "more cells than samples": Wrong(("cells do not fit", "Use fewer cells"), ("- pool: {mean: {grid: [40, 1]}}",)),
    "too little memory": Wrong(
        ("plan: a task needs", "MiB", "Give more memory (--memory)"), options=("--memory", "1MB")
    ),
    "unknown column of a manifest": Wrong(
        ("images.labels", "'klass'", "kind"), images="path: list.csv, labels: klass", prepare=write_manifest
    ),
    "mixed channels": Wrong(("images.color", "color: rgb", "gray"), prepare=add_colour_image),
    "bad scale": Wrong(("scales", "powers of two", "got 3"), options=("--set", "features.a.scales=[3]")),
    "an override that is none": Wrong(("--set", "not of the form key=value"), options=("--set", "store.path")),
    "an amount that is none": Wrong(("--memory", "1.5GiB"), options=("--memory", "lots")),
    "no threads": Wrong(("--threads",), options=("--threads", "0")),
    "an address that is none": Wrong(("--scheduler", "tcp://HOST:PORT"), options=("--scheduler", "here")),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two images of 32×32 in it."""
    (tmp_path / "images").mkdir()
    for i in range(2):
        iio.imwrite(tmp_path / "images" / f"{i}.png", np.full((32, 32), 100 * i, np.uint8))
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def words(text: str) -> str:
    """Return the text without line breaks and boxes, in which usage errors are printed."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "name"),
    [(command, name) for command in ("plan", "run") for name in WRONG if (command, name) != ("plan", FOREIGN)],
)
def test_a_wrong_pipeline_is_refused_in_words_and_nothing_is_written(
    command: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = WRONG[name]
    wrong.prepare(folder)
    (folder / "pipeline.yaml").write_text(wrong.text(), encoding="utf-8")
    before = snapshot(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stop:
        app([command, "pipeline.yaml", *wrong.options], prog_name="featpipe")
    out, err = capsys.readouterr()
    assert stop.value.code == 2, out + err
    assert not out
    assert "Traceback" not in err
    assert "bug" not in err
    for phrase in wrong.says:
        assert phrase in words(err), err
    assert snapshot(folder) == before


def test_a_plan_tells_that_a_run_will_refuse_the_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    WRONG[FOREIGN].prepare(folder)
    (folder / "pipeline.yaml").write_text(WRONG[FOREIGN].text(), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        app(["plan", str(folder / "pipeline.yaml")], prog_name="featpipe")
    assert stop.value.code == 0
    assert "A run will refuse this place" in capsys.readouterr().out


def test_all_problems_come_at_once_each_on_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Wrong((), ("- convolve: {bank: sobl}", "- pool: {max: 0}"), store="pth: x.zarr")
    (folder / "pipeline.yaml").write_text(wrong.text(), encoding="utf-8")
    with pytest.raises(SystemExit):
        app(["plan", str(folder / "pipeline.yaml")], prog_name="featpipe")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("pipeline.yaml:" in line for line in lines)


@pytest.mark.parametrize("name", ["unknown bank", "pool larger than its input"])
def test_the_installed_program_refuses_in_the_same_way(name: str, folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(WRONG[name].text(), encoding="utf-8")
    before = snapshot(folder)
    command = [sys.executable, "-W", "error", "-m", "featpipe", "run", "pipeline.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("pipeline.yaml:")
    assert "\x1b" not in done.stderr
    for phrase in WRONG[name].says:
        assert phrase in done.stderr
    assert snapshot(folder) == before
