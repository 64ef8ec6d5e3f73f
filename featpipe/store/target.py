"""What stands where the store shall be."""

from __future__ import annotations

import os
from pathlib import Path

from featpipe.errors import Problem, StoreError
from featpipe.replacing import TEMPORARY
from featpipe.store.folders import cannot_write
from featpipe.store.format import KEY, NODE, ROOT_COORDINATES, node_key, parse_node
from featpipe.store.place import LocalPlace, Place
from featpipe.store.root import read_root


def check_place(place: Place) -> None:
    """Refuse what must not be written to: whatever featpipe did not write.

    Raises
    ------
    StoreError
    """
    if isinstance(place, LocalPlace) and _is_free(place.path):
        return
    if not is_store(place) and not _is_empty(place):
        what = "is a directory that featpipe did not write."
        raise StoreError(Problem(str(place), what, "Set store.path to another path, or move the directory away."))


def is_store(place: Place) -> bool:
    """Return whether a place holds a store of featpipe's, whole or damaged.

    Names tell of a store whose root was never written, or is damaged; metadata that can be read, of whatever they
    describe.
    """
    if read_root(place).header is not None:
        return True
    content = place.read(NODE)
    node = parse_node(content)
    if node is not None and KEY not in str(node.get("attributes")):
        return False
    named = all(place.read(node_key(name)) is not None for name in ROOT_COORDINATES)
    return named or (content == b"" and _was_run(place))


def _is_empty(place: Place) -> bool:
    """Return whether a place holds nothing but what a run left that was killed at once: drafts, and empty parts."""
    return all(key.endswith(TEMPORARY) or (not size and _is_part(key)) for key, size in place.files())


def _is_part(key: str) -> bool:
    """Return whether a key is that of a part of a zarr: of its metadata, or of a shard."""
    return key.rpartition("/")[2] == NODE or "/c/" in key


def _was_run(place: Place) -> bool:
    """Return whether a run has left its lock, its receipts or its history beside a place."""
    return any(key.startswith(("lock-", "receipts-", "runs/")) for key, _ in place.beside.files())


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
