"""What writing a shard holds in memory beside the shard itself."""

from __future__ import annotations

CHUNK_COPIES = 3
"""A shard goes to disk chunk by chunk: the chunk cast or made contiguous, the test for overflow, its compressed bytes.
Measured with tracemalloc (2 MiB chunks, noise, on two versions of Python): 1.0 chunks for float32 handed over
contiguous, 2.1 cut from a larger map, 2.0 cast to float16."""
USUAL_CHUNK = 4 << 20
"""Bytes of the largest chunk that the layout cuts, unless a single row of a map is larger."""
FIXED_BYTES = 1 << 20


def write_overhead_bytes(shard_bytes: int, chunk_bytes: int = USUAL_CHUNK) -> int:
    """Return the most bytes that writing one shard takes beside the shard.

    Parameters
    ----------
    shard_bytes : int
        The shard before compression.
    chunk_bytes : int
        One chunk of it before compression.

    Examples
    --------
    >>> write_overhead_bytes(64 << 20) >> 20
    13
    """
    return CHUNK_COPIES * min(shard_bytes, chunk_bytes) + FIXED_BYTES
