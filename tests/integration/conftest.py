"""What several of these tests begin with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from featpipe.cli.commands import app
from tests.integration.commands import Done


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
