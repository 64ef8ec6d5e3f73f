"""An ingested zarr reads like the files it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from featpipe.errors import ImageError, SourceError, StoreError
from featpipe.geometry.axis import Span
from featpipe.images import ingest as module
from featpipe.images.ingest import IngestReport
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.run.ingest import ingest
from featpipe.spec.pipeline import Images, RandomSplit
from tests.unit.reading import write_packed

RNG = np.random.default_rng(3)


def photos(folder: Path, mode: str = "RGB", count: int = 7) -> Path:
    for i in range(count):
        path = folder / ("train", "test")[i % 2] / ("cat", "dog", "eel")[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (12, 17, len(mode)), dtype=np.uint8)
        Image.frombytes(mode, (17, 12), pixels.tobytes()).save(path)
    return folder


def check_same(images: Images, target: Path) -> IngestReport:
    """Ingest, and compare everything that a run sees of both."""
    report = ingest(images, target)
    copy = images.model_copy(update={"path": str(target)})
    files, stored = scan(images), scan(copy)
    for name in ("paths", "classes", "split_names", "channels", "shape"):
        assert getattr(files, name) == getattr(stored, name), name
    for name in ("labels", "splits", "heights", "widths"):
        assert np.array_equal(getattr(files, name), getattr(stored, name)), name
    assert stored.regions
    first, second = open_reader(images, files), open_reader(copy, stored)
    for i in range(len(files)):
        assert np.array_equal(first.read_image(i), second.read_image(i))
        assert np.array_equal(first.read(i, Span(1, 5), Span(2, 6)), second.read(i, Span(1, 5), Span(2, 6)))
    return report


@pytest.mark.parametrize(
    ("mode", "options", "dtype"),
    [
        ("RGB", {}, "uint8"),
        ("RGB", {"values": "raw", "labels": "folders", "split": RandomSplit(test=0.3)}, "uint8"),
        ("L", {"color": "rgb"}, "uint8"),
        ("L", {"color": "gray", "size": [12, 17]}, "uint8"),
        ("RGBA", {}, "uint8"),
        ("RGBA", {"alpha": "white"}, "float32"),
        ("RGBA", {"alpha": "white", "values": "raw"}, "float32"),
        ("RGB", {"color": "gray"}, "float32"),
        ("RGB", {"size": [9, 9]}, "float32"),
        ("RGB", {"size": 9, "fit": "pad", "values": "raw"}, "float32"),
    ],
    ids=str,
)
def test_a_run_on_the_result_sees_the_same_bits(tmp_path: Path, mode: str, options: dict[str, Any], dtype: str) -> None:
    report = check_same(Images(path=str(photos(tmp_path / "in", mode)), **options), tmp_path / "out.zarr")
    assert report.dtype == dtype
    assert report.shape[0] == 7
    assert not report.failed
    assert not list(tmp_path.glob(".*"))


def test_16_bit_stays_16_bit_but_12_bit_becomes_float(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pixels = RNG.integers(0, 4096, (12, 17), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "in/a.tif", pixels)
    assert check_same(Images(path=str(tmp_path / "in")), tmp_path / "a.zarr").dtype == "uint16"
    write_packed(tmp_path / "in/a.tif", pixels, 12)
    assert check_same(Images(path=str(tmp_path / "in")), tmp_path / "b.zarr").dtype == "float32"


def test_a_manifests_named_column_is_found_again(tmp_path: Path) -> None:
    photos(tmp_path, count=3)
    rows = "".join(f"{path.relative_to(tmp_path)},k{path.stem}\n" for path in sorted(tmp_path.rglob("*.png")))
    (tmp_path / "list.csv").write_text("path,species\n" + rows)
    check_same(Images(path=str(tmp_path / "list.csv"), labels="species"), tmp_path / "out.zarr")


def test_an_array_can_be_ingested_too(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (5, 12, 17, 3), dtype=np.uint8))
    assert check_same(Images(path=str(tmp_path / "a.npy")), tmp_path / "a.zarr").dtype == "uint8"
    assert check_same(Images(path=str(tmp_path / "a.npy"), color="gray"), tmp_path / "b.zarr").dtype == "float32"


def test_shards_are_written_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 12 * 17 * 3 * 2)
    monkeypatch.setattr(module, "_SHARD_BYTES", 12 * 17 * 3 * 4)
    images = Images(path=str(photos(tmp_path / "in")))
    check_same(images, tmp_path / "out.zarr")
    array = zarr.open_array(str(tmp_path / "out.zarr/images"), mode="r")
    assert (array.chunks, array.shards) == ((2, 12, 17, 3), (4, 12, 17, 3))
    assert array.metadata.dimension_names == ("image", "y", "x", "channel")  # type: ignore[union-attr]


def test_large_images_are_cut_into_tiles(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(RNG.integers(0, 256, (1300, 1400, 3), dtype=np.uint8)).save(tmp_path / "in/a.bmp")
    check_same(Images(path=str(tmp_path / "in")), tmp_path / "out.zarr")
    array = zarr.open_array(str(tmp_path / "out.zarr/images"), mode="r")
    assert (array.chunks, array.shards) == ((1, 512, 512, 3), (1, 1536, 1536, 3))


def test_unreadable_images_keep_their_row_and_reason(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in")
    (folder / "train/cat/0.png").write_bytes(b"no image")
    late = sorted(folder.rglob("*.png"))[-1]
    data = bytearray(late.read_bytes())
    data[len(data) // 2] ^= 0xFF  # its header is fine
    late.write_bytes(data)
    steps: list[tuple[int, int]] = []
    images = Images(path=str(folder))
    report = ingest(images, tmp_path / "out.zarr", lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, 7) for i in range(7)]
    stored = scan(Images(path=str(tmp_path / "out.zarr")))
    assert {stored.paths[i]: why for i, why in stored.unreadable.items()} == report.failed
    assert set(report.failed) == {"train/cat/0.png", late.relative_to(folder).as_posix()}
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert np.asarray(group["ok"][:]).tolist() == [i not in stored.unreadable for i in range(7)]  # type: ignore[index]
    bad = next(iter(stored.unreadable))
    with pytest.raises(ImageError, match="not a"):
        open_reader(Images(path=str(tmp_path / "out.zarr")), stored).read_image(bad)
    with pytest.raises(ImageError):
        ingest(Images(path=str(folder), on_error="fail"), tmp_path / "fail.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.zarr"]


def test_what_cannot_be_ingested_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", count=2)
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        ingest(Images(path=str(folder)), tmp_path / "there")
    Image.new("RGB", (5, 5)).save(folder / "other.png")
    with pytest.raises(SourceError, match=r"images\.size: the images differ in size"):
        ingest(Images(path=str(folder)), tmp_path / "out.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "there"]


def test_floats_are_not_taken_for_values_of_another_scale(tmp_path: Path) -> None:
    ingest(Images(path=str(photos(tmp_path / "in")), size=[9, 9], values="raw"), tmp_path / "out.zarr")
    with pytest.raises(SourceError, match="Use values: raw"):
        scan(Images(path=str(tmp_path / "out.zarr")))
