"""Reports: made, and written beside their stores."""

from __future__ import annotations

import os
from pathlib import Path

from featpipe.errors import Problem, StoreError, WriteError
from featpipe.objects import is_url
from featpipe.pages.facts import Tell, gather_facts
from featpipe.store.place import LocalPlace

ENDING = ".report.html"


def make_report(
    store: str, *, pictures: bool = True, most_values: int | None = None, seed: int = 0, tell: Tell | None = None
) -> str:
    """Return a page about a store that needs nothing but itself.

    Parameters
    ----------
    store : str
        Its path or URL; it need not be complete.
    pictures : bool
        Whether to show some of its images.
    most_values : int, optional
        Of a map, that the statistics of its features look at; of more, a sample is drawn.
    seed : int
        Of this draw.
    tell : callable, optional
        Is told a stage, how much of it is done, and of how much.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    StoreError
        If there is no store.
    """
    from featpipe.pages.render import render_report

    return render_report(gather_facts(store, pictures=pictures, most_values=most_values, seed=seed, tell=tell))


def default_file(store: str) -> Path:
    """Return where a store's report is written unless told otherwise: beside it, or here if it is in an object store.

    Examples
    --------
    >>> default_file("runs/features.zarr").as_posix(), default_file("s3://bucket/deep/features.zarr").as_posix()
    ('runs/features.report.html', 'features.report.html')
    """
    path = Path(store.rstrip("/").rpartition("/")[2]) if is_url(store) else Path(store)
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))  # noqa: PTH100 - `.` has a name too
    return path.parent / (path.name.removesuffix(".zarr") + ENDING)


def check_file(file: str | os.PathLike[str]) -> None:
    """Raise `StoreError` if a report cannot be written there, before any work."""
    if is_url(url := str(file)) or is_url(url := url.replace(":/", "://", 1)):  # as before `Path` took a slash
        raise StoreError(Problem(url, "is no local file, and reports are.", "Write it to a file, and upload it."))
    path = Path(file)
    if path.suffix.lower() not in (".html", ".htm"):
        raise StoreError(Problem(str(path), "is not the name of a page.", "End it in .html."))
    if path.is_dir():
        raise StoreError(Problem(str(path), "is a directory.", "Choose another name."))
    if not path.absolute().parent.is_dir():
        raise StoreError(Problem(str(path), "its directory does not exist.", "Make it, or choose another place."))


def write_page(page: str, file: str | os.PathLike[str]) -> None:
    """Write a page whole, or not at all.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    path = Path(file)
    try:
        LocalPlace(path.parent).write(path.name, [page.encode(errors="replace")])
    except WriteError as error:
        change = "Check the permissions and the free space there, or choose another place (--output)."
        raise WriteError(Problem(str(path), error.problems[0].what, change), error.errno) from None
