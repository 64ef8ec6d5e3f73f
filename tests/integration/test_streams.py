"""Streams that are closed, full or read by nobody: the command does its work, and its exit code tells the truth."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.commands import command

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells close streams in another way")
PIPELINE = """\
images: {path: images}
features: {a: {layers: [{convolve: {bank: box}}, {pool: {mean: {grid: [2, 2]}}}]}}
store: {path: out.zarr}
"""
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{seed}.png")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return tmp_path


def shell(folder: Path, redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, its streams redirected; return its exit code whoever reads it."""
    line = f"set -o pipefail; {shlex.join(command(*words))} {redirection}"
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", "<&- >&- 2>&-", pytest.param("2>/dev/full", marks=FULL), "| true", "2>&1 | true"]
)
def test_a_run_does_its_work_and_ends_with_0_whatever_becomes_of_what_it_says(redirection: str, folder: Path) -> None:
    done = shell(folder, redirection, "run", "pipeline.yaml")
    assert done.returncode == 0, done.stderr
    assert "bug" not in done.stderr
    assert shell(folder, "", "verify", "out.zarr").returncode == 0


@FULL
@pytest.mark.parametrize("words", [["run", "pipeline.yaml"], ["plan", "pipeline.yaml", "--json"], ["--help"]])
def test_results_that_cannot_be_printed_are_a_failure_told_in_words(words: list[str], folder: Path) -> None:
    done = shell(folder, ">/dev/full", *words)
    assert done.returncode == 1
    assert "stdout: cannot be written: no space left on device. The command has done its work" in done.stderr
    assert "bug" not in done.stderr
    assert (folder / "out.zarr").exists() == (words[0] == "run")


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "| true", "2>&-", "2>/dev/full"])
def test_a_mistake_keeps_its_exit_code(redirection: str, folder: Path) -> None:
    assert shell(folder, redirection, "info", "none.zarr").returncode == 2


def test_no_file_of_a_command_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    """What C code prints to descriptor 1 or 2 must not end up in a store."""
    code = "import os; from featpipe.cli.streams import mend_streams; mend_streams(); print(os.open('x', 65)); "
    code += "[os.write(fd, b'noise') for fd in (1, 2)]; assert os.read(0, 1) == b''"
    line = f"{shlex.join([*command()[:1], '-c', code])} <&- >&- 2>&-"
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False
    )
    assert done.returncode == 0
    assert (folder / "x").read_bytes() == b""
