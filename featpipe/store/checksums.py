"""Size and SHA-256 of every file of a complete store, so that it is whole or says that it is not.

Two files are in no list, for they change with it: the root's ``zarr.json`` and that of the group ``checksums`` carry
seals of their own. The group also keeps a second copy of the store's header, as its receipts keep one of the names and
failures of its images, and it one of theirs: of anything that is lost, the other copy says what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from featpipe.errors import FeatpipeError
from featpipe.store.create import add_array, encode_group, open_sealed, texts
from featpipe.store.format import FEATURES, NODE
from featpipe.store.place import Place
from featpipe.store.root import CHECKSUMS
from featpipe.store.seal import READERS, SEAL, Sum, read_sealed, sum_of, write_sealed

FOUND = "damage.json"
AHEAD = 256
"""Files that are under way at once, at most."""


@dataclass(frozen=True)
class Checksums:
    """What a complete store's files were when it was finished."""

    sums: Mapping[str, Sum]
    header: dict[str, Any]
    """Of the store."""


def write_checksums(place: Place, sums: Mapping[str, Sum], header: Mapping[str, Any]) -> None:
    """Write what every file of a complete store is.

    Parameters
    ----------
    place : Place
    sums : mapping of str to Sum
        Of every file but the root's metadata.
    header : mapping
        As it will be in the root.
    """
    keys = sorted(sums)

    def build(group: zarr.Group) -> None:
        add_array(group, "key", texts(keys), "file")
        add_array(group, "bytes", np.array([sums[key].bytes for key in keys], np.int64), "file")
        add_array(group, "sha256", texts(sums[key].sha256 for key in keys), "file")

    copy = {key: value for key, value in header.items() if key != SEAL}
    write_sealed(place, CHECKSUMS, encode_group(build), {"header": copy})


def read_checksums(place: Place) -> Checksums | None:
    """Return the checksums of a store; None where it has none, or they are not as they were written."""
    found = read_sealed(place, CHECKSUMS)
    if found is None:
        return None
    group: Any = open_sealed(found)
    columns = [np.asarray(group[name][...]).tolist() for name in ("key", "bytes", "sha256")]
    sums = {key: Sum(size, sha256) for key, size, sha256 in zip(*columns, strict=True)}
    return Checksums(sums, dict(found.facts["header"]))


def is_shard(key: str) -> bool:
    """Return whether a key is one of a shard of features."""
    return f"/{FEATURES}/c/" in key


def is_visible(key: str) -> bool:
    """Return whether zarr may read a file of this name: metadata and chunks."""
    return key.endswith(f"/{NODE}") or "/c/" in key


def is_listed(key: str) -> bool:
    """Return whether a file of this name belongs into a store's checksums."""
    return "/" in key and not key.startswith(f"{CHECKSUMS}/") and is_visible(key)


def differing(place: Place, sums: Mapping[str, Sum], keys: Iterable[str], threads: int = READERS) -> Iterator[str]:
    """Yield the keys whose content is not what it was, or cannot be read."""

    def differs(key: str) -> bool:
        try:
            content = place.read(key)
        except FeatpipeError:
            return True
        return content is None or sum_of(content) != sums[key]

    listed = list(keys)
    if len(listed) <= AHEAD and sum(sums[key].bytes for key in listed) < 1 << 24:
        yield from filter(differs, listed)
        return
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(listed), AHEAD):
            part = listed[start : start + AHEAD]
            yield from (key for key, other in zip(part, pool.map(differs, part), strict=True) if other)


class Findings:
    """What ``featpipe verify`` found damaged, beside the store, so that the next run looks at just that by content.

    Parameters
    ----------
    place : Place
        Of the store.
    """

    def __init__(self, place: Place) -> None:
        self.place = place.beside

    def read(self) -> dict[str, Sum | None]:
        """Return the keys that were found damaged, and what they were where that is known."""
        found: dict[str, Sum | None] = {}
        try:
            files = json.loads(self.place.read(FOUND) or b"{}").get("files", {})
            for key, one in files.items():
                found[key] = None if one is None else Sum(int(one[0]), str(one[1]))
        except (FeatpipeError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return {}
        return found

    def write(self, damaged: Mapping[str, Sum | None]) -> None:
        """Keep what is damaged, or forget what was."""
        if damaged:
            self.place.write(FOUND, [json.dumps({"files": {key: damaged[key] for key in sorted(damaged)}}).encode()])
        elif self.place.modified(FOUND) is not None:
            self.place.remove([FOUND])
            self.place.tidy()
