"""Reading a manifest: a CSV file with a row per image."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import BinaryIO

from featpipe.errors import Problem, SourceError
from featpipe.images.refusal import MOST_PROBLEMS, nearest, source_error, source_problem

MOST_BYTES = 512 * 2**20
"""Of a manifest."""
MOST_ROWS = 5_000_000


def read_manifest(name: str, file: BinaryIO) -> dict[str, list[str]]:
    """Return the columns of a manifest; ``path`` is one of them, relative to the manifest's directory.

    The file is UTF-8 (a byte order mark may stand before it), its first row names the columns. Paths that are absolute
    or lead out of the manifest's directory are refused: a list from somewhere else must not read just any file.
    """
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), skipinitialspace=True, strict=True)
    problems: list[Problem] = []
    columns: dict[str, list[str]] = {}
    try:
        for row in reader:
            if not row:
                continue
            if not columns:
                columns = {column: [] for column in _check_header(name, [column.strip() for column in row])}
                continue
            problems += _row_problems(name, columns, reader.line_num, row)
            if len(problems) >= MOST_PROBLEMS:
                break
            for values, value in zip(columns.values(), row, strict=False):
                values.append(value)
            if len(columns["path"]) > MOST_ROWS:
                raise source_error("path", f"{name} lists more than {MOST_ROWS:,} images.", "Make several of it.")
    except OSError as error:
        raise source_error("path", f"{name} cannot be read ({error.strerror}).", cause=error) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise source_error("path", f"{name} is not a CSV file in UTF-8 ({error}).") from error
    if problems:
        raise SourceError(problems[:MOST_PROBLEMS])
    if not columns:
        raise source_error("path", f"{name} is empty.", "Its first row names the columns; path is one of them.")
    if not columns["path"]:
        raise source_error("path", f"{name} lists no images, only its columns.")
    columns["path"] = [normal_path(path) for path in columns["path"]]
    return columns


def check_paths(name: str, paths: list[str]) -> None:
    """Refuse paths of a table as those of a manifest are; normalise the others, in place."""
    problems = []
    for i, path in enumerate(paths):
        if why := _unsafe(path):
            problems.append(source_problem("path", f"{name} row {i + 1}: {path[:200]!r} {why}."))
            if len(problems) == MOST_PROBLEMS:
                break
        paths[i] = normal_path(path)
    if problems:
        raise SourceError(problems)


def normal_path(path: str) -> str:
    """Return a relative path without ``.`` and doubled slashes, POSIX-style."""
    return os.path.normpath(path).replace(os.sep, "/")


def _check_header(manifest: str, names: list[str]) -> list[str]:
    if "path" not in names:
        split = "Separate the columns by commas." if len(names) == 1 and any(c in names[0] for c in ";\t") else ""
        hint = split or nearest("path", names) or "Call the column with the files' paths so."
        raise source_error("path", f"{manifest} has no column path; its first row reads: {', '.join(names)}.", hint)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise source_error("path", f"{manifest} has several columns {twice!r}.")
    return names


def _row_problems(manifest: str, columns: dict[str, list[str]], line: int, row: list[str]) -> list[Problem]:
    if len(row) != len(columns):
        what = f"{manifest} line {line} has {len(row)} fields, the first row {len(columns)}."
        return [source_problem("path", what)]
    path = row[list(columns).index("path")]
    if why := _unsafe(path):
        return [source_problem("path", f"{manifest} line {line}: {path[:200]!r} {why}.")]
    return []


def _unsafe(name: str) -> str:
    if not name or "\0" in name:
        return "is no path"
    if name.startswith(("/", "\\", "~")) or os.path.isabs(name):  # noqa: PTH117 - a string, often 100,000 of them
        return "is absolute; paths are relative to the manifest's directory"
    if ".." in name and Path(os.path.normpath(name)).parts[0] == "..":
        return "leads out of the manifest's directory"
    return ""
