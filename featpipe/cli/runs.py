"""Commands that run a pipeline, or a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from featpipe.cli import console
from featpipe.cli.completing import one_of
from featpipe.cli.guard import FAILED, INTERRUPTED
from featpipe.cli.options import (
    AsJson,
    Memory,
    Overrides,
    PipelineFile,
    Quiet,
    Scheduler,
    StorePath,
    Threads,
    WorkerCount,
)
from featpipe.cli.values import parse_log_format, parse_share


def run(
    pipeline: PipelineFile,
    overrides: Overrides = None,
    memory: Memory = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    workers: WorkerCount = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what is there of another pipeline, or of other images."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try the images again that failed, and what lies in their shards.")
    ] = False,
    max_failures: Annotated[
        Any,
        typer.Option(
            metavar="N", parser=parse_share, help="Images that may fail, e.g. 100 or 1%.", show_default="all but one"
        ),
    ] = None,
    fsync: Annotated[
        bool, typer.Option("--fsync", help="Count only what has reached the disk, for fear of power failures.")
    ] = False,
    log_format: Annotated[
        str,
        typer.Option(
            metavar="text|json",
            parser=parse_log_format,
            help="How progress is told on stderr.",
            autocompletion=one_of("text", "json"),
        ),
    ] = "text",
    with_report: Annotated[
        bool, typer.Option("--report", help="Write a page about the store beside it, however the run ends.")
    ] = False,
    report_to: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write it there instead.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Extract the features into a store; after an interruption, run it again and it goes on."""
    from featpipe.cli.planning import Machines, carry_out, planned_run
    from featpipe.cli.reporting import reported
    from featpipe.report.run import run_facts
    from featpipe.report.text import render_run

    machines = Machines(memory, threads, scheduler, workers)
    with (
        planned_run(pipeline, overrides or (), machines, quiet=quiet) as (ready, crew),
        reported(ready, report_to, wanted=with_report or report_to is not None, quiet=quiet),
    ):
        done = carry_out(
            ready, crew, overwrite=overwrite, retry_failed=retry_failed, max_failures=max_failures, fsync=fsync,
            quiet=quiet, log_format=log_format,
        )  # fmt: skip
    facts = run_facts(done, ready)
    console.show_json(facts) if as_json else console.show(render_run(facts))
    if done.status == "interrupted" or facts["unavailable"]:
        raise typer.Exit(INTERRUPTED if done.status == "interrupted" else FAILED)


def fit(
    pipeline: PipelineFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BANK.npz", help="The file to write.", show_default=False)
    ],
    overrides: Overrides = None,
    memory: Memory = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    workers: WorkerCount = None,
    quiet: Quiet = False,
) -> None:
    """Learn a pipeline's banks and no more, into a file that other pipelines use."""
    from featpipe.cli.fitting import learn_to_files
    from featpipe.cli.planning import Machines

    machines = Machines(memory, threads, scheduler, workers)
    console.tell(*learn_to_files(pipeline, output, overrides or (), machines, quiet=quiet))


def ingest(
    pipeline: PipelineFile,
    target: Annotated[Path, typer.Argument(metavar="IMAGES.zarr", help="The array to write.")],
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Decode a pipeline's images once, into a zarr that later runs read faster."""
    from featpipe.cli.ingesting import ingest_images

    console.show(ingest_images(pipeline, target, overrides or (), quiet=quiet))


def unlock(
    store: StorePath,
    force: Annotated[bool, typer.Option("--force", help="Also if its run seems to be alive.")] = False,
) -> None:
    """Remove the lock that a run has left which died; one that is alive keeps it."""
    from featpipe.errors import Problem, StoreError
    from featpipe.store.fence import described
    from featpipe.store.lock import StoreLock
    from featpipe.store.place import open_place

    place = open_place(store)
    holder = StoreLock(place).break_stale(force=force)
    if holder is None and next(place.files(), None) is None:
        raise StoreError(Problem(str(place), "there is no store here, and no lock."))
    console.tell(f"{store} is not locked" if holder is None else f"removed the lock of {described(holder)}")
