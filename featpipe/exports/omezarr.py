"""One image's maps as an OME-Zarr 0.5: a pyramid of arrays (c, y, x), a channel for each feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import isqrt
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from featpipe.exports.levels import Level, Pair
from featpipe.exports.table import Listener
from featpipe.exports.target import EXPORTED
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import ceil_div, cut
from featpipe.store.format import KEY

VERSION = "0.5"
CHUNK = 256
BLOCK_BYTES = 32 << 20
"""Features of a block, which is a shard of every channel."""
SMALLEST = 512
"""Edge of a level, in samples, that needs no coarser one."""
SAMPLED = 1 << 20
"""Numbers, of all channels, that contrast is judged by."""
CONTRAST = (0.5, 99.5)
"""Percentiles that a viewer shows as black and white."""


class Source(Protocol):
    """What a level is written of."""

    @property
    def scale(self) -> Pair: ...

    @property
    def translation(self) -> Pair: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def read(self, y: Span, x: Span) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class Halved:
    """A level of which each sample is the mean of 2 × 2 of the one before; an odd last row or column has no part."""

    array: Any
    """The level before, (c, y, x)."""
    scale: Pair
    translation: Pair

    @property
    def shape(self) -> tuple[int, int, int]:
        features, height, width = self.array.shape
        return height // 2, width // 2, features

    def read(self, y: Span, x: Span) -> npt.NDArray[np.float32]:
        fine = self.array[:, 2 * y.start : 2 * y.stop, 2 * x.start : 2 * x.stop]
        quarters = fine.reshape(len(fine), y.length, 2, x.length, 2)
        return np.moveaxis(quarters.mean(axis=(2, 4), dtype=np.float32), 0, -1)


def write_omezarr(levels: Sequence[Level], facts: dict[str, Any], path: Path, progress: Listener | None) -> int:
    """Write levels, block by block, and return how many there are in the end.

    One map alone gets levels of its own means, 2 × 2 by 2 × 2, for a viewer must not read a large image whole.

    Parameters
    ----------
    levels : sequence of Level
        The finest first.
    facts : dict
        About the features, for featpipe's own attribute.
    path : Path
        A directory that does not exist.
    progress : callable, optional
    """
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    contrast = Contrast(levels[0])
    arrays = [_write_level(group, "0", levels[0], contrast, progress)]
    written: list[Source] = list(levels)
    if len(levels) == 1:
        written += _halve(group, levels[0], arrays[0], progress)
    else:
        for number, level in enumerate(levels[1:], 1):
            _write_level(group, str(number), level, None, progress)
    kind = "scales" if len(levels) > 1 else "mean" if len(written) > 1 else ""
    group.attrs.update({"ome": _metadata(levels[0], written, kind, contrast), KEY: {EXPORTED: facts}})
    return len(written)


@dataclass(eq=False)
class Contrast:
    """Range of every channel of a level, gathered block by block."""

    level: Source
    low: Any = np.inf
    high: Any = -np.inf
    samples: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def add(self, values: npt.NDArray[np.float32], y: Span, x: Span) -> None:
        """Take a block into account, (y, x, feature)."""
        finite = np.isfinite(values)
        self.low = np.minimum(self.low, np.where(finite, values, np.inf).min(axis=(0, 1)))
        self.high = np.maximum(self.high, np.where(finite, values, -np.inf).max(axis=(0, 1)))
        height, width, features = self.level.shape
        step = isqrt(height * width * features // SAMPLED) + 1  # rows and columns of the whole map, whatever the blocks
        self.samples.append(values[-y.start % step :: step, -x.start % step :: step].reshape(-1, features))

    def windows(self) -> Iterator[dict[str, float]]:
        """Yield what OMERO's metadata call a channel's window."""
        every = np.concatenate(self.samples)
        for channel, (low, high) in enumerate(zip(self.low.tolist(), self.high.tolist(), strict=True)):
            values = every[:, channel]
            values = values[np.isfinite(values)]
            if not len(values):
                yield {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
                continue
            start, end = np.percentile(values, CONTRAST).tolist()
            if start == end:  # a viewer divides by the difference
                start, end = (low, high) if low < high else (low, low + 1.0)
            yield {"min": low, "max": high, "start": start, "end": end}


def _write_level(
    group: zarr.Group, name: str, level: Source, contrast: Contrast | None, progress: Listener | None
) -> Any:
    height, width, features = level.shape
    edge = CHUNK
    while edge > 1 and 4 * features * edge * edge > BLOCK_BYTES:
        edge //= 2
    chunk = min(edge, height), min(edge, width)
    # As many chunks along each axis as one block may hold of all channels
    chunks = max(1, isqrt(BLOCK_BYTES // (4 * features * chunk[0] * chunk[1])))
    block = tuple(chunk[axis] * min(chunks, ceil_div((height, width)[axis], chunk[axis])) for axis in (0, 1))
    array: Any = group.create_array(
        name,
        shape=(features, height, width),
        chunks=(1, *chunk),
        shards=(1, *block) if block != chunk else None,
        dtype=np.float32,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        fill_value=np.nan,
        dimension_names=("c", "y", "x"),
    )
    blocks = list(product(cut(height, block[0]), cut(width, block[1])))
    for done, (y, x) in enumerate(blocks, 1):
        values = level.read(y, x)
        if contrast is not None:
            contrast.add(values, y, x)
        array[:, y.start : y.stop, x.start : x.stop] = np.moveaxis(values, -1, 0)
        if progress is not None:
            progress(f"level {name}", done, len(blocks), "block")
    return array


def _halve(group: zarr.Group, finest: Level, array: Any, progress: Listener | None) -> Iterator[Halved]:
    """Write and yield levels of means until one is small."""
    scale, translation = finest.scale, finest.translation
    while max(array.shape[1:]) > SMALLEST and min(array.shape[1:]) > 1:
        translation = translation[0] + scale[0] / 2, translation[1] + scale[1] / 2
        scale = 2 * scale[0], 2 * scale[1]
        level = Halved(array, scale, translation)
        array = _write_level(group, str(len(group)), level, None, progress)
        yield level


def _metadata(finest: Level, levels: Sequence[Source], kind: str, contrast: Contrast) -> dict[str, Any]:
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, *level.scale]},
                {"type": "translation", "translation": [0.0, *level.translation]},
            ],
        }
        for number, level in enumerate(levels)
    ]
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    methods = {
        "scales": "Each level is the branch at another scale: its own features, not a smaller copy of level 0.",
        "mean": "Each sample is the mean of 2 × 2 samples of the level before.",
    }
    # Readers take a name for a path, and show what follows its last slash
    name = finest.name.rpartition("/")[0] if kind == "scales" else finest.name
    image: dict[str, Any] = {"name": name.replace("/", " "), "axes": axes, "datasets": datasets}
    if kind:
        image |= {"type": kind, "metadata": {"method": methods[kind]}}
    channels = [
        {"label": label, "color": "FFFFFF", "active": number == 0, "window": window}
        for number, (label, window) in enumerate(zip(finest.channels, contrast.windows(), strict=True))
    ]
    return {"version": VERSION, "multiscales": [image], "omero": {"channels": channels}}
