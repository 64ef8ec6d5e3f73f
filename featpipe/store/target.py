"""What stands where the store shall be."""

from __future__ import annotations

import os
from pathlib import Path

from featpipe.errors import Problem, StoreError
from featpipe.store.format import read_header
from featpipe.store.place import TEMPORARY, LocalPlace, Place, cannot_write


def check_place(place: Place) -> None:
    """Refuse what must not be written to: whatever featpipe did not write.

    Raises
    ------
    StoreError
    """
    if isinstance(place, LocalPlace) and _is_free(place.path):
        return
    # What a run was writing that was killed before it had a header is nobody's
    if read_header(place) is None and not all(key.endswith(TEMPORARY) for key, _ in place.files()):
        what = "is a directory that featpipe did not write."
        raise StoreError(Problem(str(place), what, "Set store.path to another path, or move the directory away."))


def _is_free(path: Path) -> bool:
    """Look at a path; return whether nothing is there yet, and something can be made there."""
    if path.is_symlink():
        what = f"is a symbolic link to {path.readlink()}."
        raise StoreError(Problem(str(path), what, "Set store.path to the place itself."))
    try:
        if not path.exists():
            _check_parent(path)
            return True
    except OSError as error:
        raise StoreError(cannot_write(path, error).problems) from None
    if not path.is_dir():
        raise StoreError(Problem(str(path), "is a file.", "Set store.path to another path, or move the file away."))
    if not os.access(path, os.W_OK | os.X_OK):
        raise StoreError(Problem(str(path), "may not be written to.", "Check its permissions."))
    return False


def _check_parent(path: Path) -> None:
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise StoreError(Problem(str(path), f"cannot be made: {parent} is a file.", "Set store.path to another path."))
    if not os.access(parent, os.W_OK | os.X_OK):
        what = f"cannot be made: {parent} may not be written to."
        raise StoreError(Problem(str(path), what, "Check its permissions, or set store.path to another path."))
