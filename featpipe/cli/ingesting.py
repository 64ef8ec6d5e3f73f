"""Decoding a pipeline's images once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featpipe.cli.guard import located
from featpipe.cli.progress import count_progress
from featpipe.errors import Problem, StoreError
from featpipe.replacing import real
from featpipe.report.text import render_ingest
from featpipe.spec.load import load_pipeline

if TYPE_CHECKING:
    from rich.console import RenderableType


def ingest_images(file: Path, target: Path, overrides: Sequence[str], *, quiet: bool) -> RenderableType:
    """Decode a pipeline's images into a zarr, and return what to say about it."""
    from featpipe.run.ingest import ingest

    pipeline, source = load_pipeline(file, overrides)
    if target.suffix != ".zarr":
        raise StoreError(Problem(str(target), "must end in .zarr.", f"Write {target.name}.zarr."))
    if real(Path(pipeline.images.path)) in real(target).parents:
        what = f"lies inside the images, {pipeline.images.path}."
        raise StoreError(Problem(str(target), what, "Write it beside them."))
    with located(source), count_progress("decoding", quiet=quiet) as progress:
        report = ingest(pipeline.images, target, progress)
    return render_ingest(
        {
            "target": str(target),
            "shape": report.shape,
            "dtype": report.dtype,
            "bytes": report.bytes,
            "failed": report.failed,
            "path": _from_pipeline(target, file),
        }
    )


def _from_pipeline(target: Path, file: Path) -> str:
    """Return the target's path as the pipeline file would name it."""
    try:
        path = os.path.relpath(real(target), real(file).parent)
    except ValueError:  # another drive
        return str(real(target))
    return str(real(target)) if path.startswith(os.pardir) else Path(path).as_posix()
