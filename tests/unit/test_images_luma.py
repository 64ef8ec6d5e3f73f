"""Gray straight from the luma that a JPEG stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

from featpipe.errors import ImageError, StoreError
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.run.ingest import ingest
from featpipe.spec.load import parse_pipeline
from featpipe.spec.pipeline import Images

RNG = np.random.default_rng(5)
COLOURS = Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((71, 45), Image.Resampling.BICUBIC)
WEIGHTS = np.array([0.299, 0.587, 0.114])


def read(path: Path, **options: Any) -> np.ndarray:
    images = Images(path=str(path), color="gray", values="raw", **options)
    return open_reader(images, scan(images)).read_image(0)[..., 0]


def computed(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        gray: np.ndarray = np.asarray(image.convert("RGB")) @ WEIGHTS
        return gray


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_gray_of_a_colour_jpeg_is_the_luma_pillow_reads(tmp_path: Path, subsampling: str, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    COLOURS.save(path, subsampling=subsampling, progressive=progressive)
    with Image.open(path) as image:
        image.draft("L", image.size)
        assert image.mode == "L"
        assert np.array_equal(read(path), np.asarray(image))
    assert not np.array_equal(read(path), read(path, luma="computed"))
    np.testing.assert_allclose(read(path, luma="computed"), computed(path), atol=1e-4)


def test_luma_is_turned_and_scaled_as_colours_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    COLOURS.save(path)
    upright = read(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    COLOURS.save(path, exif=exif)
    assert np.array_equal(read(path), np.rot90(upright, -1))
    images = Images(path=str(path), color="gray", orientation="ignore")
    unit = open_reader(images, scan(images)).read_image(0)[..., 0]
    assert np.array_equal(unit, upright / np.float32(255))


def without(data: bytes, marker: int) -> bytes:
    """Return a JPEG without its first segment of a kind."""
    start = data.index(bytes([0xFF, marker]))
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def test_components_that_are_not_luma_are_mixed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    COLOURS.save(path, keep_rgb=True)
    data = path.read_bytes()
    assert b"Adobe" in data
    for version in (data, without(data, 0xEE)):  # told by Adobe's marker, or by the components' names alone
        path.write_bytes(version)
        np.testing.assert_allclose(read(path), computed(path), atol=1e-4)
        assert not np.array_equal(read(path), np.round(read(path)))
    COLOURS.convert("CMYK").save(path)
    np.testing.assert_allclose(read(path), computed(path), atol=1e-4)
    COLOURS.convert("L").save(path)
    with Image.open(path) as image:
        assert np.array_equal(read(path), np.asarray(image))


@pytest.mark.parametrize("change", ["no JFIF", "Adobe", "fill bytes"])
def test_luma_is_known_by_libjpegs_rule(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.jpg"
    COLOURS.save(path)
    data, expected = path.read_bytes(), read(path)
    frame = data.index(b"\xff\xc0")
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x01"
    path.write_bytes(
        {
            "no JFIF": without(data, 0xE0),
            "Adobe": adobe.join([data[:2], without(data, 0xE0)[2:]]),
            "fill bytes": data[:frame] + b"\xff\xff\xff" + data[frame:],
        }[change]
    )
    with Image.open(path) as image:
        image.draft("L", image.size)
        assert np.array_equal(np.asarray(image), expected)
    assert np.array_equal(read(path), expected)


@pytest.mark.parametrize("luma", ["stored", "computed"])
def test_damage_that_libjpeg_only_warns_of_is_refused(tmp_path: Path, luma: str) -> None:
    path = tmp_path / "a.jpg"
    COLOURS.save(path)
    whole, expected = path.read_bytes(), read(path, luma=luma)
    start = whole.index(b"\xff\xda") + 20
    for flaw in (
        whole[:start] + whole[start + 30 :],  # data that ends too early
        whole[:start] + b"\xff\xd5" + whole[start:],  # a marker where none belongs
        whole[:-2] + b"garbage" * 3 + whole[-2:],
        whole[: whole.index(b"\xff\xc0")] + b"odd" + whole[whole.index(b"\xff\xc0") :],
    ):
        path.write_bytes(flaw)
        with Image.open(path) as image:
            image.load()  # Pillow says nothing
        with pytest.raises(ImageError, match="not a readable JPEG"):
            read(path, luma=luma)
    path.write_bytes(whole[:-2] + bytes(64) + whole[-2:])  # as some cameras end their files
    assert np.array_equal(read(path, luma=luma), expected)


def test_a_cut_jpeg_is_refused_in_gray_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    COLOURS.save(path)
    whole = path.read_bytes()
    for kept in (len(whole) - 2, len(whole) - 40, len(whole) // 2):
        path.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match="truncated"):
            read(path, size=[8, 8])


def test_ingested_luma_stays_8_bit(tmp_path: Path) -> None:
    COLOURS.save(tmp_path / "a.jpg")
    images = Images(path=str(tmp_path / "a.jpg"), color="gray", values="raw")
    assert ingest(images, tmp_path / "a.zarr").dtype == "uint8"
    assert np.array_equal(read(tmp_path / "a.zarr"), read(tmp_path / "a.jpg"))


def test_the_store_tells_where_its_gray_came_from(tmp_path: Path) -> None:
    COLOURS.save(tmp_path / "a.jpg")

    def run(**options: Any) -> None:
        pipeline = parse_pipeline(
            {
                "images": {"path": str(tmp_path / "a.jpg"), "color": "gray", "values": "raw", **options},
                "features": {"same": {"layers": [{"convolve": {"bank": "identity"}}]}},
                "store": {"path": str(tmp_path / "a.zarr")},
            }
        )
        run_plan(plan_run(pipeline, default_resources(threads=1)))

    run()
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    header: Any = root.attrs["featpipe"]
    assert (header["pipeline"]["images"]["color"], header["pipeline"]["images"]["luma"]) == ("gray", "stored")
    assert {"imagecodecs", "pillow", "tifffile"} <= set(header["versions"])
    features: Any = root["same/scale1/features"]
    assert np.array_equal(features[0, ..., 0], read(tmp_path / "a.jpg")[1:-1, 1:-1])  # identity is 3×3, padding valid
    with pytest.raises(StoreError, match="holds the features of another pipeline"):
        run(luma="computed")
