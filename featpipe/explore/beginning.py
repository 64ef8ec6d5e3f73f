"""What the page begins with: a pipeline, an image, and where learned banks lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featpipe.errors import FeatpipeError, Problem, SpecError
from featpipe.explore.chains import Shelf, read_draft
from featpipe.explore.subject import Subject, draw_example, open_file
from featpipe.images.scan import scan
from featpipe.kernels.fitted import FittedBank
from featpipe.objects import is_url
from featpipe.plan.fitting import FitRequest
from featpipe.reading.files import IrregularFileError, read_file
from featpipe.spec.load import LARGEST_FILE
from featpipe.spec.pipeline import Pipeline

STARTER = """\
images:
  path: {path}
  color: gray
features:
  edges:
    layers:
      - convolve: {{bank: sobel, padding: reflect}}
      - modulus
      - pool: {{max: 2}}
store:
  path: features.zarr
"""


@dataclass
class Beginning:
    """What the page begins with."""

    text: str
    """The pipeline."""
    subject: Subject
    base: Path
    """What paths in the pipeline are relative to."""
    shelf: Shelf
    note: str = ""
    """To tell on the page."""


def begin(pipeline: Path | None, image: Path | None, folder: Path) -> Beginning:
    """Read what the command line names.

    Parameters
    ----------
    pipeline : Path, optional
    image : Path, optional
    folder : Path
        For temporary files.

    Raises
    ------
    FeatpipeError
        If one of them is not there.
    """
    if image is not None and not image.is_file():
        raise FeatpipeError(Problem(str(image), "there is no such file."))
    text = None if pipeline is None else _read(pipeline)
    base = Path.cwd() if pipeline is None else pipeline.absolute().parent
    spec = None if text is None else read_draft(text, base).pipeline
    note = ""
    if image is not None:
        subject = open_file(image)
    else:
        subject, note = _first(spec, folder)
    if text is None:
        text = STARTER.format(path=subject.path)
    return Beginning(text, subject, base, _shelf(spec), note)


def _read(pipeline: Path) -> str:
    """Return the text of a pipeline file, right or wrong."""
    try:
        return read_file(pipeline, LARGEST_FILE).decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(
            Problem(str(pipeline), "there is no such file.", "Give none to begin with a chain of ours.")
        ) from None
    except IsADirectoryError:
        raise SpecError(Problem(str(pipeline), "is a directory.", "Give the pipeline file in it.")) from None
    except IrregularFileError as error:
        raise SpecError(Problem(str(pipeline), f"{error}.", "Give a pipeline file.")) from None
    except UnicodeDecodeError:
        raise SpecError(Problem(str(pipeline), "is not UTF-8.", "Save the file as UTF-8.")) from None


def _first(spec: Pipeline | None, folder: Path) -> tuple[Subject, str]:
    """Return the first image of a pipeline's collection; a drawn one where there is none."""
    example = draw_example("scene", folder)
    if spec is None or spec.images.path == "<array>":
        return example, ""
    try:
        collection = scan(spec.images)
        row = next(i for i in range(len(collection)) if i not in collection.unreadable)
        file = Path(collection.root) / collection.paths[row]
        if is_url(collection.root) or not file.is_file():
            return example, "The pipeline's images are no files of this machine: drop one here."
        return Subject(file, collection.paths[row], spec.images.path, "file"), ""
    except FeatpipeError as error:
        return example, f"The pipeline's images cannot be read: {error.problems[0]}"


def _shelf(spec: Pipeline | None) -> Shelf:
    """Return what finds the banks that a run of the pipeline has learned."""
    found: dict[str, FittedBank | None] = {}

    def load(request: FitRequest) -> FittedBank | None:
        if request.key not in found:
            found[request.key] = _stored(spec, request)
        return found[request.key]

    return load


def _stored(spec: Pipeline | None, request: FitRequest) -> FittedBank | None:
    if spec is None or is_url(spec.store.path) or not Path(spec.store.path).is_dir():
        return None
    from featpipe.store.fits import StoreShelf
    from featpipe.store.place import open_place

    return StoreShelf(open_place(spec.store.path)).load(request)
