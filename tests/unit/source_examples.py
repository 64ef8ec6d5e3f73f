"""A small collection of images as a directory, in archives, and in tables."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.plan.collection import Collection
from featpipe.spec.pipeline import Images


def picture(seed: int, height: int = 5, width: int = 7, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


PICTURES = {
    "cat/a.png": picture(0),
    "cat/b.jpg": picture(1, kind="JPEG"),
    "dog/a.png": picture(2, 6, 6),
    "dog/c.webp": picture(3, kind="WEBP"),
}


def write_folder(root: Path, files: Mapping[str, bytes] = PICTURES) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_tar(path: Path, files: Mapping[str, bytes] = PICTURES, format: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes] = PICTURES, method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_table(path: Path, names: list[str] | None = None, rows: int = 2, **more: Any) -> Path:
    """Write the pictures as Hugging Face's datasets does, in row groups of ``rows``."""
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": content, "path": name} for name, content in PICTURES.items()], kind)
    table = pa.table({"image": images, "label": pa.array([1, 1, 0, None]), **more})
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if names is not None:
        features["label"] = {"_type": "ClassLabel", "names": names}
    told = json.dumps({"info": {"features": features}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": told}), path, row_group_size=rows)
    return path


def options(path: Path | str, **more: Any) -> Images:
    return Images(path=str(path), **more)


def read_all(path: Path | str, **more: Any) -> tuple[Collection, list[npt.NDArray[np.float32]]]:
    """Scan a source and read all its images, the last first."""
    images = options(path, **more)
    collection = scan(images)
    reader = open_reader(images, collection)
    return collection, [reader.read_image(i) for i in reversed(range(len(collection)))][::-1]


def same_images(found: list[npt.NDArray[np.float32]], expected: list[npt.NDArray[np.float32]]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def classes_of(collection: Collection) -> list[str | None]:
    names = [*collection.classes, None]
    return [names[code] for code in collection.labels]


def splits_of(collection: Collection) -> list[str | None]:
    names = [*collection.split_names, None]
    return [names[code] for code in collection.splits]
