"""Where words go: results to stdout, progress and messages to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featpipe.errors import Problem
from featpipe.printable import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FILE_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


def messages() -> Console:
    """Return the console of stderr."""
    from featpipe.cli.terminal import SafeConsole

    return SafeConsole(stderr=True)


def show(renderable: RenderableType) -> None:
    """Print a result on stdout."""
    from featpipe.cli.terminal import SafeConsole

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = SafeConsole(width=FILE_WIDTH if piped else None)
    with console.capture() as captured:
        console.print(renderable, crop=False)  # a line of code may be longer than the terminal is wide
    lines = [line.rstrip() for line in captured.get().splitlines()]
    sys.stdout.write("\n".join(lines) + "\n")


def show_json(facts: Any) -> None:
    """Print a result for programs."""
    sys.stdout.write(json_text(facts, indent=2) + "\n")


def tell(*lines: str) -> None:
    """Print lines of a result on stdout."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    sys.stdout.flush()  # a pipe's reader may wait for it


def say(text: str) -> None:
    """Print a message on stderr, in one line."""
    messages().print(printable(text), soft_wrap=True)


def say_problems(problems: Iterable[Problem]) -> None:
    """Print what is wrong on stderr, each problem on a line of its own."""
    from rich.text import Text

    console = messages()
    for problem in problems:
        line = Text.assemble((f"{printable(problem.where)}:", "bold red"), " ", printable(problem.what))
        if problem.change:
            line.append(f" {printable(problem.change)}", style="green")
        console.print(line, soft_wrap=True)


@contextmanager
def waiting(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show that something is under way, on a terminal."""
    console = messages()
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(text):
        yield
