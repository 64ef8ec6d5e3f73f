"""Commands on a pipeline before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from featpipe.cli import console
from featpipe.cli.options import (
    AsJson,
    Memory,
    Overrides,
    PipelineFile,
    Quiet,
    Scheduler,
    Threads,
    WorkerCount,
)
from featpipe.replacing import replacing


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is missing.")],
) -> None:
    """Write a first pipeline.yaml, with every section explained."""
    from featpipe.cli.starter import write_starter

    file = write_starter(directory)
    console.tell(
        f"wrote {file}",
        "Next:",
        f"  1. put images into {directory / 'images'}; class folders there become labels",
        f"  2. featpipe plan {file}       what it will do, before it does it",
        f"  3. featpipe preview {file}    what every layer makes of an image, as a picture",
        f"  4. featpipe run {file}",
    )


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

    console.tell(preview_pipeline(pipeline, output, overrides or (), Wish(image, row, branch), quiet=quiet))


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
    with replacing(output) as draft:
        draft.write_text(schema_text(), encoding="utf-8")
    console.tell(f"wrote {output}")
