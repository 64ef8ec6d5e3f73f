"""The commands: parse, call, print. Heavy modules are imported where a command needs them, so that help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from featpipe.cli import console
from featpipe.cli.guard import FAILED, INTERRUPTED, TRACEBACK, guarded
from featpipe.cli.values import parse_log_format, parse_memory, parse_scheduler, parse_share
from featpipe.errors import FeatpipeError, Problem

app = typer.Typer(
    help="Turn a collection of images into labelled, multi-scale feature stacks.",
    epilog="Example:\n\nfeatpipe init textures\n\nfeatpipe plan textures/pipeline.yaml\n\n"
    "featpipe run textures/pipeline.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
banks_app = typer.Typer(
    help="List the filter banks, or show one of them.",
    epilog="Example:\n\nfeatpipe banks\n\nfeatpipe banks show gabor",
    invoke_without_command=True,
)
app.add_typer(banks_app, name="banks")

PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE", help="The pipeline file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file, e.g. store.path=x.zarr. Repeatable."),
]
Memory = Annotated[
    int | None,
    typer.Option(
        metavar="AMOUNT", parser=parse_memory, help="Memory to use, e.g. 1GiB.", show_default="60 % of what is free"
    ),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=4096, help="Threads to use.", show_default="all cores")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", parser=parse_scheduler, show_default="this process",
        help="Dask cluster to run on, e.g. tcp://10.0.0.1:8786, or the FILE.json of its scheduler.",
    ),
]  # fmt: skip
WorkerCount = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, max=1024, help="Run on N processes of this machine instead."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be what the terminal can show
    app(prog_name="featpipe")


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


@app.command(epilog="Example:\n\nfeatpipe init textures")
@guarded
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is missing.")],
) -> None:
    """Write a first pipeline.yaml, with every section explained."""
    from featpipe.cli.starter import write_starter

    file = write_starter(directory)
    typer.echo(f"wrote {file}")
    typer.echo("Next:")
    typer.echo(f"  1. put images into {directory / 'images'}; class folders there become labels")
    typer.echo(f"  2. featpipe plan {file}    what it will do, before it does it")
    typer.echo(f"  3. featpipe run {file}")


@app.command(epilog="Example:\n\nfeatpipe plan pipeline.yaml --memory 2GiB --set store.batch=64")
@guarded
def plan(
    pipeline: PipelineFile,
    overrides: Overrides = None,
    memory: Memory = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    workers: WorkerCount = None,
    as_json: AsJson = False,
) -> None:
    """Tell shapes, shards, work and memory, before a pixel is read."""
    from featpipe.cli.planning import Machines, look_at_store, planned_run
    from featpipe.report.plan import plan_facts
    from featpipe.report.text import render_plan

    machines = Machines(memory, threads, scheduler, workers)
    with planned_run(pipeline, overrides or (), machines, dry=True) as (ready, _):
        facts = plan_facts(ready, look_at_store(ready))
    console.show_json(facts) if as_json else console.show(render_plan(facts))


@app.command(epilog="Example:\n\nfeatpipe run pipeline.yaml --set store.path=/scratch/features.zarr")
@guarded
def run(
    pipeline: PipelineFile,
    overrides: Overrides = None,
    memory: Memory = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    workers: WorkerCount = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there of another pipeline, or of other images.")
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
        str, typer.Option(metavar="text|json", parser=parse_log_format, help="How progress is told on stderr.")
    ] = "text",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Extract the features into a store; after an interruption, run it again and it goes on."""
    from featpipe.cli.planning import Machines, carry_out, planned_run
    from featpipe.report.run import run_facts
    from featpipe.report.text import render_run

    machines = Machines(memory, threads, scheduler, workers)
    with planned_run(pipeline, overrides or (), machines, quiet=quiet) as (ready, crew):
        report = carry_out(
            ready, crew, overwrite=overwrite, retry_failed=retry_failed, max_failures=max_failures, fsync=fsync,
            quiet=quiet, log_format=log_format,
        )  # fmt: skip
    facts = run_facts(report, ready)
    console.show_json(facts) if as_json else console.show(render_run(facts))
    if report.status == "interrupted":
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example:\n\nfeatpipe verify features.zarr --recompute 20")
@guarded
def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A feature stack.")],
    recompute: Annotated[
        int, typer.Option(metavar="N", min=0, help="Shards, drawn at random, to compute again and compare.")
    ] = 0,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of this draw.", show_default="another every time")
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Read every shard and compare it with what was written; compute some again and compare bits."""
    from featpipe.cli.verifying import verify_and_show

    if not verify_and_show(store, recompute, seed, memory, threads, quiet=quiet, as_json=as_json):
        raise typer.Exit(FAILED)


@app.command(epilog="Example:\n\nfeatpipe unlock features.zarr")
@guarded
def unlock(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A feature stack.")],
    force: Annotated[bool, typer.Option("--force", help="Also if its run seems to be alive.")] = False,
) -> None:
    """Remove the lock that a run has left which died; one that is alive keeps it."""
    from featpipe.store.lock import StoreLock, described
    from featpipe.store.place import open_place

    holder = StoreLock(open_place(store)).break_stale(force=force)
    typer.echo(f"{store} is not locked" if holder is None else f"removed the lock of {described(holder)}")


@app.command(epilog="Example:\n\nfeatpipe fit pipeline.yaml --output patches.npz")
@guarded
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
    console.show(learn_to_files(pipeline, output, overrides or (), machines, quiet=quiet))


@app.command(epilog="Example:\n\nfeatpipe info features.zarr")
@guarded
def info(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A feature stack.")],
    as_json: AsJson = False,
) -> None:
    """Tell what a store holds."""
    from featpipe.report.store import store_facts
    from featpipe.report.text import render_store
    from featpipe.stack import open_stack

    stack = open_stack(store)
    facts = store_facts(stack.info(), stack.place)
    console.show_json(facts) if as_json else console.show(render_store(facts))


@banks_app.callback()
@guarded
def banks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the filter banks, or show one of them."""
    if context.invoked_subcommand is not None:
        return
    from featpipe.kernels.catalog import list_banks
    from featpipe.report.banks import bank_facts
    from featpipe.report.text import render_banks

    facts = [bank_facts(entry) for entry in list_banks()]
    console.show_json(facts) if as_json else console.show(render_banks(facts))


