"""W1: a tree of small JPEGs against a dictionary of patches: contrast, two-sided soft threshold, sums over quarters.

The features of Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature learning, with
patches for a dictionary as in Coates and Ng 2011.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import COLOUR, Pictures, crops, decode_colours, write_jpegs
from benchmarks.work import (
    Contender,
    Float32,
    Job,
    Size,
    Work,
    create_array,
    inferring,
    read_array,
    read_stack,
    run_featpipe,
)

EPSILON = 10 / 255**2 * 108
"""Of the patch's variance."""
THRESHOLD = 0.5


def works(size: Size) -> list[Work]:
    """Return the work with 512 and with 1,600 patches."""
    if size.quick:
        return [_work(32, size.images or 60)]
    return [_work(512, size.images or 10_000), _work(1600, size.images or 4_000)]


def _work(patches: int, count: int) -> Work:
    def setup(folder: Path) -> None:
        pictures = crops(COLOUR, (32, 32), count, seed=1)
        write_jpegs(folder / "images", pictures)
        np.save(folder / "patches.npy", cut_patches(pictures, patches))

    def pipeline(folder: Path) -> dict[str, Any]:
        bank = {"kernels": str(folder / "patches.npy"), "channels": "sum", "contrast": {"epsilon": EPSILON}}
        layers = [
            {"convolve": bank},
            {"activate": {"split": {"threshold": THRESHOLD}}},
            {"pool": {"sum": {"grid": [2, 2]}}},
        ]
        return {"images": {"path": str(folder / "images")}, "features": {"patches": {"layers": layers}}}

    maps = read_stack("patches/scale1")
    settings = [
        {"batch": batch, "workers": workers, "threads": threads}
        for batch, workers, threads in ((8, 0, 2), (32, 0, 2), (8, 1, 2), (32, 1, 2), (16, 2, 1))
    ]
    return Work(
        name=f"W1-{patches}",
        title=f"{count:,} JPEGs of 32×32, {patches:,} patches 6×6×3, contrast, split, 2×2 sums",
        unit="images",
        amount=count,
        tolerance=1e-4,
        setup=setup,
        contenders={
            "featpipe": Contender(run_featpipe(pipeline, 2), maps),
            "featpipe, 1 thread": Contender(run_featpipe(pipeline, 1), maps),
            "PyTorch": Contender(run_torch, read_array, tuple(settings), ("torch",)),
        },
    )


def cut_patches(pictures: list[tuple[str, Any]], count: int) -> Float32:
    """Return random patches, (k, 6, 6, 3), each of mean 0 and length 1."""
    rng = np.random.default_rng(2)
    kernels = np.empty((count, 6, 6, 3), np.float32)
    for k in range(count):
        y, x = rng.integers(0, 27, 2)
        patch = pictures[rng.integers(len(pictures))][1][y : y + 6, x : x + 6] / 255.0 + rng.normal(0, 0.01, (6, 6, 3))
        patch -= patch.mean()
        kernels[k] = patch / np.linalg.norm(patch)
    return kernels


def run_torch(folder: Path, out: Path, batch: int, workers: int, threads: int) -> Job:
    """Do the work with a DataLoader, channels-last, patch moments by average pooling."""
    import torch
    import torch.nn.functional as F
    import zarr  # noqa: F401
    from torch.utils.data import DataLoader

    torch.set_num_threads(threads)

    def job() -> None:
        kernels = np.load(folder / "patches.npy")
        kernels -= kernels.mean(axis=(1, 2, 3), keepdims=True)  # then the patches' means drop out
        weights = torch.from_numpy(kernels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        k = len(weights)
        images = Pictures(folder / "images", decode_colours)
        store = create_array(out, (len(images), 2, 2, 2 * k), (min(128, len(images)), 2, 2, 2 * k))
        held: list[Any] = []
        start = 0
        for pixels in DataLoader(images, batch, num_workers=workers):
            x = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
            mean = F.avg_pool2d(x.mean(1, keepdim=True), 6, 1)
            square = F.avg_pool2d((x * x).mean(1, keepdim=True), 6, 1)
            z = F.conv2d(x, weights).mul_(torch.rsqrt(square - mean * mean + EPSILON))
            parts = [torch.relu_(z - THRESHOLD), torch.relu_(z.neg_().sub_(THRESHOLD))]
            cells = [
                [torch.cat([part[:, :, ys, xs].sum((2, 3)) for part in parts], 1) for xs in _HALVES] for ys in _HALVES
            ]
            held.append(torch.stack([torch.stack(row, 1) for row in cells], 1))
            done = start + sum(map(len, held))
            if done - start >= 128 or done == len(images):
                store[start:done] = torch.cat(held).numpy()
                start, held = done, []

    return inferring(job)


_HALVES = (slice(0, 14), slice(14, 27))
"""Of 27 outputs, split like ``numpy.array_split``."""
