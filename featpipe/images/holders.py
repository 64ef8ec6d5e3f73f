"""Listing the images of archives and of tables: files that hold many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np

from featpipe.images.folders import is_image_name
from featpipe.images.labels import SPLIT_FOLDERS
from featpipe.images.listing import Listing, readable_names
from featpipe.images.manifest import check_paths, normal_path
from featpipe.images.members import Member, sample_key
from featpipe.images.ranges import AT_ONCE, Ranges, find_ranges, open_images
from featpipe.images.refusal import Refused, source_error
from featpipe.images.tables import MOST_ROWS, Table, open_table
from featpipe.images.tar import list_tar
from featpipe.images.zip import list_zip
from featpipe.objects import is_url
from featpipe.plan.collection import Holder, Places
from featpipe.spec.pipeline import Images

T = TypeVar("T")
_REMOTE_THREADS = 8


def list_archives(root: str, names: Sequence[str], kind: Literal["tar", "zip"]) -> Listing:
    """List the images in archives, in the archives' order.

    Folders within an archive, and those that archives are in, are classes and splits as a directory's are; so is the
    first word of archives called ``train-0000.tar``. In WebDataset's way, members whose names are the same up to the
    first dot are one sample: its ``.cls``, or else ``label`` in its ``.json``, is the class, where there is any.

    Parameters
    ----------
    root : str
        A directory, or an address in an object store.
    names : sequence of str
        Relative to it.
    kind : str

    Raises
    ------
    SourceError
        If an archive is damaged between its members, exceeds a limit, or holds a name that leads out of it.
    """
    listed = _each(root, names, lambda found: _Archive(list_tar(found) if kind == "tar" else list_zip(found)))
    several = len(names) > 1
    members = list(chain.from_iterable(archive.images for _, archive in listed))
    if not members:
        raise source_error("path", f"no images in {_told(names)}.")
    paths, odd = readable_names(
        [
            f"{name}/{member.name}" if several else member.name
            for name, (_, a) in zip(names, listed, strict=True)
            for member in a.images
        ]
    )
    above = _above(names)
    folders = [f"{place}{member.name}" for place, (_, a) in zip(above, listed, strict=True) for member in a.images]
    labels = [member.label for member in members]
    holders = tuple(Holder(name, *found.mark) for name, (found, _) in zip(names, listed, strict=True))
    index = np.repeat(np.arange(len(names)), [len(archive.images) for _, archive in listed])
    numbers = np.array([member[1:6] for member in members], np.int64).reshape(-1, 5)
    sizes, packed, deflated = numbers[:, 1], numbers[:, 2], numbers[:, 3] != 0
    return Listing(
        kind, root, paths, sizes, [f"{holders[i].tag} {member.crc}" for i, member in zip(index, members, strict=True)],
        {i: member.why for i, member in enumerate(members) if member.why},
        {"label": labels} if any(labels) else {}, readable_names(folders)[0],
        places=Places(holders, np.column_stack([index, numbers])),
        held=np.minimum(sizes, AT_ONCE) + np.where(deflated, sizes + packed, 0), odd_names=odd,
    )  # fmt: skip


class _Archive:
    """The images among an archive's members."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.images: list[Member] = []
        rows: dict[str, int] = {}
        labels: dict[str, dict[str, str]] = {}
        for member in members:
            if member.label:
                labels.setdefault(sample_key(normal_path(member.name)), {})[member.name[-4:]] = member.label
            if is_image_name(member.name):
                self._add(member, rows)
        for i, member in enumerate(self.images) if labels else ():
            told = labels.get(sample_key(member.name), {})
            self.images[i] = member._replace(label=told.get(".cls") or told.get("json", ""))

    def _add(self, member: Member, rows: dict[str, int]) -> None:
        name = member.name.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or ":" in name.split("/", 1)[0] or "\0" in name:
            raise Refused(f"holds {member.name[:200]!r}, which leads out of it. Make it again with relative names")
        name = normal_path(member.name)
        if any(part.startswith(".") for part in name.split("/")):
            return
        if name in rows:
            again = "stands in the archive several times, and which is meant is not known"
            self.images[rows[name]] = self.images[rows[name]]._replace(why=again)
        else:
            rows[name] = len(self.images)
            self.images.append(member._replace(name=name))


