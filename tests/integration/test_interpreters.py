"""Pythons and environments that are not as usual: stripped of docstrings and assertions, without a compiler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.commands import command

PIPELINE = """\
images: {path: images}
features: {a: {layers: [{convolve: {bank: box}}, {pool: {mean: {grid: [2, 2]}}}]}}
store: {path: out.zarr}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{seed}.png")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return tmp_path


def run(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with further environment variables."""
    return subprocess.run(
        command(*words), cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", [["schema"], ["run", "--help"], ["banks", "show", "--help"], ["banks", "--json"]])
def test_a_python_without_docstrings_describes_the_same(words: list[str], tmp_path: Path) -> None:
    usual, stripped = (run(tmp_path, *words, PYTHONOPTIMIZE=level) for level in ("0", "2"))
    assert stripped.returncode == 0, stripped.stderr
    assert stripped.stdout == usual.stdout


@pytest.mark.slow
def test_a_python_without_assertions_reads_and_writes_stores_or_says_why_not(folder: Path) -> None:
    level = "2"
    assert run(folder, "init", "new", PYTHONOPTIMIZE=level).returncode == 0
    made = run(folder, "run", "pipeline.yaml", "--quiet", PYTHONOPTIMIZE=level)
    if made.returncode == 0:
        assert run(folder, "info", "out.zarr", PYTHONOPTIMIZE=level).returncode == 0
        return
    assert made.returncode == 2
    assert made.stderr.startswith("python: runs without assertions (-O, -OO or PYTHONOPTIMIZE), and zarr ")
    assert not (folder / "out.zarr").exists()
    assert run(folder, "run", "pipeline.yaml", "--quiet", PYTHONOPTIMIZE="0").returncode == 0
    for words in (["info", "out.zarr"], ["verify", "out.zarr"], ["export", "out.zarr", "-o", "a.npz"]):
        read = run(folder, *words, PYTHONOPTIMIZE=level)
        assert (read.returncode, read.stderr) == (2, made.stderr)


def test_kernels_that_may_not_be_compiled_are_refused_in_words_before_anything_is_written(folder: Path) -> None:
    for words in (["run", "pipeline.yaml"], ["preview", "pipeline.yaml", "-o", "a.png"]):
        refused = run(folder, *words, NUMBA_DISABLE_JIT="1")
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-1].startswith("NUMBA_DISABLE_JIT: is set, and featpipe's kernels run compi")
        assert sorted(path.name for path in folder.iterdir()) == ["images", "pipeline.yaml"]
