"""What several of these tests begin with."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from featpipe.cli.commands import app
from tests.integration.commands import Done

PIPELINES = Path(__file__).resolve().parent.parent.parent / "pipelines"


@pytest.fixture
def featpipe(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return what runs a command in this process."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            app([str(argument) for argument in arguments], prog_name="featpipe")
        out, err = capsys.readouterr()
        return Done(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of ``pipelines`` with its images made."""
    folder = tmp_path_factory.mktemp("clone") / "pipelines"
    folder.mkdir()
    for file in PIPELINES.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    runpy.run_path(str(folder / "make_images.py"), run_name="__main__")
    return folder