def list_tables(root: str, names: Sequence[str], images: Images) -> Listing:
    """List the images in parquet files: a row each, with its bytes, or with a path relative to the file.

    Raises
    ------
    SourceError
        If a file is damaged, exceeds a limit, or has neither a column of bytes nor one called ``path``.
    """
    listed = _each(root, names, open_table)
    tables = [table for _, table in listed]
    first = tables[0]
    for name, table in zip(names, tables, strict=True):
        if (table.column, table.texts) != (first.column, first.texts):
            raise source_error("path", f"{name} has other columns than {names[0]}.", "Give files of one table.")
    count = sum(sum(table.groups) for table in tables)
    if not 0 < count <= MOST_ROWS:
        what = f"{_told(names)} holds no rows." if not count else f"{_told(names)} holds {count:,} rows."
        raise source_error("path", what, f"At most {MOST_ROWS:,} are read." if count else "")
    columns = _text_columns(names, tables, images, count)
    if not first.column:
        if len(tables) > 1:
            raise source_error("path", "several .parquet files that list paths are not read at once.", "Give one.")
        check_paths(names[0], columns["path"])
        return Listing("files", root, tuple(columns["path"]), np.zeros(0, np.int64), [], columns=columns)
    holders = tuple(Holder(name, *found.mark) for name, (found, _) in zip(names, listed, strict=True))
    held = [_refusing(name, table.image_bytes) for name, table in zip(names, tables, strict=True)]
    groups = [(h, g, n) for h, table in enumerate(tables) for g, n in enumerate(table.groups)]
    numbers = np.concatenate([np.column_stack([np.full(n, h), np.full(n, g), np.arange(n)]) for h, g, n in groups])
    of = numbers[:, 0].tolist()
    rows = [i for table in tables for i in range(sum(table.groups))]
    paths = [str(i) if len(names) == 1 else f"{names[h]}/{i}" for h, i in zip(of, rows, strict=True)]
    tags, above = [f"{size} {tag}" for _, size, tag in holders], _above(names)
    return Listing(
        "parquet", root, tuple(paths), np.zeros(count, np.int64), [tags[h] for h in of], columns=columns,
        folders=[f"{above[h]}row" for h in of],
        classes={name: told for name in first.texts if (told := first.class_names(name))},
        places=Places(holders, numbers.astype(np.int64), first.column),
        held=np.concatenate([np.full(n, held[h][g], np.int64) for h, g, n in groups]),
    )  # fmt: skip


def _text_columns(names: Sequence[str], tables: Sequence[Table], images: Images, count: int) -> dict[str, list[str]]:
    """Return the columns that are asked for; of the others, only that they are there."""
    first = tables[0]
    asked = {option if isinstance(option, str) else "" for option in (images.labels, images.split)}
    asked |= {"label", "split"} if first.column else {"label", "split", "path"}
    if not first.column and "path" not in first.texts:
        what = f"{names[0]} has neither a column of images' bytes nor one of text called path."
        raise source_error("path", what, f"Its columns: {', '.join(first.schema.names[:20])}.")
    columns: dict[str, list[str]] = {name: [] for name in first.texts}
    for name, table in zip(names, tables, strict=True):
        for column in asked & columns.keys():
            columns[column] += _refusing(name, partial(table.read_texts, column))
    assert all(len(values) in {0, count} for values in columns.values())
    return columns


def _each(root: str, names: Sequence[str], read: Callable[[Ranges], T]) -> list[tuple[Ranges, T]]:
    """Read every file; several at once where they come over a network."""
    store: Any = open_images(root) if is_url(root) else None

    def visit(name: str) -> tuple[Ranges, T]:
        found = _refusing(name, lambda: find_ranges(root, name, store))
        return found, _refusing(name, lambda: read(found))

    if store is None:
        return [visit(name) for name in names]
    with ThreadPoolExecutor(_REMOTE_THREADS) as pool:
        return list(pool.map(visit, names))


def _refusing(name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except Refused as refused:
        raise source_error("path", f"{readable_names([name])[0][0]} {refused}.", cause=refused) from refused


def _above(names: Sequence[str]) -> list[str]:
    """Return the folders of files, and the split that the first word of all their names is."""
    folders = [name.rpartition("/")[0] for name in names]
    words = [PurePosixPath(name).name.replace(".", "-").replace("_", "-").split("-")[0].lower() for name in names]
    if not any(folders) and all(word in SPLIT_FOLDERS for word in words):
        return [f"{word}/" for word in words]
    return [f"{folder}/" if folder else "" for folder in folders]


def _told(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names):,} files"
