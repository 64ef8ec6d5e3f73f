"""W4: a stack like VGG's, six 3×3 convolutions with ReLU and three max pools: deep channels, PyTorch's home ground."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import COLOUR, Pictures, crops, decode_colours, listed, write_jpegs
from benchmarks.work import Contender, Job, Size, Work, create_array, inferring, read_array, read_stack, run_featpipe

WIDTHS = (3, 64, 64, 128, 128, 256, 256)
POOLED = (2, 4, 6)
"""Convolutions, counted from 1, that a max pool follows."""


def works(size: Size) -> list[Work]:
    """Return the work."""
    count, edge, thin = (3, 32, 8) if size.quick else (32, 224, 1)
    widths = [3] + [width // thin for width in WIDTHS[1:]]

    def setup(folder: Path) -> None:
        write_jpegs(folder / "images", crops(COLOUR, (edge, edge), count, seed=5))
        rng = np.random.default_rng(6)
        for i, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            kernels = rng.standard_normal((after, 3, 3, before)) * np.sqrt(2 / (9 * before))
            np.save(folder / f"conv{i}.npy", kernels.astype(np.float32))

    return [
        Work(
            name="W4",
            title=f"{count} JPEGs of {edge}², six 3×3 convolutions with ReLU, three max pools",
            unit="images",
            amount=count,
            tolerance=1e-4,
            setup=setup,
            contenders={
                "featpipe": Contender(run_featpipe(_pipeline, 2), read_stack("network/scale1")),
                "PyTorch": Contender(
                    run_torch, read_array, tuple({"batch": batch} for batch in (1, 4, 16)), ("torch",)
                ),
            },
        )
    ]


def _pipeline(folder: Path) -> dict[str, Any]:
    layers: list[Any] = []
    for i in range(1, len(WIDTHS)):
        kernels = str(folder / f"conv{i}.npy")
        layers += [{"convolve": {"kernels": kernels, "channels": "sum", "padding": "same"}}, {"activate": "relu"}]
        layers += [{"pool": {"max": 2}}] if i in POOLED else []
    return {"images": {"path": str(folder / "images")}, "features": {"network": {"layers": layers}}}


def run_torch(folder: Path, out: Path, batch: int) -> Job:
    """Do the work channels-last, in inference mode, on two threads."""
    import torch
    import torch.nn.functional as F
    import zarr  # noqa: F401
    from torch.utils.data import DataLoader

    torch.set_num_threads(2)

    def job() -> None:
        weights = [
            torch.from_numpy(np.load(folder / f"conv{i}.npy"))
            .permute(0, 3, 1, 2)
            .contiguous(memory_format=torch.channels_last)
            for i in range(1, len(WIDTHS))
        ]
        images = Pictures(folder / "images", decode_colours)
        store, start = None, 0
        for pixels in DataLoader(images, batch):
            x = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
            for i, w in enumerate(weights, start=1):
                x = F.relu_(F.conv2d(x, w, padding=1))
                x = F.max_pool2d(x, 2) if i in POOLED else x
            y = x.permute(0, 2, 3, 1).numpy()
            if store is None:
                store = create_array(out, (len(listed(folder / "images")), *y.shape[1:]), (1, *y.shape[1:]))
            store[start : start + len(y)] = y
            start += len(y)

    return inferring(job)
