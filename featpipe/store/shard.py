"""Encoding shards: chunk by chunk, in the thread that calls, straight into the shard's file.

zarr-python encodes for all threads on one event loop, and holds every chunk of a shard, raw and encoded, before the
first byte goes to disk: of features in shards of 24 MiB zarr 3.1 writes 1.3 GB/s, from two threads 1.5, and takes
90 MiB for each. This writes 1.6 GB/s, from two threads 3.2, and takes 4 MiB for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from featpipe.errors import Problem, StoreError
from featpipe.geometry.grid import ceil_div
from featpipe.store.format import read_node
from featpipe.store.place import Part, Place

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


class Shard(NamedTuple):
    """A shard as it lies in the store."""

    key: str
    bytes: int
    sha256: str
    """Of the bytes there, in hex."""


def read_layout(place: Place, array: str) -> Layout | None:
    """Return the layout of an array of a store; None where there is none.

    Raises
    ------
    StoreError
        If the array is not of the kind that `featpipe.store.create` makes.
    """
    node = read_node(place, array)
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
            raise StoreError(Problem(f"{place}/{array}", "was not laid out by this featpipe.", "Run with --overwrite."))
    dtype = np.dtype(node["data_type"]).newbyteorder("<")
    return Layout(tuple(node["shape"]), tuple(shard), tuple(chunk), dtype, codec, indexed)


def write_shard(place: Place, key: str, values: npt.NDArray[np.floating], layout: Layout) -> Shard:
    """Write one shard, whole or not at all; the same values give the same bytes.

    Parameters
    ----------
    place : Place
    key : str
    values : float array
        Of the shard's shape, or less at the array's end; cast to the stored type chunk by chunk.
    layout : Layout

    Raises
    ------
    StoreError
        If values lie beyond the stored type's range, or the place cannot be written.
    """
    digest, size = hashlib.sha256(), 0

    def digested() -> Iterator[Part]:
        nonlocal size
        for part in shard_parts(values, layout):
            digest.update(part)
            size += len(part)
            yield part
            del part  # while the next chunk is encoded, nobody holds on to this one

    place.write(key, digested())
    return Shard(key, size, digest.hexdigest())


def shard_parts(values: npt.NDArray[np.floating], layout: Layout) -> Iterator[Part]:
    """Yield a shard's bytes: its chunks in C order, then their index, as zarr's codec ``sharding_indexed`` has it."""
    counts = [edge // part for edge, part in zip(layout.shard, layout.chunk, strict=True)]
    index = np.full((*counts, 2), ABSENT, "<u8")
    offset = 0
    for at in np.ndindex(*map(ceil_div, values.shape, layout.chunk)):
        part = values[tuple(slice(i * edge, (i + 1) * edge) for i, edge in zip(at, layout.chunk, strict=True))]
        encoded = layout.codec.encode(_fill_chunk(part, layout))
        index[at] = offset, len(encoded)
        offset += len(encoded)
        yield encoded
        del encoded
    if layout.indexed:
        yield index.tobytes()
        yield google_crc32c.value(index.tobytes()).to_bytes(4, "little")


def check_shard(content: bytes, layout: Layout) -> str:
    """Decode every chunk of a shard; return what is wrong with it, or nothing."""
    chunk_bytes = int(np.prod(layout.chunk)) * layout.dtype.itemsize
    try:
        if layout.indexed:
            counts = [edge // part for edge, part in zip(layout.shard, layout.chunk, strict=True)]
            length = 16 * int(np.prod(counts))
            listed, checksum = content[-length - 4 : -4], content[-4:]
            if google_crc32c.value(listed).to_bytes(4, "little") != checksum:
                return "the index of its chunks is damaged"
            places = np.frombuffer(listed, "<u8").reshape(-1, 2).tolist()
            chunks = [content[offset : offset + size] for offset, size in places if offset != ABSENT]
        else:
            chunks = [content]
        if any(len(layout.codec.decode(chunk)) != chunk_bytes for chunk in chunks):
            return "a chunk of it is too short"
    except (RuntimeError, ValueError) as error:
        return f"a chunk of it is damaged ({error})"
    return ""


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
