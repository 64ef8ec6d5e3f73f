"""Commands on a feature stack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featpipe.cli import console
from featpipe.cli.completing import complete_stores, one_of
from featpipe.cli.damage import damage_named
from featpipe.cli.guard import FAILED
from featpipe.cli.options import AsJson, Memory, Quiet, StorePath, Threads


def info(
    store: StorePath,
    as_json: AsJson = False,
) -> None:
    """Tell what a store holds."""
    from featpipe.report.store import store_facts
    from featpipe.report.text import render_store
    from featpipe.stack import open_stack

    with damage_named(store):
        stack = open_stack(store)
        facts = store_facts(stack.info(), stack.place)
    console.show_json(facts) if as_json else console.show(render_store(facts))


def report(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="A feature stack, complete or not.", autocompletion=complete_stores),
    ],
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

    with damage_named(store):
        written = write_report(store, output, pictures=pictures, most_values=values, seed=seed, quiet=quiet)
    console.tell(f"wrote {written}")


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
    with damage_named(store):
        found = probe_store(
            store, classifier, png, quiet=quiet, maps=maps or (), branches=branches or (), train=train, test=test,
            validation=validation, seed=seed, memory_bytes=memory, threads=threads, **chosen,
        )  # fmt: skip
    if as_json:
        console.show_json(found if len(found) > 1 else found[classifier])
    else:
        console.show(render_probes(found.values()))


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
    """Read every file and compare it with what was written; compute some shards again and compare bits."""
    from featpipe.cli.verifying import verify_and_show

    if not verify_and_show(store, recompute, seed, memory, threads, quiet=quiet, as_json=as_json):
        raise typer.Exit(FAILED)
