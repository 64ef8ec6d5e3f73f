"""Lazy dask arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def lazy_array(array: Any) -> Any:
    """Return a zarr array as a lazy dask array, one dask chunk a shard."""
    import dask.array as da

    chunks = getattr(array, "shards", None) or array.chunks
    return da.from_array(array, chunks=chunks, name=False, asarray=True, meta=np.empty((0,) * array.ndim, array.dtype))


def is_lazy(array: object) -> bool:
    """Return whether an array is a dask array."""
    return type(array).__module__.startswith("dask.")


def map_images(
    array: Any, function: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]], shape: tuple[int, ...]
) -> Any:
    """Apply ``function`` lazily to batches of whole images of a dask array.

    Parameters
    ----------
    array : (n, y, x, c) dask array
    function : callable
        From (n, y, x, c) to (n, *shape) float32.
    shape : tuple of int
        Of one image's result.
    """
    whole = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    chunks = (whole.chunks[0], *((length,) for length in shape))
    return whole.map_blocks(function, dtype=np.float32, chunks=chunks, meta=np.empty((0, 0, 0, 0), np.float32))
