"""The commands: parse, call, print. Heavy modules are imported where a command needs them, so that help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from featpipe.cli import console
from featpipe.cli.completing import complete_banks, complete_stores, one_of
from featpipe.cli.exporting import export
from featpipe.cli.guard import FAILED, INTERRUPTED, TRACEBACK, guarded
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
from featpipe.errors import FeatpipeError, Problem

app = typer.Typer(
    help="Turn a collection of images into labelled, multi-scale feature stacks.",
    epilog="Example:\n\nfeatpipe init textures\n\nfeatpipe plan textures/pipeline.yaml\n\n"
    "featpipe run textures/pipeline.yaml",
    no_args_is_help=True,
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


@app.command(epilog="Example:\n\nfeatpipe schema --output featpipe.schema.json")
@guarded
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write.", show_default="stdout")
    ] = None,
) -> None:
    """Print the JSON Schema of the pipeline file, by which editors complete keys and explain them."""
    from featpipe.schema.build import schema_text

    if output is None:
        sys.stdout.write(schema_text())
        return
    output.write_text(schema_text(), encoding="utf-8")
    typer.echo(f"wrote {output}")


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


@app.command(epilog="Example:\n\nfeatpipe preview pipeline.yaml --image photo.jpg -o preview.png")
@guarded
def preview(
    pipeline: PipelineFile,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The picture to write: .png, .svg, or .pdf by branches."),
    ] = Path("preview.png"),
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The image to follow.", show_default="the first that can be read"),
    ] = None,
    row: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Follow this image of the collection.", show_default=False)
    ] = None,
    branch: Annotated[str | None, typer.Option(metavar="NAME", help="Show this branch alone.")] = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Draw an image, the kernels, and what every layer makes of it."""
    from featpipe.cli.previewing import Wish, preview_pipeline

    typer.echo(preview_pipeline(pipeline, output, overrides or (), Wish(image, row, branch), quiet=quiet))


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
    if done.status == "interrupted":
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example:\n\nfeatpipe report features.zarr --output features.report.html")
@guarded
def report(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A feature stack, complete or not.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.", show_default="beside the store"),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Whether to show some of the images themselves.")
    ] = True,
    values: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default="67 million",
            help="Values of a map that the statistics of its features look at; of more, a sample is drawn.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of this draw.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write a page about a store: what was run, how fast, what failed, responses, features, the probe."""
    from featpipe.cli.reporting import write_report

    typer.echo(f"wrote {write_report(store, output, pictures=pictures, most_values=values, seed=seed, quiet=quiet)}")


@app.command(epilog="Example:\n\nfeatpipe verify features.zarr --recompute 20")
@guarded
def verify(
    store: StorePath,
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
    store: StorePath,
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
    store: StorePath,
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bank.", autocompletion=complete_banks)],
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
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="A feature stack with classes and splits.", autocompletion=complete_stores
        ),
    ],
    classifier: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="ridge (least squares), logistic, or both.",
            autocompletion=one_of("ridge", "logistic", "both"),
        ),
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


app.command(epilog="Example:\n\nfeatpipe export features.zarr -o features.parquet --split train")(guarded(export))
