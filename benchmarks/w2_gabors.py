"""W2: photographs to local amplitudes of 40 Gabor filters, averaged over 16×16 pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import COLOUR, Pictures, crops, soften, write_jpegs
from benchmarks.work import Contender, Job, Size, Work, create_array, inferring, read_array, read_stack, run_featpipe

FREQUENCIES = (0.1, 0.14, 0.2, 0.28, 0.4)
ORIENTATIONS = 8
EDGE = 256


def works(size: Size) -> list[Work]:
    """Return the work."""
    count = 6 if size.quick else 480

    def setup(folder: Path) -> None:
        # Within the gamut a JPEG's luma is the gray of its decoded colours, which no contender need then go round by
        pictures = [(name, soften(pixels)) for name, pixels in crops(COLOUR, (375, 500), count, seed=3)]
        write_jpegs(folder / "images", pictures)

    maps = read_stack("gabors/scale1")
    direct = [
        {"bank": bank, "workers": workers, "batch": batch}
        for bank, workers, batch in (("one", 0, 1), ("sizes", 0, 1), ("sizes", 1, 4), ("sizes", 1, 1))
    ]
    fourier = [{"bank": "fourier", "workers": workers, "batch": batch} for workers, batch in ((0, 1), (1, 1), (1, 4))]
    return [
        Work(
            name="W2",
            title=f"{count} photographs → 256² gray, 40 complex Gabors, modulus, mean over 16×16",
            unit="images",
            amount=count,
            tolerance=5e-3,  # the gray values that a JPEG holds are rounded to whole numbers
            setup=setup,
            contenders={
                "featpipe": Contender(run_featpipe(_pipeline, 2), maps),
                "featpipe, 1 thread": Contender(run_featpipe(_pipeline, 1), maps),
                "PyTorch": Contender(run_torch, read_array, tuple(direct), ("torch", "skimage")),
                "PyTorch FFT": Contender(run_torch, read_array, tuple(fourier), ("torch", "skimage")),
            },
        )
    ]


def _pipeline(folder: Path) -> dict[str, Any]:
    bank = {
        "bank": "gabor",
        "frequencies": list(FREQUENCIES),
        "orientations": ORIENTATIONS,
        "padding": "reflect",
    }
    return {
        "images": {"path": str(folder / "images"), "color": "gray", "size": [EDGE, EDGE]},
        "features": {"gabors": {"layers": [{"convolve": bank}, "modulus", {"pool": {"mean": 16}}]}},
    }


def decode_gray(image: Any) -> Any:
    """Return a gray float32 tensor, (y, x), of 256×256 pixels."""
    import torch
    from PIL import Image

    image.draft("L", image.size)  # luma straight from the JPEG
    gray = image.convert("L").convert("F")
    cut = min(gray.width, gray.height)
    left, top = (gray.width - cut) / 2, (gray.height - cut) / 2
    gray = gray.resize((EDGE, EDGE), Image.Resampling.BILINEAR, box=(left, top, left + cut, top + cut))
    return torch.from_numpy(np.array(gray, np.float32)).div_(255)


def make_bank() -> list[list[Any]]:
    """Return the complex kernels, scikit-image's, a list of orientations for every frequency."""
    from skimage.filters import gabor_kernel

    angles = [math.pi * o / ORIENTATIONS for o in range(ORIENTATIONS)]
    return [[gabor_kernel(frequency, theta=angle) for angle in angles] for frequency in FREQUENCIES]


def run_torch(folder: Path, out: Path, bank: str, workers: int, batch: int) -> Job:
    """Do the work with a DataLoader: one bank padded to the largest, a bank per frequency, or Fourier transforms."""
    import torch
    import torch.nn.functional as F
    import zarr  # noqa: F401
    from torch.utils.data import DataLoader

    torch.set_num_threads(2)

    def job() -> None:
        kernels = make_bank()
        groups = kernels if bank == "sizes" else [[kernel for row in kernels for kernel in row]]
        respond = _fourier(groups[0]) if bank == "fourier" else _direct(groups)
        images = Pictures(folder / "images", decode_gray)
        cells = EDGE // 16
        store = create_array(out, (len(images), cells, cells, 40), (min(16, len(images)), cells, cells, 40))
        held: list[Any] = []
        start = 0
        for x in DataLoader(images, batch, num_workers=workers):
            parts = [F.avg_pool2d(amplitudes, 16) for amplitudes in respond(x[:, None])]
            held.append(torch.cat(parts, 1).permute(0, 2, 3, 1))
            done = start + sum(map(len, held))
            if done - start >= 16 or done == len(images):
                store[start:done] = torch.cat(held).numpy()
                start, held = done, []

    return inferring(job)


def _stacked(kernels: list[Any]) -> Any:
    """Return complex kernels (k, r, r), each in the middle of the largest's frame."""
    edge = max(len(kernel) for kernel in kernels)
    frames = np.zeros((len(kernels), edge, edge), np.complex64)
    for frame, kernel in zip(frames, kernels, strict=True):
        margin = (edge - len(kernel)) // 2
        frame[margin : edge - margin, margin : edge - margin] = kernel
    return frames


def _direct(groups: list[list[Any]]) -> Any:
    import torch
    import torch.nn.functional as F

    banks = []
    for group in groups:
        frames = _stacked(group)
        weights = torch.from_numpy(np.concatenate([frames.real, frames.imag])[:, None].copy())
        banks.append((len(frames), weights.contiguous(memory_format=torch.channels_last)))

    def respond(x: Any) -> Any:
        for count, weights in banks:
            margin = weights.shape[-1] // 2
            z = F.conv2d(F.pad(x, (margin,) * 4, mode="reflect"), weights)
            yield torch.hypot(z[:, :count], z[:, count:])

    return respond


def _fourier(kernels: list[Any]) -> Any:
    import torch
    import torch.nn.functional as F

    frames = _stacked(kernels)
    margin = frames.shape[-1] // 2
    edge = 300  # of the padded image and the kernel's reach; 300 = 4·3·25 has a fast transform
    assert edge >= EDGE + 2 * margin
    spectra = torch.fft.fft2(torch.from_numpy(frames), s=(edge, edge))

    def respond(x: Any) -> Any:
        padded = F.pad(x, (margin,) * 4, mode="reflect")
        spectrum = torch.fft.fft2(padded, s=(edge, edge))
        for start in range(0, len(spectra), 8):  # a few at a time stay in the cache
            z = torch.fft.ifft2(spectrum * spectra[start : start + 8])
            yield z[:, :, 2 * margin : 2 * margin + EDGE, 2 * margin : 2 * margin + EDGE].abs()

    return respond
