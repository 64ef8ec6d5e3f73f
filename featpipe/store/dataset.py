"""A store's images one by one, in the form that torch's DataLoader takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.store.place import Place
from featpipe.store.read import Indices, StoredMap

Item = tuple[npt.NDArray[np.float32], int]
"""The features of an image, and its class: an index into ``classes``, -1 for none."""


class Dataset:
    """Features and class of every image of a stack, read when asked for.

    It is a map-style dataset for torch, and needs no torch. A process opens the store when it first
    reads; nothing that is open is pickled. Workers are best started by ``spawn`` or
    ``forkserver``: a fork copies locks that other threads of the parent may hold at that instant.

    Parameters
    ----------
    place : Place
    maps : mapping of str to array of int, or None
        Stacked maps, and the features chosen from each; None for all.
    rows : (n,) int
        Images.
    labels : (n,) int64
    flat : bool
        Whether to give all maps as one row of `Stack.xy`, (d,), rather than the one map as (y, x, feature).

    Examples
    --------
    ``DataLoader(stack.dataset("train"), 64, shuffle=True, num_workers=4, multiprocessing_context="spawn")``
    """

    def __init__(
        self,
        place: Place,
        maps: Mapping[str, Indices | None],
        rows: Indices,
        labels: npt.NDArray[np.int64],
        *,
        flat: bool,
    ) -> None:
        self.rows = rows
        self.labels = labels
        self._place = place
        self._maps = dict(maps)
        self._flat = flat
        self._opened: list[StoredMap] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Item:
        """Return features and class of an image by its place in the dataset."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return several images at once, as torch asks for a batch: a chunk that they share is read once."""
        at = np.asarray(indices, np.intp).reshape(-1)
        if at.size and not (-len(self) <= at.min() and at.max() < len(self)):
            raise IndexError(
                f"the dataset has {len(self)} images, index {at[(at < -len(self)) | (at >= len(self))][0]}."
            )
        wanted, which = np.unique(self.rows[at], return_inverse=True)
        values = self._read(wanted)
        return [(values[one].copy(), int(label)) for one, label in zip(which, self.labels[at], strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __repr__(self) -> str:
        return f"<Dataset {self._place}: {len(self)} images, {', '.join(self._maps)}>"

    def _read(self, rows: Indices) -> npt.NDArray[np.float32]:
        """Return the features of some images, ascending; (n, d), or (n, y, x, feature)."""
        if not len(rows):
            return np.empty((0, 0), np.float32)
        low, high = int(rows[0]), int(rows[-1]) + 1
        key: Any = slice(low, high) if high - low == len(rows) else rows
        parts = [np.asarray(one[key], np.float32) for one in self._open()]
        return np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=1) if self._flat else parts[0]

    def _open(self) -> list[StoredMap]:
        """Return the maps as this process has opened them."""
        if self._opened is None:
            root = zarr.open_group(self._place.open_zarr(), mode="r")
            groups: dict[str, Any] = {name: root[name] for name in self._maps}
            self._opened = [StoredMap(groups[name], name, chosen) for name, chosen in self._maps.items()]
        return self._opened
