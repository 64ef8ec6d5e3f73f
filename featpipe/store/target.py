"""What stands where the store shall be, and clearing it away."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from featpipe.errors import Problem, StoreError
from featpipe.store.format import FORMAT, KEY, NODE, cannot_write, read_header, write_file

Target = Literal["absent", "partial", "complete", "replace"]
OTHER = {"pipeline": "another pipeline", "images": "other images"}
PIECES = "pieces"
"""The digest of batch and block sizes: they change no feature, but part of a store can only be kept if they agree."""


def check_target(path: Path, digests: Mapping[str, str], *, overwrite: bool = False) -> Target:
    """Look at what is at a store's path, and refuse what must not be written to.

    Parameters
    ----------
    path : Path
    digests : mapping of str to str
        What the features depend on: ``pipeline``, ``images``, and the ``pieces`` they are written in.
    overwrite : bool
        Whether a store of other features may be replaced. Nothing but a feature stack ever is.

    Returns
    -------
    {"absent", "partial", "complete", "replace"}
        Nothing yet; begun by a run of the same digests; all there already; or there to be written anew.

    Raises
    ------
    StoreError
    """
    path = Path(path)
    if path.is_symlink():
        what = f"is a symbolic link to {path.readlink()}."
        raise StoreError(Problem(str(path), what, "Set store.path to the place itself."))
    try:
        if not path.exists():
            _check_parent(path)
            return "absent"
    except OSError as error:
        raise cannot_write(path, error) from None
    if not path.is_dir():
        raise StoreError(Problem(str(path), "is a file.", "Set store.path to another path, or move the file away."))
    if not os.access(path, os.W_OK | os.X_OK):
        raise StoreError(Problem(str(path), "may not be written to.", "Check its permissions."))
    return _check_store(path, digests, overwrite=overwrite)


def _check_parent(path: Path) -> None:
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise StoreError(Problem(str(path), f"cannot be made: {parent} is a file.", "Set store.path to another path."))
    if not os.access(parent, os.W_OK | os.X_OK):
        what = f"cannot be made: {parent} may not be written to."
        raise StoreError(Problem(str(path), what, "Check its permissions, or set store.path to another path."))


def _check_store(path: Path, digests: Mapping[str, str], *, overwrite: bool) -> Target:
    header = read_header(path)
    if header is None:
        if not any(path.iterdir()):
            return "absent"
        what = "is a directory that featpipe did not write."
        raise StoreError(Problem(str(path), what, "Set store.path to another path, or move the directory away."))
    status = header.get("status")
    if status == "discarded":
        return "replace"
    before = header.get("digests") or {}
    differ = [key for key in digests if key != PIECES and before.get(key) != digests[key]]
    if not differ and header["format"] == FORMAT:
        if status == "complete":
            return "complete"
        return "partial" if before.get(PIECES) == digests.get(PIECES) else "replace"
    if overwrite:
        return "replace"
    raise StoreError(_differs(path, header, differ))


def _differs(path: Path, header: Mapping[str, Any], differ: list[str]) -> Problem:
    version = (header.get("versions") or {}).get("featpipe", "of unknown version")
    if header["format"] != FORMAT:
        what = (
            f"is a feature stack of format {header['format']}, written by featpipe {version}; this one writes {FORMAT}."
        )
    else:
        others = " and of ".join(OTHER.get(key, f"another {key}") for key in differ)
        what = f"holds the features of {others}, written by featpipe {version}."
    return Problem(str(path), what, "Set store.path to another path, or replace it with --overwrite.")


def discard(path: Path) -> None:
    """Empty the feature stack at ``path``; files beside its groups stay. May be killed and called again."""
    if read_header(path) is None:
        raise StoreError(Problem(str(path), "is not a feature stack.", "Set store.path to another path."))
    # From here on it is no store of any pipeline: were we killed half-way, no shard left over would be taken for new.
    header = {"format": FORMAT, "status": "discarded", "digests": {}}
    root = {"zarr_format": 3, "node_type": "group", "attributes": {KEY: header}}
    write_file(path / NODE, json.dumps(root, indent=2).encode())
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
