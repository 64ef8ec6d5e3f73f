"""What becomes of errors: words on stderr and an exit code, never a traceback that nobody asked for."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import typer

from featpipe.cli.console import say, say_problems
from featpipe.errors import FeatpipeError, Problem
from featpipe.printable import printable

if TYPE_CHECKING:
    from featpipe.spec.source import Source

P = ParamSpec("P")
TRACEBACK = "FEATPIPE_TRACEBACK"
"""Environment variable that asks for tracebacks."""
FAILED, INTERRUPTED = 1, 130


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Return a command that tells its errors in words and exits with their code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            say("interrupted")
            atexit.register(_drop, 2)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if os.environ.get(TRACEBACK, "0") not in ("", "0"):
                sys.stderr.write(printable(traceback.format_exc(), lines=True))
            say_problems(_problems(error))
            raise typer.Exit(error.exit_code if isinstance(error, FeatpipeError) else FAILED) from None

    return run


def _problems(error: Exception) -> tuple[Problem, ...]:
    """Return an error as problems."""
    match error:
        case FeatpipeError():
            return error.problems
        case MemoryError():
            return (
                Problem("featpipe", "the memory ran out.", "Give the run less of it (--memory), or fewer --threads."),
            )
        case OSError() if error.strerror:
            where = str(error.filename) if error.filename is not None else "featpipe"
            return (Problem(where, f"{error.strerror[0].lower()}{error.strerror[1:]}."),)
        case _:
            what = f"this is a bug in featpipe: {type(error).__name__}: {error}".rstrip(".") + "."
            change = "Please report it, with what featpipe --traceback COMMAND ... prints."
            return (Problem("featpipe", what, change),)


def unprinted(error: OSError) -> Problem:
    """Return the problem of results that could not be printed."""
    said = error.strerror or str(error)
    what = f"cannot be written: {said[:1].lower()}{said[1:]}."
    return Problem("stdout", what, "The command has done its work, but what it printed is lost.")


def _drop(stream: int) -> None:
    """Let what is still to be printed vanish: whoever read it has gone, or libraries mourn the work that they leave."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextmanager
def located(source: Source) -> Iterator[None]:
    """Put the place in the pipeline file before every problem that has one."""
    try:
        yield
    except FeatpipeError as error:
        problems = [source.locate(problem) if problem.location else problem for problem in error.problems]
        raise type(error)(problems) from error
