"""The commands: parse, call, print. Heavy modules are imported where a command needs them, so that help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from featpipe.cli.banks import banks, show
from featpipe.cli.console import say_problems
from featpipe.cli.exporting import export
from featpipe.cli.guard import FAILED, TRACEBACK, guarded, unprinted
from featpipe.cli.pipelines import explore, init, plan, preview, schema
from featpipe.cli.runs import fit, ingest, run, unlock
from featpipe.cli.stores import info, probe, report, verify
from featpipe.cli.streams import mend_streams
from featpipe.printable import printable

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Commands(TyperGroup):
    """The commands; complaints about their words are `printable`, for a shell's ``*`` may have put names there."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the options that stand before a command."""
        with _printable_complaints():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with _printable_complaints():
            return super().invoke(ctx)


@contextmanager
def _printable_complaints() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        told: Any = error
        told.message = printable(told.message)
        raise


app = typer.Typer(
    cls=Commands,
    help="Turn a collection of images into labelled, multi-scale feature stacks.",
    epilog="Example:\n\nfeatpipe init textures\n\nfeatpipe plan textures/pipeline.yaml\n\n"
    "featpipe run textures/pipeline.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line of this process."""
    output = mend_streams()
    try:
        app(prog_name="featpipe")
    except SystemExit as stop:
        sys.stdout.flush()
        if output is not None and output.lost is not None and not stop.code:
            say_problems([unprinted(output.lost)])
            sys.exit(FAILED)
        raise


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"featpipe {version('featpipe')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help=f"Show tracebacks of errors (also {TRACEBACK}=1).")
    ] = False,
) -> None:
    if traceback:
        os.environ[TRACEBACK] = "1"


COMMANDS: dict[str, tuple[tuple[Callable[..., None], str], ...]] = {
    "Before a run": (
        (init, "featpipe init textures"),
        (plan, "featpipe plan pipeline.yaml --memory 2GiB --set store.batch=64"),
        (preview, "featpipe preview pipeline.yaml --image photo.jpg -o preview.png"),
        (explore, "featpipe explore\n\nfeatpipe explore pipeline.yaml --image photo.jpg"),
        (schema, "featpipe schema --output featpipe.schema.json"),
    ),
    "Runs": (
        (run, "featpipe run pipeline.yaml --set store.path=/scratch/features.zarr"),
        (fit, "featpipe fit pipeline.yaml --output patches.npz"),
        (ingest, "featpipe ingest pipeline.yaml images.zarr"),
        (unlock, "featpipe unlock features.zarr"),
    ),
    "Feature stacks": (
        (info, "featpipe info features.zarr"),
        (report, "featpipe report features.zarr --output features.report.html"),
        (probe, "featpipe probe features.zarr --classifier both --png confusion.png"),
        (export, "featpipe export features.zarr -o features.parquet --split train"),
        (verify, "featpipe verify features.zarr --recompute 20"),
    ),
}
"""Every command with an example, below the heading that help lists it under, in the order in which they are used."""


def _help(command: Callable[..., None]) -> str | None:
    """Return a command's help where Python was told to strip docstrings; typer finds it elsewhere."""
    if sys.flags.optimize < 2:
        return None
    from featpipe.spec.docs import text_of

    return text_of(command)


for heading, commands in COMMANDS.items():
    for command, example in commands:
        make = app.command(help=_help(command), epilog=f"Example:\n\n{example}", rich_help_panel=heading)
        make(guarded(command))

banks_app = typer.Typer(
    help="List the filter banks, or show one of them.",
    epilog="Example:\n\nfeatpipe banks\n\nfeatpipe banks show gabor",
    invoke_without_command=True,
)
banks_app.callback()(guarded(banks))
banks_app.command(
    help=_help(show), epilog="Example:\n\nfeatpipe banks show gabor --png gabor.png --set orientations=6"
)(guarded(show))
app.add_typer(banks_app, name="banks", rich_help_panel="Before a run")
