"""Readers of images at hand, and what they complain of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from featpipe.errors import SourceError
from featpipe.images.reader import Reader, open_reader
from featpipe.images.scan import scan
from featpipe.spec.pipeline import Images


def reader(path: Path, **options: Any) -> Reader:
    images = Images(path=str(path), **options)
    return open_reader(images, scan(images))


def complaint(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        reader(path, **options)
    return str(caught.value)


def write_packed(path: Path, pixels: npt.NDArray[np.uint16], bits: int) -> None:
    """Write a gray TIFF of so many bits a sample; not every imagecodecs can."""
    shifts = np.arange(bits)[::-1]
    each = (pixels[..., None] >> shifts & 1).astype(np.uint8).reshape(len(pixels), -1)
    packed = np.packbits(each, axis=1).tobytes()
    options = {"bitspersample": bits, "rowsperstrip": len(pixels), "photometric": "minisblack"}
    tifffile.imwrite(path, iter([packed]), shape=pixels.shape, dtype=pixels.dtype, **options)


def packs_integers() -> bool:
    """Tell whether this imagecodecs writes samples that are no whole bytes."""
    try:
        imagecodecs.packints_encode(np.zeros((1, 8), np.uint16), 12)
    except NotImplementedError:
        return False
    return True
