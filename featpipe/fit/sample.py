"""Which patches a bank is learned from: drawn from a seed, the same for any number of workers and any batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from featpipe.plan.fitting import draw_images

Int64 = npt.NDArray[np.int64]


def draw_patches(
    images: Sequence[int],
    shapes: Mapping[int, tuple[int, int]],
    extent: tuple[int, int],
    count: int,
    seed: int,
    features: int = 1,
) -> Int64:
    """Draw patches, every image and then every place in it being as likely as any other.

    Parameters
    ----------
    images : sequence of int
        That have room for a patch.
    shapes : mapping of int to (int, int)
        Image to the shape of its map, in samples.
    extent : (int, int)
        Samples that a patch spans along y and x.
    count : int
    seed : int
    features : int
        Of the map, of which a patch spans one; 1 where it spans all.

    Returns
    -------
    (count, 4) int64
        Image, first row and column of its map, and first feature, in the order drawn.
    """
    rng = np.random.default_rng(seed)
    chosen = draw_images(images, count, rng)
    sizes = np.array([shapes[int(image)] for image in images], np.int64)
    room = dict(zip(images, (sizes - np.array(extent) + 1).tolist(), strict=True))
    rooms = np.array([room[int(image)] for image in chosen], np.int64)
    places = np.minimum((rng.random((count, 2)) * rooms).astype(np.int64), rooms - 1)
    feature = rng.integers(0, features, count)
    return np.column_stack([chosen, places, feature])
