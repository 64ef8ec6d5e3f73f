"""What ``featpipe preview`` does: an image, the program with its banks learned, the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from featpipe.cli.console import say, waiting
from featpipe.cli.guard import located
from featpipe.cli.progress import run_progress
from featpipe.errors import Problem, SourceError, SpecError, key_path
from featpipe.spec.load import load_pipeline
from featpipe.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from featpipe.plan.program import Program
    from featpipe.preview.panels import Preview
    from featpipe.trace import Example

LARGEST = 1024
"""Longest edge, in pixels, of what is shown of an image."""
QUICKER = 20_000
"""Patches above which a bank takes so long that people want to know of fewer."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    image: Path | None = None
    row: int | None = None
    branch: str | None = None


def preview_pipeline(file: Path, output: Path, overrides: Sequence[str], wish: Wish, *, quiet: bool) -> str:
    """Draw what a pipeline does to an image; return what was written, in words.

    Raises
    ------
    FeatpipeError
        Before any work if the picture could not be drawn.
    """
    from featpipe.report.picture import check_drawing
    from featpipe.run import load_kernels

    check_drawing(output, "--output")
    pipeline, source = load_pipeline(file, overrides)
    with located(source):
        pipeline = _branch_of(pipeline, wish.branch)
        load_kernels(lambda text: None if quiet else say(f"featpipe: {text}"))
        with waiting("reading the image …", quiet=quiet):
            example = read_wished(pipeline, wish)
        program = learned(pipeline, example, wish, quiet=quiet)
        with waiting("drawing …", quiet=quiet):
            from featpipe.preview.picture import write_preview

            paged = output.suffix.lower() == ".pdf" and len(pipeline.features) > 1
            previews = _pages(pipeline, program, example, file.stem, paged=paged)
            pages = write_preview(previews, output)
    several = f" ({pages} pages)" if pages > 1 else ""
    return f"wrote {output}{several}: {example.name}"


def _pages(pipeline: Pipeline, program: Program, example: Example, title: str, *, paged: bool) -> Iterator[Preview]:
    """Yield the preview of all branches, or one for each."""
    from featpipe.preview.panels import gather
    from featpipe.run.planning import default_resources

    memory = default_resources().memory_bytes
    names = list(pipeline.features) if paged else [None]
    for name in names:
        yield gather(pipeline, program, example, f"{title}: {name}" if name else title, memory, branch=name)


def _branch_of(pipeline: Pipeline, name: str | None) -> Pipeline:
    """Return the pipeline with one branch alone."""
    if name is None:
        return pipeline
    if name not in pipeline.features:
        known = ", ".join(pipeline.features)
        raise SpecError(Problem("--branch", f"there is no branch {name!r}.", f"Use one of {known}."))
    return pipeline.model_copy(update={"features": {name: pipeline.features[name]}})


def read_wished(pipeline: Pipeline, wish: Wish) -> Example:
    """Return the image that is to be shown."""
    from featpipe.trace import read_example, single

    if wish.image is not None and wish.row is not None:
        raise SpecError(Problem("--row", "is a row of the collection, and --image names a file.", "Give one of them."))
    if wish.image is None:
        return read_example(pipeline.images, wish.row, most=LARGEST)
    try:
        return read_example(single(pipeline.images, wish.image), most=LARGEST)
    except SourceError as error:
        raise SourceError([Problem("--image", problem.what, problem.change) for problem in error.problems]) from error


def learned(pipeline: Pipeline, example: Example, wish: Wish, *, quiet: bool) -> Program:
    """Return the program with the banks that it learns: those of the store, or learned now."""
    from featpipe.plan.resolve import make_program
    from featpipe.preview.learning import learn_for_preview, stored_program

    program = make_program(pipeline.features, example.channels)
    if not program.fits:
        return program
    tell = partial(_tell, quiet=quiet)
    try:
        return learn_for_preview(pipeline, example, tell, run_progress(quiet=quiet))
    except SourceError:  # no collection; none is needed where the store holds what was learned from it
        found = stored_program(pipeline, example.channels) if wish.image is not None else None
        if found is None:
            raise
        return found


def _tell(program: Program, *, quiet: bool) -> None:
    """Say what makes learning quicker."""
    for request in program.fits:
        if request.bank.patches > QUICKER and not quiet:
            key = key_path((*request.location, "bank", "patches"))
            say(f"featpipe: learning from {request.bank.patches:,} patches; --set {key}={QUICKER} makes it quicker")
