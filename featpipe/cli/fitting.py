"""The stage that learns banks, alone: into files that other pipelines use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featpipe.cli.planning import Machines, planned_run
from featpipe.cli.progress import run_progress
from featpipe.errors import Problem, SpecError
from featpipe.reading.files import irregular_text

if TYPE_CHECKING:
    from featpipe.kernels.fitted import FittedBank
    from featpipe.plan.fitting import FitRequest
    from featpipe.plan.model import Plan


class FileShelf:
    """Writes each bank to a file as soon as it is learned."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    def load(self, request: FitRequest) -> FittedBank | None:
        """Return nothing: banks are learned anew."""
        del request
        return None

    def save(self, request: FitRequest, bank: FittedBank) -> None:
        from featpipe.kernels.fitted import write_learned_bank

        file = self.files[request.key]
        try:
            write_learned_bank(str(file), bank)
        except OSError as error:
            what = f"{file} cannot be written: {error.strerror or error}."
            raise SpecError(Problem("--output", what, "Choose another place.")) from error


def learn_to_files(
    pipeline: Path, output: Path, overrides: Sequence[str], machines: Machines, *, quiet: bool
) -> list[str]:
    """Learn a pipeline's banks and write them; return what was written, in lines.

    Raises
    ------
    SpecError
        If the pipeline learns no bank, or ``output`` cannot be written.
    """
    from featpipe.run import learn

    with planned_run(pipeline, overrides, machines, quiet=quiet) as (plan, workers):
        files = _files(plan, output)
        with run_progress(quiet=quiet) as progress:
            learn(plan, FileShelf(files), workers=workers, progress=progress)
    lines = [f"wrote {files[request.key]}: {request.title}" for request in plan.program.fits]
    return [*lines, f"Use it with convolve: {{bank: {{file: {files[plan.program.fits[0].key].name}}}, …}}"]


def _files(plan: Plan, output: Path) -> dict[str, Path]:
    """Return the file of each bank; where there are several, they are numbered in order of depth."""
    requests = plan.program.fits
    if not requests:
        what = "the pipeline learns no bank."
        change = "Add one, e.g. convolve: {bank: {fit: kmeans, kernels: 400, size: 6}}."
        raise SpecError(Problem("features", what, change))
    if output.suffix != ".npz":
        raise SpecError(Problem("--output", f"must be a .npz file, got {output}.", f"Write {output}.npz."))
    if output.exists() and not output.is_file():
        what = f"{output} {irregular_text(output.stat().st_mode)}."
        raise SpecError(Problem("--output", what, "Choose another name."))
    if not output.parent.is_dir():
        raise SpecError(Problem("--output", f"there is no directory {output.parent}.", "Make it first."))
    if len(requests) == 1:
        return {requests[0].key: output}
    return {request.key: output.with_stem(f"{output.stem}-{i}") for i, request in enumerate(requests, 1)}
