"""Which images of a store that is not complete have all of their features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.geometry.grid import ceil_div
from featpipe.store.format import FEATURES
from featpipe.store.place import Place
from featpipe.store.receipts import Receipt
from featpipe.store.shard import read_layout


def finished_images(
    place: Place, maps: Iterable[Mapping[str, Any]], receipts: Iterable[Receipt], count: int
) -> npt.NDArray[np.bool_]:
    """Return which images have been computed whole, by the receipts of their shards, and have not failed.

    Parameters
    ----------
    place : Place
        Of the store.
    maps : iterable of mapping
        As the header lists them.
    receipts : iterable of Receipt
    count : int
        Images of the store.

    Returns
    -------
    (count,) bool
    """
    stacked = {str(one["name"]): bool(one["stacked"]) for one in maps}
    there = {name: np.zeros(count, np.bool_) for name in stacked}
    written: Counter[tuple[str, int]] = Counter()
    failed: set[int] = set()
    for receipt in receipts:
        failed |= (receipt.failures or {}).keys()
        if receipt.map not in there or receipt.images[1] > count:
            continue
        if receipt.block is None:
            there[receipt.map][slice(*receipt.images)] = True
        else:
            written[receipt.map, receipt.images[0]] += len(receipt.shards)
    for (name, image), shards in written.items():
        there[name][image] = shards >= _shards_of(place, name, image, stacked=stacked[name])
    done = np.logical_and.reduce(list(there.values())) if there else np.zeros(count, np.bool_)
    done[[image for image in failed if image < count]] = False
    return done


def _shards_of(place: Place, name: str, image: int, *, stacked: bool) -> float:
    """Return how many shards hold one image's map; infinity where that is not known."""
    layout = read_layout(place, f"{name}/{FEATURES}" if stacked else f"images/{image}/{name}/{FEATURES}")
    if layout is None:
        return float("inf")
    return prod(ceil_div(length, edge) for length, edge in zip(layout.shape[-3:], layout.shard[-3:], strict=True))
