"""Completion in shells: bash itself, and the questions that zsh and fish ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featpipe.cli.completing import complete_banks
from featpipe.kernels.catalog import list_banks

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a ``featpipe`` to call, some pipelines and a store."""
    program = tmp_path / "bin" / "featpipe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m featpipe "$@"\n')
    program.chmod(0o755)
    for name in ("fine.yaml", "fast.yml", "figures.txt", "more/other.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "features.zarr").mkdir()
    (tmp_path / "features.zarr.run").mkdir()
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "HOME": str(home), "PYTHONPATH": str(ROOT), **more}


def ask(home: Path, *command: str, **more: str) -> str:
    done = subprocess.run(
        command, cwd=home, env=environment(home, **more), capture_output=True, encoding="utf-8", check=False
    )
    assert not done.stderr
    return done.stdout


def complete_in_bash(home: Path, line: str) -> list[str]:
    words = " ".join(f"'{word}'" for word in line.split(" "))
    script = (
        'eval "$(featpipe --show-completion bash)"\n'
        f"COMP_WORDS=({words}); COMP_CWORD={len(line.split(' ')) - 1}\n"
        '_featpipe_completion featpipe; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return ask(home, "bash", "--norc", "-c", script).split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("featpipe ver", ["verify"]),
        ("featpipe banks show ga", ["gaussian", "gaussian-gradient", "gabor", "gaussian-derivatives"]),
        ("featpipe run f", ["fast.yml", "fine.yaml"]),
        ("featpipe run more/", ["more/other.yaml"]),
        ("featpipe run fine.yaml --log-format ", ["text", "json"]),
        *((f"featpipe {command} f", ["features.zarr"]) for command in ("info", "report", "probe", "export", "verify")),
        ("featpipe export features.zarr --format p", ["parquet"]),
        ("featpipe run ~nobody-of-this-name/", []),
        ("featpipe run mo", []),  # a directory alone is left to bash, which adds no space after it
        ("featpipe run nowhere/", []),
        ("featpipe run ", ["bin/", "fast.yml", "fine.yaml", "more/"]),
    ],
)
def test_bash_completes(home: Path, line: str, offered: list[str]) -> None:
    assert complete_in_bash(home, line) == offered


def test_zsh_and_fish_get_answers_in_their_own_way(home: Path) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "featpipe banks show gab"}
    assert '"gabor"' in ask(home, "featpipe", _FEATPIPE_COMPLETE="complete_zsh", **asked)
    fish = {**asked, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert ask(home, "featpipe", _FEATPIPE_COMPLETE="complete_fish", **fish).split() == ["gabor"]


def test_completion_installs_itself_for_bash(home: Path) -> None:
    told = ask(home, "bash", "--norc", "-c", "featpipe --install-completion bash; true")  # it asks who has started it
    (script,) = (home / ".bash_completions").iterdir()
    assert "bash completion installed" in told
    assert str(script) in (home / ".bashrc").read_text()
    assert "_featpipe_completion" in script.read_text()


def test_all_banks_are_offered() -> None:
    assert sorted(complete_banks()) == sorted(entry.name for entry in list_banks())
