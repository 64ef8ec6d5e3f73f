"""Reading a manifest: a CSV file with a row per image."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from featpipe.errors import Problem, SourceError
from featpipe.images.refusal import MOST_PROBLEMS, nearest, source_error, source_problem


def read_manifest(path: Path) -> dict[str, list[str]]:
    """Return the columns of a manifest; ``path`` is one of them, relative to the manifest's directory.

    The file is UTF-8 (a byte order mark may stand before it), its first row names the columns. Paths that are absolute
    or lead out of the manifest's directory are refused: a list from somewhere else must not read just any file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise source_error("path", f"{path} cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise source_error("path", f"{path.name} is not a CSV file in UTF-8 ({error}).") from error
    if not rows:
        raise source_error("path", f"{path.name} is empty.", "Its first row names the columns; path is one of them.")
    names = [name.strip() for name in rows[0][1]]
    _check_header(path.name, names)
    problems = _row_problems(path.name, names, rows[1:])
    if problems:
        raise SourceError(problems[:MOST_PROBLEMS])
    if len(rows) == 1:
        raise source_error("path", f"{path.name} lists no images, only its columns.")
    columns = {name: [row[i] for _, row in rows[1:]] for i, name in enumerate(names)}
    columns["path"] = [os.path.normpath(name).replace(os.sep, "/") for name in columns["path"]]
    return columns


def _check_header(manifest: str, names: list[str]) -> None:
    if "path" not in names:
        hint = nearest("path", names) or "Call the column with the files' paths so."
        raise source_error("path", f"{manifest} has no column path; its first row reads: {', '.join(names)}.", hint)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise source_error("path", f"{manifest} has several columns {twice!r}.")


def _row_problems(manifest: str, names: list[str], rows: list[tuple[int, list[str]]]) -> list[Problem]:
    problems = []
    column = names.index("path")
    for line, row in rows:
        if len(row) != len(names):
            problems.append(
                source_problem("path", f"{manifest} line {line} has {len(row)} fields, the first row {len(names)}.")
            )
        elif why := _unsafe(row[column]):
            problems.append(source_problem("path", f"{manifest} line {line}: {row[column]!r} {why}."))
    return problems


def _unsafe(name: str) -> str:
    if not name or "\0" in name:
        return "is no path"
    if name.startswith(("/", "\\", "~")) or os.path.isabs(name):  # noqa: PTH117 - a string, often 100,000 of them
        return "is absolute; paths are relative to the manifest's directory"
    if ".." in name and Path(os.path.normpath(name)).parts[0] == "..":
        return "leads out of the manifest's directory"
    return ""
