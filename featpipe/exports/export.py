"""Writing a store's features as a file of another format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from featpipe.errors import Problem, SpecError, StoreError, WriteError
from featpipe.exports.levels import find_image, find_levels
from featpipe.exports.omezarr import write_omezarr
from featpipe.exports.table import Listener, Table, provenance
from featpipe.exports.target import check_target, find_format, writing
from featpipe.exports.texts import check_texts
from featpipe.report.units import bytes_text
from featpipe.stack import Stack, open_stack
from featpipe.store.place import LocalPlace, free_bytes


def export(
    store: str | os.PathLike[str] | Stack,
    file: str | os.PathLike[str],
    *,
    format: str | None = None,
    split: str | None = None,
    image: int | str | None = None,
    overwrite: bool = False,
    progress: Listener | None = None,
) -> dict[str, Any]:
    """Write a store's features as a file that other programs open, whole or not at all, in bounded memory.

    Parameters
    ----------
    store : path or Stack
        Complete. ``stack.select(…)`` says which maps and features.
    file : path
        To write. Its ending tells the format: ``.npz``, ``.parquet`` and ``.h5ad`` (AnnData) hold the matrix of
        `Stack.xy` with a name for every row and column, ``.ome.zarr`` the maps of one image for viewers.
    format : str, optional
        ``npz``, ``parquet``, ``anndata`` or ``ome-zarr``, whatever the ending.
    split : str, optional
        Only the images of this split; all readable ones unless given.
    image : int or str, optional
        OME-Zarr: the image, by its row or its path; needed unless there is only one.
    overwrite : bool
        Replace a file that is there.
    progress : callable, optional
        Called with a stage, how much of it is done, of how much, and the unit.

    Returns
    -------
    dict
        What was written: ``file``, ``format``, ``bytes``, and what it holds.

    Raises
    ------
    FeatpipeError
        If the store or the file will not do, or a package is missing, before anything is written.

    Examples
    --------
    ``featpipe.export(stack.select(branch="texture"), "texture.parquet", split="train")``
    """
    form = find_format(Path(file), format)
    wrong = {"split": split, "image": image}["split" if form == "ome-zarr" else "image"]
    if wrong is not None:
        what = "an OME-Zarr holds one image." if form == "ome-zarr" else f"{form} holds all images, a row for each."
        name, change = ("--split", "Choose it with --image.") if form == "ome-zarr" else ("--image", "Leave it out.")
        raise SpecError(Problem(name, what, change))
    path = check_target(file, form, overwrite=overwrite)
    stack = store if isinstance(store, Stack) else open_stack(store)
    if stack.status != "complete":
        change = "Run the pipeline again: it goes on where it stopped."
        raise StoreError(Problem(stack.path, "is not complete.", change))
    if form == "ome-zarr":
        found = _write_image(stack, path, image, progress)
    else:
        found = _write_table(Table(stack, split, progress), path, form)
    return {"file": str(path), "format": form, "bytes": _size(path), **found}


def _write_table(table: Table, path: Path, form: str) -> dict[str, Any]:
    check_texts(table, form)
    size, free = 4 * len(table) * table.width, free_bytes(LocalPlace(path.absolute().parent))
    if form != "parquet" and free is not None and size > free:  # HDF5 crashes on a full disk
        what = f"it takes {bytes_text(size)} of features, and {bytes_text(free)} are free there."
        raise WriteError(Problem(str(path), what, "Make room, choose another place, or fewer features."))
    with writing(path) as temporary:
        if form == "npz":
            from featpipe.exports.npz import write_npz as write
        elif form == "parquet":
            from featpipe.exports.parquet import write_parquet as write
        else:
            from featpipe.exports.h5ad import write_h5ad as write
        write(table, temporary)
    maps = [one.name for one in table.maps]
    apart = {name: "each image has a map of its own" for name in table.stack.maps if name not in maps}
    return {"images": len(table), "features": table.width, "maps": maps, "left_out": apart}


def _write_image(stack: Stack, path: Path, asked: int | str | None, progress: Listener | None) -> dict[str, Any]:
    image = find_image(stack, asked)
    levels, left_out = find_levels(stack, image)
    name, maps = str(stack.paths[image]), [level.name for level in levels]
    facts = {"image": image, "path": name, "maps": maps, "labels": list(levels[0].labels)}
    facts |= provenance(stack)
    with writing(path) as temporary:
        count = write_omezarr(levels, facts, temporary, progress)
    height, width, features = levels[0].shape
    told = {"image": image, "path": name, "shape": [features, height, width], "levels": count}
    return {**told, "maps": maps, "left_out": left_out}


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
