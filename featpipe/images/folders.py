"""Listing the image files of a directory tree or of a glob."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from featpipe.errors import SourceError
from featpipe.images.header import EXTENSIONS
from featpipe.images.refusal import nearest, source_error
from featpipe.reading.files import exists, is_folder, list_folder
from featpipe.reading.retry import is_transient, retry

_MAGIC = frozenset("*?[")


class Chosen(NamedTuple):
    """The images among the files of a place, or the files that hold images."""

    names: list[str]
    passed: str = ""
    """What other files there are, in words."""


def is_glob(path: Path) -> bool:
    """Tell whether a path has wildcards and is no file or directory that happens to be called so."""
    return not _MAGIC.isdisjoint(str(path)) and not exists(path)


def list_directory(root: Path) -> Chosen:
    """Return the image files below ``root``, relative and sorted; hidden ones are left out.

    Where there are none, the files of one kind that hold images are returned instead: .parquet, .tar or .zip.
    """
    return choose_names(list(_walk(root)), f"in {root}")


def choose_names(files: list[str], where: str) -> Chosen:
    """Return the images among files, sorted, or the files of one kind that hold images."""
    found = sorted(name for name in files if is_image_name(name))
    kinds = Counter(kind for name in files if (kind := holder_kind(name)))
    if not found and len(kinds) == 1:
        found = sorted(name for name in files if holder_kind(name))
    if not found:
        packed = next((name for name in files if name.lower().endswith(PACKED)), "")
        what = f"no images {where}: {_instead(files)}."
        raise source_error("path", what, packed_advice(packed) if packed else _LOOKED_FOR)
    return Chosen(found, _others(files, found))


def holder_kind(name: str) -> Literal["tar", "zip", "parquet", ""]:
    """Tell by the extension what a file that holds images is; nothing for any other."""
    kinds: dict[str, Literal["tar", "zip", "parquet"]] = {".tar": "tar", ".zip": "zip", ".parquet": "parquet"}
    return kinds.get(os.path.splitext(name)[1].lower(), "")  # noqa: PTH122


PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tbz2", ".txz")


def packed_advice(name: str) -> str:
    """Return what to do with a compressed archive, of which no part can be read alone."""
    return f"{PurePath(name).name} can be read only from its beginning: unpack it to a .tar first (gunzip, unxz, …)."


def list_glob(pattern: Path) -> tuple[Path, Chosen]:
    """Return the directory above a glob's first wildcard, and the image files that match, relative to it, sorted.

    ``*``, ``?`` and ``[...]`` stay within a name and skip hidden files; ``**`` spans any number of folders.
    """
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if not _MAGIC.isdisjoint(part))
    root, wanted = Path(*parts[:fixed]), parts[fixed:]
    if not is_folder(root):
        raise missing(root)
    depth = None if "**" in wanted else len(wanted)
    files = [name for name in _walk(root, depth) if _matches(PurePath(name).parts, wanted)]
    if not files:
        raise source_error("path", f"no images match {pattern}: no file matches.", _LOOKED_FOR)
    return root, choose_names(files, f"match {pattern}")


def match_names(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that match a glob relative to the same place; hidden ones do not."""
    wanted = PurePath(pattern).parts
    parts = ((name, PurePath(name).parts) for name in names)
    return [name for name, found in parts if not any(p.startswith(".") for p in found) and _matches(found, wanted)]


def before_magic(pattern: str) -> tuple[str, str]:
    """Split a glob after the last folder before its first wildcard."""
    parts = pattern.split("/")
    fixed = next((i for i, part in enumerate(parts) if not _MAGIC.isdisjoint(part)), len(parts))
    return "/".join(parts[:fixed]), "/".join(parts[fixed:])


def missing(path: Path) -> SourceError:
    """Return the error for a path that does not exist, with the nearest name that does."""
    if path.is_symlink():
        return source_error("path", f"{path} is a link that leads nowhere, to {path.readlink()}.", "Mend the link.")
    parent = path
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    lost = path.relative_to(parent).parts[0] if path != parent else path.name
    try:
        hint = nearest(lost, _sources(parent)) if parent.is_dir() else f"{parent} is a file."
    except OSError:
        hint = ""
    return source_error("path", f"no such file or directory: {path}.", hint)


def _sources(folder: Path) -> Iterator[str]:
    """Give the names in a folder that images may be read from."""
    for entry in folder.iterdir():
        known = is_image_name(entry.name) or holder_kind(entry.name) or entry.suffix.lower() in {".csv", ".npy"}
        if known or entry.is_dir():
            yield entry.name


def is_image_name(name: str) -> bool:
    """Tell by the extension, in either case, whether a file counts as an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a tenth of pathlib's time


_LOOKED_FOR = f"Files with these extensions are images: {' '.join(sorted(EXTENSIONS))}."


def _instead(files: list[str]) -> str:
    if not files:
        return "it holds no files"
    return f"it holds {len(files):,} other files ({_kinds_text(files)})"


def _others(files: list[str], chosen: list[str]) -> str:
    count = len(files) - len(chosen)
    if not count:
        return ""
    verb = "file that is no image by its name is" if count == 1 else "files that are no images by their names are"
    return f"{count:,} {verb} passed over: {_kinds_text(set(files) - set(chosen))}"


def _kinds_text(files: Iterable[str]) -> str:
    kinds = Counter(PurePath(name).suffix.lower() or "no extension" for name in files)
    most = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common(5))
    return f"{most}, …" if len(kinds) > 5 else most


def _walk(root: Path, depth: int | None = None) -> Iterator[str]:
    """Yield the files below ``root``, POSIX-style; links to folders are followed unless they lead back up."""
    yield from _walk_folder(str(root), "", depth, (os.path.realpath(root),))


def _walk_folder(folder: str, prefix: str, depth: int | None, above: tuple[str, ...]) -> Iterator[str]:
    try:
        entries = [entry for entry in list_folder(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise source_error("path", f"{folder} cannot be listed ({error.strerror}).", cause=error) from error
    for entry in entries:
        name = prefix + entry.name
        if _leads_to(entry.is_dir):
            real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}{os.sep}{entry.name}"
            circle = entry.is_symlink() and any(f"{folder}{os.sep}".startswith(f"{real}{os.sep}") for folder in above)
            if not circle and (depth is None or depth > 1):
                yield from _walk_folder(entry.path, f"{name}/", depth and depth - 1, (*above, real))
        elif _leads_to(entry.is_file) or entry.is_symlink():  # a link to nothing is reported as a missing image
            yield name


def _leads_to(is_kind: Callable[[], bool]) -> bool:
    """Ask what an entry is; a link in a circle is nothing."""
    try:
        return retry(is_kind)
    except OSError as error:
        if is_transient(error):
            raise source_error("path", f"cannot be listed whole ({error.strerror}).", cause=error) from error
        return False


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
