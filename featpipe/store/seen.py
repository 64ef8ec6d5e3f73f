"""What the images of a store were when a run last looked: sizes and times, and the content that went with them.

It lies beside the store and saves looking again: an image that still has its size and time still has its content. While
a run is on, its journal holds it, line by line. Nothing depends on it: where it is missing, contents are compared.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.store.place import Place

KEY = "stamps.npz"


class Seen(NamedTuple):
    """One image as it was seen."""

    name: str
    size: int
    tag: int
    """Its time in ns, or the number of its entity tag."""
    content: str


def write_stamps(place: Place, names: Sequence[str], contents: Sequence[str], stamps: npt.NDArray[np.int64]) -> None:
    """Keep the sizes and times that the images of a complete store had.

    Parameters
    ----------
    place : Place
        Of the store.
    names, contents : sequence of str
        Its arrays ``path`` and ``content``.
    stamps : (n, 2) int64
    """
    file = io.BytesIO()
    np.savez_compressed(file, of=np.frombuffer(_digest(names, contents), np.uint8), stamps=stamps)
    place.beside.write(KEY, [file.getvalue()])


def read_stamps(place: Place, names: Sequence[str], contents: Sequence[str]) -> list[Seen]:
    """Return the images of a complete store as they were seen; none where that is of other images, or not known."""
    content = place.beside.read(KEY)
    if content is None:
        return []
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            of, stamps = held["of"], held["stamps"]
    except Exception:  # a damaged archive fails in many ways
        return []
    if of.tobytes() != _digest(names, contents) or stamps.shape != (len(names), 2) or stamps.dtype != np.int64:
        return []
    facts = zip(names, stamps.tolist(), contents, strict=True)
    return [Seen(name, size, tag, content) for name, (size, tag), content in facts]


def _digest(names: Sequence[str], contents: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join([*names, *contents]).encode(errors="surrogateescape")).digest()
