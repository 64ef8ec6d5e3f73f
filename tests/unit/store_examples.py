"""Small plans made by hand, and the stores made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.geometry.window import Window
from featpipe.kernels.bank import Labels
from featpipe.plan.collection import Collection
from featpipe.plan.model import ArrayPlan, MapPlan
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.write import StoreWriter

Values = npt.NDArray[np.float32]
N = 7
BAD = 4
DIGESTS = {"pipeline": "aa", "images": "bb", "pieces": "cc"}
GABOR: tuple[Labels, ...] = (
    {"bank": "gabor", "frequency": 0.1, "orientation": 0.0, "channel": "red"},
    {"bank": "gabor", "frequency": 0.1, "orientation": 45.0, "channel": "red"},
    {"bank": "gabor", "frequency": 0.1 + 0.2, "orientation": 0.0, "channel": "green"},
    {"bank": "gabor", "frequency": 0.1 + 0.2, "orientation": 45.0, "channel": "green"},
    {"bank": "plain box", "size": 3, "channel": "red"},
    {"bank": "plain box", "size": 5},
)
POOLED: tuple[Labels, ...] = tuple({"bank": "log", "sigma": s, "polarity": p} for s in (1.0, 2.0) for p in (1, -1))
WINDOWS = (Window(9, 2, -3), Window(9, 2, -3))
TEXTURE = MapPlan("texture/scale1", "texture", 1, 0, GABOR, WINDOWS, stacked=True, batched=True)
CORNERS = MapPlan("corners/kept/scale2", "corners", 2, 1, POOLED, None, stacked=True, batched=True)
OWN = MapPlan("own/scale1", "own", 1, 2, POOLED, WINDOWS, stacked=False, batched=False)


def make_collection(n: int = N, **changes: Any) -> Collection:
    heights = np.full(n, 11, np.int64)
    if n > BAD:
        heights[BAD] = 0
    facts: dict[str, Any] = {
        "kind": "files",
        "root": "/pictures",
        "paths": tuple(f"class {i % 2}/{i}.png" for i in range(n)),
        "labels": np.arange(n, dtype=np.int64) % 2,
        "classes": ("cat", "tabby"),
        "splits": (np.arange(n) % 3 == 0).astype(np.int8),
        "split_names": ("train", "test"),
        "heights": heights,
        "widths": heights + 2 * (heights > 0),
        "channels": ("red", "green"),
        "decoded_bytes": np.zeros(n, np.int64),
        "regions": False,
        "digest": "bb",
        "unreadable": {BAD: "no size"} if n > BAD else {},
    }
    return Collection(**{**facts, **changes})


def texture_array(n: int = N, chunk: tuple[int, ...] = (1, 3, 5, 6)) -> ArrayPlan:
    y, x = np.arange(1.0, 9, 2), np.arange(1.0, 11, 2)
    return ArrayPlan("texture/scale1", (n, 4, 5, 6), chunk, (3, 6, 5, 6), y, x, relative=False)


def corners_array(n: int = N) -> ArrayPlan:
    cells = np.array([0.25, 0.75])
    return ArrayPlan("corners/kept/scale2", (n, 2, 2, 4), (4, 2, 2, 4), (4, 2, 2, 4), cells, cells, relative=True)


def own_array(image: int) -> ArrayPlan:
    y, x = np.arange(3.0 + image), np.arange(4.0)
    return ArrayPlan(f"images/{image}/own/scale1", (3 + image, 4, 4), (2, 2, 4), (2, 4, 4), y, x, relative=False)


def attributes(dtype: str = "float32", **digests: str) -> dict[str, Any]:
    return {"pipeline": {"store": {"dtype": dtype}}, "digests": {**DIGESTS, **digests}}


def stacked_pairs() -> list[tuple[MapPlan, ArrayPlan]]:
    return [(TEXTURE, texture_array()), (CORNERS, corners_array())]


def own_pairs() -> list[tuple[MapPlan, ArrayPlan]]:
    return [(OWN, own_array(image)) for image in range(N) if image != BAD]


def draw(array: ArrayPlan, seed: int = 0) -> Values:
    values = np.random.default_rng(seed).normal(size=array.shape).astype(np.float32)
    if len(array.shape) == 4:
        values[BAD] = np.nan
    return values


def make_stacked(path: Path, *, finish: bool = True) -> dict[str, Values]:
    """Write a store of two stacked maps, shard by shard; return the values."""
    create_store(LocalPlace(path), stacked_pairs(), make_collection(), attributes())
    writer = StoreWriter(LocalPlace(path))
    values = {}
    for _, array in stacked_pairs():
        values[array.group] = draw(array)
        for start in range(0, N, array.shard[0]):
            rows = slice(start, min(N, start + array.shard[0]))
            writer.write(array.group, (rows,), values[array.group][rows])
    if finish:
        writer.finish({BAD: "truncated"})
    return values


def make_own(path: Path) -> dict[int, Values]:
    """Write a store of one map for each image; return the values."""
    create_store(LocalPlace(path), own_pairs(), make_collection(), attributes())
    writer = StoreWriter(LocalPlace(path))
    values = {}
    for (_, array), image in zip(own_pairs(), [i for i in range(N) if i != BAD], strict=True):
        values[image] = draw(array, image)
        writer.write(array.group, (), values[image])
    writer.finish({BAD: "truncated"})
    return values
