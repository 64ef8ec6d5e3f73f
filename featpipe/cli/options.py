"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featpipe.cli.completing import complete_pipelines, complete_stores
from featpipe.cli.values import parse_memory, parse_scheduler

PipelineFile = Annotated[
    Path,
    typer.Argument(
        metavar="PIPELINE", help="The pipeline file.", show_default=False, autocompletion=complete_pipelines
    ),
]
StorePath = Annotated[str, typer.Argument(metavar="STORE", help="A feature stack.", autocompletion=complete_stores)]
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
