"""Small feature stacks with classes that a linear classifier can tell apart, more or less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.kernels.bank import Labels
from featpipe.plan.collection import Collection
from featpipe.plan.model import ArrayPlan, MapPlan
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.write import StoreWriter

Floats = npt.NDArray[np.float64]
Maps = Mapping[str, npt.NDArray[np.float32]]


def write_stack(
    path: Path,
    maps: Maps,
    labels: Sequence[int] | npt.NDArray[Any],
    splits: Sequence[int] | npt.NDArray[Any],
    *,
    classes: Sequence[str] = ("ant", "bee", "cat", "dog"),
    split_names: Sequence[str] = ("train", "test"),
    failed: Sequence[int] = (),
    finish: bool = True,
    shard: int = 48,
    chunk: int = 8,
) -> Path:
    """Write a store of maps (n, y, x, feature) by the package's own writer."""
    n = len(labels)
    collection = Collection(
        kind="files",
        root="/pictures",
        paths=tuple(f"{i}.png" for i in range(n)),
        labels=np.asarray(labels, np.int64),
        classes=tuple(classes),
        splits=np.asarray(splits, np.int8),
        split_names=tuple(split_names),
        heights=np.full(n, 8),
        widths=np.full(n, 8),
        channels=("gray",),
        decoded_bytes=np.zeros(n, np.int64),
        regions=False,
        digest="bb",
        unreadable={},
    )
    pairs = [_plans(name, values.shape, shard, chunk) for name, values in maps.items()]
    digests = {"pipeline": "aa", "images": "bb", "pieces": "cc"}
    create_store(LocalPlace(path), pairs, collection, {"pipeline": {"store": {"dtype": "float32"}}, "digests": digests})
    writer = StoreWriter(LocalPlace(path))
    for name, values in maps.items():
        stored = values.copy()
        stored[list(failed)] = np.nan
        for start in range(0, n, shard):
            rows = slice(start, min(n, start + shard))
            writer.write(name, (rows,), stored[rows])
    if finish:
        writer.finish(dict.fromkeys(failed, "truncated"))
    return path


def _plans(name: str, shape: tuple[int, ...], shard: int, chunk: int) -> tuple[MapPlan, ArrayPlan]:
    features: tuple[Labels, ...] = tuple({"bank": "some", "index": i} for i in range(shape[3]))
    a_map = MapPlan(name, name.split("/", 1)[0], 1, 0, features, None, stacked=True, batched=True)
    y, x = np.arange(shape[1], dtype=np.float64), np.arange(shape[2], dtype=np.float64)
    array = ArrayPlan(name, shape, (chunk, *shape[1:]), (shard, *shape[1:]), y, x, relative=True)
    return a_map, array


def draw(
    n: int, features: int, classes: int = 4, seed: int = 0
) -> tuple[Maps, npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Return two maps, classes and splits: means that differ by class, features alike, of very different scales."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    splits = (random.random(n) < 0.3).astype(np.int8)
    latent = random.normal(size=(classes, 6))[labels] + 1.5 * random.normal(size=(n, 6))
    values = latent @ random.normal(size=(6, 6 * features)) + 2 * random.normal(size=(n, 6 * features))
    values = values * 10.0 ** random.uniform(-3, 3, 6 * features) + 50.0
    values[:, 3] = 7.1  # the same everywhere
    first, second = np.split(values.astype(np.float32), [4 * features], axis=1)
    maps = {"a/scale1": first.reshape(n, 2, 2, features), "b/scale1": second.reshape(n, 2, 1, features)}
    return maps, labels, splits


def flat(maps: Maps) -> Floats:
    """Return the matrix that a store of the maps stands for."""
    return np.concatenate([values.reshape(len(values), -1) for values in maps.values()], axis=1).astype(np.float64)
