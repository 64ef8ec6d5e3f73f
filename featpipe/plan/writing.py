"""What writing a shard holds in memory beside the shard itself."""

from __future__ import annotations

from featpipe.plan.layout import CHUNK_BYTES

CHUNK_COPIES = 3
"""A shard is encoded chunk by chunk: one contiguous, and what it is compressed to; of halves the float32 values too."""
LARGEST_CHUNK = 2 * CHUNK_BYTES
"""Of chunks but those of images a row of which is larger."""
FIXED_BYTES = 1 << 20
"""Blosc's blocks and the file's buffer."""


def write_overhead_bytes(shard_bytes: int, *, at_once: bool = False) -> int:
    """Return the most bytes that writing one shard takes beside the shard.

    Parameters
    ----------
    shard_bytes : int
        The shard before compression.
    at_once : bool
        Whether it is sent as a whole, encoded, to an object store; else chunk by chunk to a file.

    Examples
    --------
    >>> write_overhead_bytes(64 << 20) >> 20
    13
    """
    return CHUNK_COPIES * min(shard_bytes, LARGEST_CHUNK) + FIXED_BYTES + (2 * shard_bytes if at_once else 0)