@banks_app.command(epilog="Example:\n\nfeatpipe banks show gabor --png gabor.png --set orientations=6")
@guarded
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bank.")],
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the example's kernels.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Draw with this parameter, e.g. sigmas=[1,2]. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a bank's parameters, an example and its source; or draw its kernels."""
    if png is not None:
        from featpipe.cli.banking import draw_example

        count = len(draw_example(name, overrides or (), png).kernels)
        typer.echo(f"wrote {png} ({count} kernel{'s' if count > 1 else ''})")
        return
    if overrides:
        raise FeatpipeError(Problem("--set", "says how to draw.", "Add --png FILE."))
    from featpipe.kernels.catalog import find_bank
    from featpipe.report.banks import bank_facts
    from featpipe.report.text import render_bank

    facts = bank_facts(find_bank(name))
    console.show_json(facts) if as_json else console.show(render_bank(facts))


@app.command(epilog="Example:\n\nfeatpipe probe features.zarr --classifier both --png confusion.png")
@guarded
def probe(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A feature stack with classes and splits.")],
    classifier: Annotated[
        str, typer.Option(metavar="KIND", help="ridge (least squares), logistic, or both.")
    ] = "ridge",
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="NAME", help="Use this map alone. Repeatable.")
    ] = None,
    branches: Annotated[
        list[str] | None, typer.Option("--branch", metavar="NAME", help="Use this branch alone. Repeatable.")
    ] = None,
    train: Annotated[str, typer.Option(metavar="SPLIT", help="The split to learn from.")] = "train",
    test: Annotated[str, typer.Option(metavar="SPLIT", help="The split to test on, once.")] = "test",
    strengths: Annotated[
        list[float] | None,
        typer.Option(
            "--strength",
            metavar="X",
            help="Strength of the L2 penalty to try (alpha, or 1/C); one alone is taken. Repeatable.",
            show_default="1e8 … 1e-2",
        ),
    ] = None,
    validation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the training images by which the strength is chosen.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the choice of these.")] = 0,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the confusion matrix.", show_default=False)
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a linear classifier on a store's training images, and test it on its test images."""
    from featpipe.cli.probing import probe_store
    from featpipe.report.probe import render_probes

    chosen = {"strengths": strengths} if strengths else {}
    found = probe_store(
        store, classifier, png, quiet=quiet, maps=maps or (), branches=branches or (), train=train, test=test,
        validation=validation, seed=seed, memory_bytes=memory, threads=threads, **chosen,
    )  # fmt: skip
    if as_json:
        console.show_json(found if len(found) > 1 else found[classifier])
    else:
        console.show(render_probes(found.values()))


@app.command(epilog="Example:\n\nfeatpipe explore\n\nfeatpipe explore pipeline.yaml --image photo.jpg")
@guarded
def explore(
    pipeline: Annotated[
        Path | None, typer.Argument(metavar="[PIPELINE]", help="The pipeline file to begin with.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The image to look at.", show_default="the pipeline's first, or a drawn one"),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Where to listen.", show_default="any that is free")
    ] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Open a local page to drop an image on and see what filters and pools do to it."""
    from featpipe.cli.exploring import explore_images

    explore_images(pipeline, image, port, browser=browser)


@app.command(epilog="Example:\n\nfeatpipe ingest pipeline.yaml images.zarr")
@guarded
def ingest(
    pipeline: PipelineFile,
    target: Annotated[Path, typer.Argument(metavar="IMAGES.zarr", help="The array to write.")],
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Decode a pipeline's images once, into a zarr that later runs read faster."""
    from featpipe.cli.ingesting import ingest_images

    console.show(ingest_images(pipeline, target, overrides or (), quiet=quiet))
