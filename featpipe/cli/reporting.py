"""Writing the page about a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featpipe.cli.console import say
from featpipe.cli.progress import stage_progress
from featpipe.errors import FeatpipeError

if TYPE_CHECKING:
    from featpipe.plan.model import Plan


def write_report(store: str, file: Path | None, *, quiet: bool, **options: Any) -> Path:
    """Write the page about a store; return its file.

    Parameters
    ----------
    store : str
    file : path, optional
        Beside the store unless given.
    quiet : bool
    **options
        Of `featpipe.pages.report.make_report`.
    """
    from featpipe.pages.report import check_file, default_file, make_report, write_page

    target = file or default_file(store)
    check_file(target)
    with stage_progress(quiet=quiet) as tell:
        page = make_report(store, tell=None if tell is None else lambda *told: tell(*told, "map"), **options)
    write_page(page, target)
    return target


REFUSED = 2
"""Exit code of a run that has written nothing, about which there is nothing to report."""


@contextmanager
def reported(plan: Plan, file: Path | None, *, wanted: bool, quiet: bool) -> Iterator[None]:
    """Write the page about the store of a run when it is over, however it ends; no run fails for that.

    Raises
    ------
    StoreError
        Before the run, if a file is given that cannot be one.
    """
    if not wanted:
        yield
        return
    from featpipe.pages.report import check_file

    if file is not None:
        check_file(file)
    refused = False
    try:
        yield
    except FeatpipeError as error:
        refused = error.exit_code == REFUSED
        raise
    finally:
        if not refused:
            _write(plan.pipeline.store.path, file, quiet=quiet)


def _write(store: str, file: Path | None, *, quiet: bool) -> None:
    try:
        written = write_report(store, file, quiet=True)
    except FeatpipeError as error:
        say(f"featpipe: no report: {'; '.join(map(str, error.problems))}")
    except Exception as error:  # what the page cannot show must not cost a run its exit code
        say(f"featpipe: no report: {type(error).__name__}: {error}")
    else:
        if not quiet:
            say(f"featpipe: wrote {written}")
