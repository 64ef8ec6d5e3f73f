"""Where an export goes: its format, whether it may be written there, and how it appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from featpipe.errors import FeatpipeError, Problem, SpecError, WriteError
from featpipe.objects import is_url
from featpipe.replacing import replacing
from featpipe.spec.words import suggest
from featpipe.store.format import KEY, read_node
from featpipe.store.place import LocalPlace

ENDINGS = {"npz": ".npz", "parquet": ".parquet", "anndata": ".h5ad", "ome-zarr": ".ome.zarr"}
"""Formats, and how the names of their files end."""
NEEDS = {"parquet": ("pyarrow", "parquet"), "anndata": ("anndata", "anndata")}
"""Formats to the package that writes them, and the extra that has it."""
EXPORTED = "exported"
"""What stands under featpipe's key in the attributes of an OME-Zarr that was written here."""


def find_format(file: Path, asked: str | None) -> str:
    """Return the format asked for, or the one that the file's name ends in.

    Raises
    ------
    SpecError
        If there is no such format, or the name tells none.

    Examples
    --------
    >>> find_format(Path("a.ome.zarr"), None), find_format(Path("a.dat"), "npz")
    ('ome-zarr', 'npz')
    """
    known = ", ".join(ENDINGS)
    if asked is not None:
        if asked not in ENDINGS:
            raise SpecError(
                Problem("--format", f"there is no {asked!r}.", f"{suggest(asked, ENDINGS)} There are {known}.")
            )
        return asked
    for name, ending in ENDINGS.items():
        if file.name.lower().endswith(ending):
            return name
    endings = ", ".join(ENDINGS.values())
    raise SpecError(Problem(str(file), "its name does not tell the format.", f"End it in {endings}, or give --format."))


def check_target(file: str | os.PathLike[str], form: str, *, overwrite: bool) -> Path:
    """Return the file to write, before any work.

    Raises
    ------
    FeatpipeError
        If it lies nowhere, or in the way, or what would write it is not installed.
    """
    if is_url(url := str(file)) or is_url(url := url.replace(":/", "://", 1)):  # as before `Path` took a slash
        raise SpecError(Problem(url, "is no local file, and exports are.", "Export to a file, and upload it."))
    path = Path(file)
    if not path.absolute().parent.is_dir():
        raise SpecError(Problem(str(path), "its directory does not exist.", "Make it, or choose another place."))
    if path.is_dir() and not (form == "ome-zarr" and _exported(path)):
        raise SpecError(Problem(str(path), "is a directory that no export has written.", "Choose another name."))
    if path.exists() and not overwrite:
        raise SpecError(Problem(str(path), "exists already.", "Choose another name, or add --overwrite."))
    package, extra = NEEDS.get(form, ("", ""))
    if package and find_spec(package) is None:
        what = f"this format is written by {package}, which is not installed."
        raise FeatpipeError(Problem(f"export to {form}", what, f'pip install "featpipe[{extra}]"'))
    return path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give the name of a file or directory that replaces ``path`` when it is whole; say in words why it cannot."""
    try:
        with replacing(path) as draft:
            yield draft
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0].rstrip(".")
        change = "Check the permissions and the free space there, or choose another place."
        raise WriteError(Problem(str(path), f"cannot be written: {reason}.", change), error.errno) from error


def _exported(path: Path) -> bool:
    """Tell whether a directory is an OME-Zarr that an export has written."""
    attributes = (read_node(LocalPlace(path)) or {}).get("attributes")
    found = attributes.get(KEY) if isinstance(attributes, dict) else None
    return isinstance(found, dict) and EXPORTED in found
