"""Image collections cut from the pictures that scikit-image brings along, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
COLOUR = ("astronaut", "cat", "coffee", "rocket", "retina", "hubble_deep_field")
GRAY = ("camera", "brick", "grass", "gravel", "moon", "coins")


def crops(names: tuple[str, ...], size: tuple[int, int], count: int, seed: int) -> list[tuple[str, UInt8]]:
    """Return pictures of one size, (y, x[, 3]) with their sources' names, mirrored half of the time.

    Each covers a random part of its source, at least 60 % of what fits, reduced where larger than ``size``.
    """
    from PIL import Image
    from skimage import data

    rng = np.random.default_rng(seed)
    sources = {name: Image.fromarray(getattr(data, name)()) for name in names}
    found = []
    for i in range(count):
        name = names[i % len(names)]
        source = sources[name]
        largest = min(source.height / size[0], source.width / size[1])
        zoom = largest * rng.uniform(0.6, 1)
        if largest > 4:  # small pictures: parts of the source, not thumbnails
            zoom = rng.uniform(1, 4)
        height, width = size[0] * zoom, size[1] * zoom
        top, left = rng.uniform(0, source.height - height), rng.uniform(0, source.width - width)
        part = source.resize(size[::-1], Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        pixels = np.asarray(part)
        found.append((name, pixels[:, ::-1] if rng.random() < 0.5 else pixels))
    return found


def soften(pixels: UInt8) -> UInt8:
    """Return a picture with three quarters of its contrast, about the middle gray."""
    return (pixels * np.float32(0.75) + np.float32(32)).astype(np.uint8)


def write_jpegs(folder: Path, pictures: list[tuple[str, UInt8]]) -> None:
    """Write pictures as JPEG files of quality 92 in a folder per source."""
    from PIL import Image

    for i, (name, pixels) in enumerate(pictures):
        path = folder / name / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=92)


def tiled(edge: int, seed: int) -> UInt8:
    """Return a square gray picture of the bundled photographs side by side, with some noise."""
    rng = np.random.default_rng(seed)
    cell = min(edge, 512)
    side = -(-edge // cell)
    cells = [pixels for _, pixels in crops(GRAY, (cell, cell), side * side, seed)]
    rows = [np.concatenate(cells[r * side : (r + 1) * side], axis=1) for r in range(side)]
    whole = np.concatenate(rows)[:edge, :edge].astype(np.float32)
    whole += rng.normal(0, 4, whole.shape).astype(np.float32)
    return np.clip(np.rint(whole), 0, 255).astype(np.uint8)


def listed(folder: Path) -> list[Path]:
    """Return the pictures of a tree in the order in which featpipe takes them."""
    return sorted(folder.rglob("*.jpg"), key=lambda path: path.relative_to(folder).as_posix())


class Pictures:
    """The pictures of a tree as tensors, for a PyTorch DataLoader.

    Parameters
    ----------
    folder : Path
    decode : callable
        Takes an open Pillow image and returns a tensor; a function of a module, for it goes to worker processes.
    """

    def __init__(self, folder: Path, decode: Callable[[Any], Any]) -> None:
        self.paths = [str(path) for path in listed(folder)]
        self.decode = decode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return self.decode(image)


def decode_colours(image: Any) -> Any:
    """Return a uint8 tensor, (y, x, 3)."""
    import torch

    return torch.from_numpy(np.array(image))
