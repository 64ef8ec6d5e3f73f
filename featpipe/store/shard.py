"""Encoding shards: chunk by chunk, in the thread that calls, straight into the shard's file.

zarr-python encodes for all threads on one event loop, and holds every chunk of a shard, raw and encoded, before the
first byte goes to disk: of features in shards of 24 MiB zarr 3.1 writes 1.3 GB/s, from two threads 1.5, and takes
90 MiB for each. This writes 1.6 GB/s, from two threads 3.2, and takes 4 MiB for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from featpipe.errors import Problem, StoreError
from featpipe.geometry.grid import ceil_div
from featpipe.store.format import read_node, replacing

SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
"""In the order of Blosc's numbers."""
LARGEST_FLOAT16 = 65504
ABSENT = np.iinfo(np.uint64).max
"""Offset and length of a chunk that is not in the shard: it lies beyond the array."""

# As zarr has it: Blosc's own threads share one lock, and give bytes that depend on their timing.
blosc.use_threads = False


@dataclass(frozen=True)
class Layout:
    """All that encoding an array's shards takes."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: blosc.Blosc
    indexed: bool
    """Whether a file holds chunks and their index, or one chunk."""


def read_layout(folder: Path) -> Layout | None:
    """Return the layout of the array in ``folder``; None where there is none.

    Raises
    ------
    StoreError
        If the array is not of the kind that `featpipe.store.create` makes.
    """
    node = read_node(folder)
    if node is None:
        return None
    shard, codecs = node["chunk_grid"]["configuration"]["chunk_shape"], node["codecs"]
    match codecs:
        case [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": chunk,
                    "codecs": inner,
                    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                    "index_location": "end",
                },
            }
        ]:
            indexed, codecs = True, inner
        case _:
            indexed, chunk = False, shard
    match codecs:
        case [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "blosc", "configuration": settings}]:
            shuffle = SHUFFLES.index(settings["shuffle"])
            codec = blosc.Blosc(settings["cname"], settings["clevel"], shuffle, settings["blocksize"])
        case _:
            raise StoreError(Problem(str(folder), "was not laid out by this featpipe.", "Run with --overwrite."))
    dtype = np.dtype(node["data_type"]).newbyteorder("<")
    return Layout(tuple(node["shape"]), tuple(shard), tuple(chunk), dtype, codec, indexed)


def write_shard(file: Path, values: npt.NDArray[np.floating], layout: Layout) -> None:
    """Write one shard, whole or not at all; the same values give the same bytes.

    Chunks follow one another in C order, then their index: zarr's codec ``sharding_indexed``, version 1.0.

    Parameters
    ----------
    file : Path
    values : float array
        Of the shard's shape, or less at the array's end; cast to the stored type chunk by chunk.
    layout : Layout

    Raises
    ------
    StoreError
        If values lie beyond the stored type's range.
    OSError
    """
    counts = [edge // part for edge, part in zip(layout.shard, layout.chunk, strict=True)]
    index = np.full((*counts, 2), ABSENT, "<u8")
    offset = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        for at in np.ndindex(*map(ceil_div, values.shape, layout.chunk)):
            part = values[tuple(slice(i * edge, (i + 1) * edge) for i, edge in zip(at, layout.chunk, strict=True))]
            length = stream.write(layout.codec.encode(_fill_chunk(part, layout)))
            index[at] = offset, length
            offset += length
        if layout.indexed:
            stream.write(index.tobytes())
            stream.write(google_crc32c.value(index.tobytes()).to_bytes(4, "little"))


def _fill_chunk(part: npt.NDArray[np.floating], layout: Layout) -> npt.NDArray[np.floating]:
    """Return a contiguous chunk that begins with ``part``, the rest NaN."""
    stored = to_stored(part, layout.dtype)
    if stored.shape == layout.chunk:
        return np.ascontiguousarray(stored)
    chunk = np.full(layout.chunk, np.nan, layout.dtype)
    chunk[tuple(map(slice, stored.shape))] = stored
    return chunk


def to_stored(values: npt.NDArray[np.floating], dtype: npt.DTypeLike) -> npt.NDArray[np.floating]:
    """Cast values to the stored type.

    Parameters
    ----------
    values : float array
    dtype : dtype
        float32 or float16.

    Raises
    ------
    StoreError
        If finite values lie beyond the type's range.
    """
    wanted = np.dtype(dtype)
    if values.dtype == wanted:
        return values
    with np.errstate(over="ignore"):
        stored = values.astype(wanted)
    lost = np.isinf(stored)
    if lost.any():
        beyond = np.abs(values[lost & np.isfinite(values)])
        if beyond.size:
            what = (
                f"{beyond.size} values lie beyond ±{LARGEST_FLOAT16}, the range of {wanted}; "
                f"the largest is {beyond.max():.4g}."
            )
            raise StoreError(Problem("store.dtype", what, "Use store.dtype: float32."))
    return stored
