"""Which kind of source ``images.path`` is, and the list of its images: here, or in an object store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featpipe.images import buckets, folders
from featpipe.images.header import EXTENSIONS
from featpipe.images.holders import list_archives, list_tables
from featpipe.images.listing import Listing, list_files
from featpipe.images.manifest import MOST_BYTES, read_manifest
from featpipe.images.ranges import find_ranges, open_part
from featpipe.images.refusal import Refused, source_error
from featpipe.objects import Address, parse_url
from featpipe.reading.files import is_folder
from featpipe.spec.pipeline import Images

_AT = ("images", "path")
_KINDS = f"a manifest .csv, an image ({' '.join(sorted(EXTENSIONS))}), .parquet, .tar, .zip"


def find_local(images: Images) -> Listing:
    """List a directory, a glob, a manifest, archives, tables or an image of this machine."""
    path = Path(images.path)
    if folders.is_glob(path):
        root, (names, passed) = folders.list_glob(path)
    elif is_folder(path):
        root, (names, passed) = path, folders.list_directory(path)
    elif path.suffix.lower() == ".csv":
        return list_files(path.parent, *_manifest(path))
    else:
        _check_kind(path.name, f"{path} is not a directory, {_KINDS}, .npy or .zarr.")
        root, names, passed = path.parent, [path.name], ""
    kind = folders.holder_kind(names[0])
    if kind == "parquet":
        listing = list_tables(str(root), names, images)
        # A table of paths is a manifest
        return listing if listing.kind == "parquet" else list_files(root, listing.paths, listing.columns)
    return list_archives(str(root), names, kind) if kind else replace(list_files(root, names), passed=passed)


def _manifest(path: Path) -> tuple[Sequence[str], Mapping[str, Sequence[str]]]:
    try:
        found = find_ranges(str(path.parent), path.name)
        if found.mark.size > MOST_BYTES:
            raise Refused(f"has {found.mark.size:,} bytes, more than {MOST_BYTES:,}")
        with open_part(found, 0, found.mark.size) as file:
            columns = read_manifest(path.name, file)
    except Refused as refused:
        raise source_error("path", f"{path} {refused}.", cause=refused) from refused
    return columns["path"], columns


def find_remote(images: Images) -> Listing:
    """List a prefix, a glob, a manifest, archives, tables or an image of an object store."""
    address = parse_url(images.path, _AT)
    prefix, pattern = folders.before_magic(address.prefix)
    folder, _, name = address.prefix.rpartition("/")
    parent = address._replace(prefix=folder)
    if pattern:
        address = address._replace(prefix=prefix)
        marks = buckets.list_marks(str(address))
        names, passed = folders.choose_names(folders.match_names(marks, pattern), f"match {pattern} at {address}")
    elif name.lower().endswith(".csv"):
        return _remote_manifest(parent, name)
    elif _is_one(name):
        _check_kind(name, "")
        address, names, marks, passed = parent, [name], {}, ""
    else:
        marks = buckets.list_marks(str(address))
        shown = [known for known in marks if not any(part.startswith(".") for part in known.split("/"))]
        names, passed = folders.choose_names(shown, f"at {address}")
    kind = folders.holder_kind(names[0])
    if kind == "parquet":
        listing = list_tables(str(address), names, images)
        return listing if listing.kind == "parquet" else _named(address, listing.paths, listing.columns)
    if kind:
        return list_archives(str(address), names, kind)
    listing = buckets.list_objects(address, marks or buckets.find_marks(address, names), names)
    return replace(listing, passed=passed)


def _remote_manifest(folder: Address, name: str) -> Listing:
    url = f"{folder}/{name}"
    try:
        columns = read_manifest(name, buckets.read_object(url, MOST_BYTES))
    except Refused as refused:
        raise source_error("path", f"{url} {refused}.", cause=refused) from refused
    return _named(folder, columns["path"], columns)


def _named(folder: Address, names: Sequence[str], columns: Mapping[str, Sequence[str]] | None) -> Listing:
    return buckets.list_objects(folder, buckets.find_marks(folder, names), names, columns)


def _is_one(name: str) -> bool:
    """Tell whether the last part of an address means one object, and not all that begin with it."""
    ending = Path(name).suffix.lower()
    return bool(folders.holder_kind(name)) or ending in {*EXTENSIONS, ".npy"} or name.lower().endswith(folders.PACKED)


def _check_kind(name: str, what: str) -> None:
    """Refuse a file that is no source."""
    if name.lower().endswith(folders.PACKED):
        raise source_error("path", f"{name} is a compressed archive.", folders.packed_advice(name))
    if name.lower().endswith(".npy"):
        raise source_error(
            "path", f"{name} is not read from an object store.", "Download it, or make it a .zarr there."
        )
    if not folders.holder_kind(name) and Path(name).suffix.lower() not in EXTENSIONS:
        raise source_error("path", what)
