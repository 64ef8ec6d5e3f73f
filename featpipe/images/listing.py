"""The images of a source before any header is read: names, sizes, where they lie, and what is told of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from featpipe.images.files import stat_files
from featpipe.plan.collection import Places


@dataclass(frozen=True, eq=False)
class Listing:
    """A row per image."""

    kind: Literal["files", "objects", "tar", "zip", "parquet"]
    root: str
    paths: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    """(n,) of the encoded images, in bytes."""
    tags: Sequence[int | str]
    """What changes with the content of each: a time in ns, a checksum, an entity tag."""
    missing: Mapping[int, str] = field(default_factory=dict)
    """Images that cannot be read, and why."""
    columns: Mapping[str, Sequence[str]] | None = None
    """What a table tells of each image."""
    folders: Sequence[str] | None = None
    """Paths whose folders are classes and splits, where ``paths`` are not and the columns do not tell."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of all classes by column, in the order of their numbers, where the source tells them."""
    places: Places | None = None
    held: npt.NDArray[np.int64] | None = None
    """(n,) bytes that reading an image holds in memory beside what its decoder takes."""
    odd_names: dict[int, str] = field(default_factory=dict)
    passed: str = ""
    """What other files there are, in words."""


def list_files(root: Path, names: Sequence[str], columns: Mapping[str, Sequence[str]] | None = None) -> Listing:
    """Look at every file; those of a manifest, which has columns, must not lead out of ``root``."""
    facts = stat_files(root, names, confined=columns is not None)
    rows = [facts[name] for name in names]
    paths, odd = readable_names(names)
    return Listing(
        "files", str(root), paths, np.array([fact.bytes for fact in rows], np.int64), [fact.time for fact in rows],
        {i: fact.missing for i, fact in enumerate(rows) if fact.missing}, columns, odd_names=odd,
    )  # fmt: skip


def readable_names(names: Sequence[str]) -> tuple[tuple[str, ...], dict[int, str]]:
    r"""Return names that are UTF-8, and by row those that were not.

    Examples
    --------
    >>> readable_names(["caf\udce9.png"])
    (('caf\\xe9.png',), {0: 'caf\udce9.png'})
    """
    try:
        "\n".join(names).encode()
    except UnicodeEncodeError:
        pass
    else:
        return tuple(names), {}
    shown = [_shown(name) for name in names]
    odd = {i: name for i, name in enumerate(names) if shown[i] != name}
    taken = {name for i, name in enumerate(names) if i not in odd}
    known: dict[str, str] = {}
    for i, name in odd.items():
        if name not in known:
            while shown[i] in taken:
                shown[i] = _beside(shown[i])
            taken.add(shown[i])
            known[name] = shown[i]
        shown[i] = known[name]
    return tuple(shown), odd


def _shown(name: str) -> str:
    if name.isascii():
        return name
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _beside(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}_{dot}{ending}"
