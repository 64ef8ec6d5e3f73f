"""Writing a store's features as a file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from featpipe.cli import console
from featpipe.cli.completing import one_of
from featpipe.cli.damage import damage_named
from featpipe.cli.options import StorePath
from featpipe.errors import Problem, SpecError


def export(
    store: StorePath,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", show_default=False,
            help="The file to write: .npz, .parquet or .h5ad (AnnData) for the matrix; .ome.zarr for one image's maps.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", show_default="by FILE", help="npz, parquet, anndata or ome-zarr.",
            autocompletion=one_of("npz", "parquet", "anndata", "ome-zarr"),
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Only the images of this split.", show_default="all images")
    ] = None,
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="NAME", help="Only this map. Repeatable.")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=VALUE",
            help="Only features with this label, or branch, or scale; e.g. frequency=0.2, or scale=[1, 2]. Repeatable.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="OME-Zarr: which image, by row or path.", show_default="the only one"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:  # fmt: skip
    """Write features as a file that other programs open."""
    from featpipe.cli.progress import stage_progress
    from featpipe.exports.export import export as write
    from featpipe.stack import open_stack

    wanted = _selection(select or (), maps or ())
    with damage_named(store), stage_progress(quiet=quiet) as progress:
        stack = open_stack(store)
        if wanted:
            stack = stack.select(**wanted)
        facts = write(
            stack, output, format=form, split=split, image=image, overwrite=overwrite, progress=progress
        )  # fmt: skip
    console.show_json(facts) if as_json else console.tell(*_render(facts))


def _selection(select: list[str] | tuple[str, ...], maps: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Read choices as `Stack.select` takes them; values of one label given twice are either.

    Examples
    --------
    >>> _selection(["frequency=0.1", "frequency=0.2", "channel=red"], ["texture/scale1"])
    {'map': 'texture/scale1', 'frequency': [0.1, 0.2], 'channel': 'red'}
    """
    from featpipe.spec.overrides import read_value

    found: dict[str, list[Any]] = {"map": list(maps)} if maps else {}
    for text in select:
        label, equals, value = (part.strip() for part in text.partition("="))
        if not label or not equals or not value:
            change = "Write it as --select frequency=0.2 or --select branch=texture."
            raise SpecError(Problem(f"--select {text}", "is not of the form label=value.", change))
        read = read_value(f"--select {label}", value)
        found.setdefault(label, []).extend(read if isinstance(read, list) else [read])
    return {label: values[0] if len(values) == 1 else values for label, values in found.items()}


def _render(facts: dict[str, Any]) -> list[str]:
    """Return what was written, in lines."""
    from featpipe.report.units import bytes_text, count_text

    if facts["format"] == "ome-zarr":
        features, height, width = facts["shape"]
        what = f"image {facts['path']}, {height} × {width} × {count_text(features, 'feature')}"
        what += f", {count_text(facts['levels'], 'level')}"
    else:
        what = f"{count_text(facts['images'], 'image')} × {count_text(facts['features'], 'feature')}"
    lines = [f"wrote {facts['file']}: {what} of {', '.join(facts['maps'])} ({bytes_text(facts['bytes'])})"]
    lines += [f"left out {name}: {reason}" for name, reason in facts["left_out"].items()]
    return lines
