"""Writing a collection, decoded, as a zarr group that later runs read instead of the files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import ImageError, Problem, UnavailableError
from featpipe.geometry.grid import ceil_div, cut
from featpipe.images import arrays
from featpipe.images.arrays import INGESTED
from featpipe.images.files import probe_headers
from featpipe.images.header import Header, white
from featpipe.images.media import open_medium
from featpipe.images.reader import Reader, open_reader
from featpipe.images.refusal import AGAIN, Unavailable, image_error, source_error
from featpipe.images.region import region_shape
from featpipe.images.values import recolour
from featpipe.plan.collection import Collection
from featpipe.spec.pipeline import Images

_SHARD_BYTES = 64 * 2**20
_CHUNK_BYTES = 2 * 2**20
_LARGE_BYTES = 4 * 2**20
_TILE = 512
_THREADS = 2

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class IngestReport:
    """What ``ingest`` wrote."""

    target: Path
    shape: tuple[int, int, int, int]
    """(image, y, x, channel)."""
    dtype: str
    bytes: int
    """On disk."""
    failed: dict[str, str] = field(default_factory=dict)
    """Path of each image that could not be read, and why."""


def write_ingested(images: Images, collection: Collection, target: Path, progress: Progress | None) -> IngestReport:
    """Decode every image of a collection of one shape, and write them as one zarr group."""
    if collection.unavailable:  # it would be missing for good
        row = min(collection.unavailable)
        raise UnavailableError(Problem(collection.paths[row], f"{collection.unreadable[row]}.", AGAIN))
    import zarr

    reader = open_reader(images, collection)
    dtype = _stored_dtype(images, collection)
    shape = (len(collection), *collection.shape, len(collection.channels))
    group = zarr.create_group(str(target), zarr_format=3)
    array = _create(group, shape, dtype)
    failed: dict[int, str] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for rows in cut(len(collection), array.shards[0]):
            batch = np.zeros((rows.length, *shape[1:]), dtype)
            places = range(rows.length)
            reasons = pool.map(lambda i, batch=batch, start=rows.start: _fill(reader, start + i, batch[i]), places)
            for row, reason in zip(range(*rows), reasons, strict=True):
                if reason:
                    failed[row] = reason
                if reason and images.on_error == "fail":
                    raise image_error(collection.paths[row], reason)
                if progress is not None:
                    progress(row + 1, len(collection))
            array[rows.start : rows.stop] = batch
    if len(failed) == len(collection):
        raise source_error("path", f"none of the {len(collection):,} images can be read ({failed[0]}).")
    _describe(group, images, collection, failed)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return IngestReport(target, shape, str(dtype), size, {collection.paths[row]: why for row, why in failed.items()})


def _fill(reader: Reader, row: int, out: npt.NDArray[Any]) -> str:
    """Write one image into ``out``, or return why it cannot be read."""
    try:
        if out.dtype.kind == "f":
            out[:] = reader.read_image(row)
            return ""
        samples = recolour(reader.read_raw(row).samples, reader.images.color)
    except UnavailableError:
        raise  # what is written here is for good
    except ImageError as error:
        return error.problems[0].what
    if samples.shape != out.shape or samples.dtype != out.dtype:
        return "is not what it was when it was scanned"
    out[:] = samples
    return ""


def _stored_dtype(images: Images, collection: Collection) -> np.dtype[Any]:
    """Return uint8 or uint16 if all images have it and keep their numbers, else float32."""
    if not collection.is_array:
        first = dict(zip(reversed(collection.paths), reversed(range(len(collection))), strict=True))
        rows = [i for i in first.values() if i not in collection.unreadable]
        probed = probe_headers(open_medium(collection), sorted(rows), images).values()
        away = next((header for header in probed if isinstance(header, Unavailable)), None)
        if away is not None:
            raise source_error("path", f"an image {away}.", cause=away)
        kept = {_kept_dtype(header, images) for header in probed if isinstance(header, Header)}
    else:
        same = collection.regions and (images.color != "gray" or not _is_colour(collection))
        kept = {collection.dtype if same else ""}
    dtype = kept.pop() if len(kept) == 1 else ""
    return np.dtype(dtype if dtype in {"uint8", "uint16"} else "float32")


def _is_colour(collection: Collection) -> bool:
    """Tell whether a stack of arrays holds several channels, whatever the chain sees of them."""
    open_array = arrays.open_npy if collection.kind == "npy" else arrays.open_zarr
    if "c" not in collection.axes:
        return False
    return bool(open_array(collection.root).shape[collection.axes.index("c")] > 1)


def _kept_dtype(header: Header, images: Images) -> str:
    """Return the type of a file's numbers if they stay as they are, else nothing."""
    shape = region_shape(images, header.shape(images.orientation))
    resized = images.size is not None and shape != tuple(images.size)
    blended = images.alpha == "white" and header.alpha
    mixed = images.color == "gray" and header.channels > 1
    scaled = header.full != white(np.dtype(header.dtype))
    return "" if resized or blended or mixed or scaled else header.dtype


def _create(group: Any, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Any:
    from zarr.codecs import BloscCodec

    chunk, shard = _layout(shape, dtype.itemsize)
    return group.create_array(
        INGESTED, shape=shape, dtype=dtype, chunks=chunk, shards=shard, fill_value=0,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=dtype.itemsize),
        dimension_names=("image", "y", "x", "channel"),
    )  # fmt: skip


def _layout(shape: tuple[int, int, int, int], itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return chunk and shard: whole images, or tiles of one where images are large."""
    n, height, width, channels = shape
    image = height * width * channels * itemsize
    if image > _LARGE_BYTES:
        tile = (min(_TILE, height), min(_TILE, width))
        covered = (ceil_div(height, tile[0]) * tile[0], ceil_div(width, tile[1]) * tile[1])
        return (1, *tile, channels), (1, *covered, channels)
    chunk = min(max(_CHUNK_BYTES // image, 1), n)
    shard = chunk * max(min(_SHARD_BYTES // (chunk * image), ceil_div(n, chunk)), 1)
    return (chunk, *shape[1:]), (shard, *shape[1:])


def _describe(group: Any, images: Images, collection: Collection, failed: dict[int, str]) -> None:
    """Write what is known of each image beside its pixels, and what a later scan needs to know."""
    n = len(collection)
    ok = np.array([row not in failed for row in range(n)], np.bool_)
    rows: dict[str, npt.NDArray[Any]] = {"label": collection.labels, "split": collection.splits, "ok": ok}
    for name, values in rows.items():
        column = group.create_array(name, shape=(n,), dtype=values.dtype, chunks=(n,), dimension_names=("image",))
        column[:] = values
    paths = group.create_array("path", shape=(n,), dtype="string", chunks=(n,), dimension_names=("image",))
    paths[:] = np.array(collection.paths, dtype=np.dtypes.StringDType())
    group["label"].attrs["classes"] = list(collection.classes)
    group["split"].attrs["splits"] = list(collection.split_names)
    named = {"label": images.labels, "split": images.split}
    columns = {old: new for old, new in named.items() if isinstance(new, str) and new not in {"none", "folders"}}
    group.attrs["featpipe"] = {
        "kind": INGESTED,
        "format": 1,
        "images": images.model_dump(mode="json"),
        "values": images.values,
        "channels": list(collection.channels),
        "columns": columns,
        "unreadable": {str(row): why for row, why in failed.items()},
        "source": collection.digest,
    }
