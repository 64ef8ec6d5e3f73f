"""Collections of every kind, large enough that their data outweigh the process that reads them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile
import zarr
from PIL import Image

SHAPE = (3000, 4000)
"""Of images in files of their own, in pixels."""
STACK = (2, 10_000, 6000)
"""Of arrays."""


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> npt.NDArray[Any]:
    """Return numbers that compress badly."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.random(shape, np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def bmp(pixels: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "BMP")
    return out.getvalue()


def tiff(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, metadata=None, **options)
    return out.getvalue()


ENCODERS: dict[str, tuple[str, str, Callable[[Any], bytes | bytearray]]] = {
    "jpeg": ("jpg", "uint8", lambda pixels: simplejpeg.encode_jpeg(pixels, quality=90)),
    "png": ("png", "uint8", lambda pixels: imagecodecs.png_encode(pixels, level=1)),
    "png16": ("png", "uint16", lambda pixels: imagecodecs.png_encode(pixels, level=1)),
    "bmp": ("bmp", "uint8", bmp),
    "webp": ("webp", "uint8", lambda pixels: imagecodecs.webp_encode(pixels, lossless=False, level=0)),
    "tiff16": ("tif", "uint16", lambda pixels: tiff(pixels, compression="zlib", photometric="rgb", rowsperstrip=3000)),
}
"""Ending, type of samples and encoder of each kind of file."""


def pictures(kind: str, count: int, shape: tuple[int, int] = SHAPE) -> Iterator[tuple[str, bytes | bytearray]]:
    """Yield names and bytes of colour images."""
    ending, dtype, encode = ENCODERS[kind]
    for i in range(count):
        yield f"{i}.{ending}", encode(noise((*shape, 3), dtype, i))


def write_folder(path: Path, kind: str, count: int = 2) -> Path:
    path.mkdir(parents=True)
    for name, content in pictures(kind, count):
        (path / name).write_bytes(content)
    return path


def write_files(kind: str, path: Path) -> Path:
    return write_folder(path / "images", kind)


def write_glob(path: Path) -> str:
    return f"{write_folder(path, 'jpeg')}/*.jpg"


def write_manifest(path: Path) -> Path:
    folder = write_folder(path, "png")
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(2)))
    return folder / "list.csv"


def write_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in pictures("png", 2):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in pictures("bmp", 2):
            archive.writestr(name, content)
    return path


def write_parquet(path: Path, rows: int, count: int = 300, shape: tuple[int, int] = (400, 500)) -> Path:
    """Write images of half a megabyte in row groups of so many."""
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows_of = [{"bytes": content, "path": name} for name, content in pictures("png", count, shape)]
    parquet.write_table(pa.table({"image": pa.array(rows_of, kind)}), path, row_group_size=rows)
    return path


def write_npy(path: Path, dtype: str, *, fortran: bool = False) -> Path:
    array = np.lib.format.open_memmap(path, "w+", dtype, STACK, fortran_order=fortran)
    array[:] = noise(STACK[1:], dtype)
    array.flush()
    return path


def write_zarr(path: Path, dtype: str, *, shards: tuple[int, ...] | None = None) -> Path:
    array = zarr.create_array(path, shape=STACK, dtype=dtype, chunks=(1, 1000, 1000), shards=shards)
    for i in range(STACK[0]):
        for row in range(0, STACK[1], 2000):
            array[i, row : row + 2000] = noise((2000, STACK[2]), dtype, row)
    return path


def write_omezarr(path: Path) -> Path:
    shape = (3, *STACK[1:])
    group = zarr.create_group(path)
    array = group.create_array("0", shape=shape, dtype="uint8", chunks=(1, 1024, 1024), dimension_names=("c", "y", "x"))
    for c in range(3):
        array[c] = noise(STACK[1:], "uint8", c)
    axes: list[Any] = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale: list[Any] = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    level: dict[str, Any] = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [level]}
    return path


def write_tiled(path: Path) -> Path:
    pixels = noise((12_000, 12_000))
    tifffile.imwrite(path, pixels, tile=(512, 512), compression="zlib", metadata=None)
    return path


def write_striped(path: Path) -> Path:
    tifffile.imwrite(path, noise((12_000, 12_000), "uint16"), metadata=None, photometric="minisblack")
    return path


SOURCES: dict[str, Callable[[Path], Path | str]] = {
    **{kind: partial(write_files, kind) for kind in ENCODERS},
    "tiled tiff": lambda path: write_tiled(path / "large.tif"),
    "plain tiff": lambda path: write_striped(path / "large.tif"),
    "glob": lambda path: write_glob(path / "images"),
    "manifest": lambda path: write_manifest(path / "images"),
    "tar": lambda path: write_tar(path / "images.tar"),
    "zip": lambda path: write_zip(path / "images.zip"),
    "parquet": lambda path: write_parquet(path / "images.parquet", 20),
    "parquet, one row group": lambda path: write_parquet(path / "images.parquet", 300),
    "npy": lambda path: write_npy(path / "images.npy", "uint8"),
    "npy, float32": lambda path: write_npy(path / "images.npy", "float32"),
    "npy, Fortran": lambda path: write_npy(path / "images.npy", "uint8", fortran=True),
    "npy, Fortran, float32": lambda path: write_npy(path / "images.npy", "float32", fortran=True),
    "zarr": lambda path: write_zarr(path / "images.zarr", "uint8"),
    "zarr, float32": lambda path: write_zarr(path / "images.zarr", "float32"),
    "zarr, shards": lambda path: write_zarr(path / "images.zarr", "float32", shards=(1, 5000, 3000)),
    "OME-Zarr": lambda path: write_omezarr(path / "images.ome.zarr"),
}
"""Writers of each kind of source, below a folder."""
