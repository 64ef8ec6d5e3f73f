"""Reading parts and wholes, from files and arrays, in any thread."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from PIL import Image

from featpipe.errors import ImageError
from featpipe.geometry.axis import Span
from featpipe.images.arrays import resolve_axes, scan_array
from featpipe.images.reader import open_reader
from featpipe.spec.pipeline import Images
from tests.unit.reading import complaint, reader

RNG = np.random.default_rng(11)
STACK = RNG.integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)


def source(folder: Path, kind: str) -> Path:
    """Write STACK in one of the ways it can be read."""
    match kind:
        case "files":
            path = folder / "files"
            path.mkdir()
            for i, image in enumerate(STACK):
                Image.fromarray(image).save(path / f"{i}.png")
        case "npy":
            path = folder / "stack.npy"
            np.save(path, STACK)
        case "fortran":
            path = folder / "fortran.npy"
            np.save(path, np.asfortranarray(STACK))
        case "zarr2" | "zarr3":
            path = folder / f"{kind}.zarr"
            chunks = (2, 20, 30, 3) if kind == "zarr2" else (1, 8, 9, 3)
            version: Literal[2, 3] = 2 if kind == "zarr2" else 3
            array = zarr.create_array(str(path), shape=STACK.shape, chunks=chunks, dtype="u1", zarr_format=version)
            array[:] = STACK
        case _:
            raise AssertionError(kind)
    return path


KINDS = ["files", "npy", "fortran", "zarr2", "zarr3"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"values": "raw"}, {"color": "gray"}, {"size": [7, 9]}], ids=str)
def test_parts_are_cut_from_the_whole_bit_for_bit(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    source_reader = reader(source(tmp_path, kind), **options)
    height, width = source_reader.collection.shape
    assert source_reader.collection.regions == (kind != "files" and "size" not in options)
    for index in (4, 0, 1, 1):
        whole = source_reader.read_image(index)
        assert whole.shape == (height, width, len(source_reader.collection.channels))
        for y, x in ((Span(0, height), Span(0, width)), (Span(1, 3), Span(0, width)), (Span(0, 7), Span(0, 5))):
            part = source_reader.read(index, y, x)
            assert part.dtype == np.float32
            assert part.flags.c_contiguous
            assert np.array_equal(part, whole[y.start : y.stop, x.start : x.stop])
            part[:] = -1  # the caller's own: later reads do not see it
    if "size" not in options and "color" not in options:
        assert np.array_equal(whole, STACK[1] / np.float32(1 if "values" in options else 255))


@pytest.mark.parametrize("kind", KINDS)
def test_readers_can_be_pickled_and_shared_by_threads(tmp_path: Path, kind: str) -> None:
    first = reader(source(tmp_path, kind), values="raw")
    first.read(2, Span(0, 1), Span(0, 1))
    second = pickle.loads(pickle.dumps(first))
    rows = [int(i) for i in RNG.integers(0, 5, 60)]
    with ThreadPoolExecutor(8) as pool:
        for row, part in zip(rows, pool.map(lambda i: second.read(i, Span(3, 9), Span(2, 8)), rows), strict=True):
            assert np.array_equal(part, STACK[row, 3:9, 2:8])


def test_reading_a_region_of_an_npy_touches_only_that_region(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    mapped = np.lib.format.open_memmap(path, "w+", np.uint8, (2, 40_000, 40_000))  # 3.2 GB, sparse
    mapped[1, 39_998, 39_999] = 255
    del mapped
    part = reader(path).read(1, Span(39_990, 40_000), Span(39_990, 40_000))
    assert part.sum() == 1
    assert part[8, 9, 0] == 1


@pytest.mark.parametrize(
    ("shape", "given", "names", "axes"),
    [
        ((4, 5), None, "", "yx"),
        ((9, 4, 5), None, "", "nyx"),
        ((9, 4, 3), "yxc", "", "yxc"),
        ((9, 4, 3), "nyx", "", "nyx"),
        ((9, 4, 3), None, "yxc", "yxc"),
        ((3, 4, 3), None, "", "nyx"),
        ((9, 4, 5, 3), None, "", "nyxc"),
    ],
)
def test_axes_follow_from_their_number(shape: tuple[int, ...], given: str | None, names: str, axes: str) -> None:
    assert resolve_axes(shape, given, names) == axes


def test_ambiguous_and_impossible_axes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((9, 7, 3), np.uint8))
    assert "Set images.axes: yxc or images.axes: nyx." in complaint(path)
    assert reader(path, axes="yxc").collection.shape == (9, 7)
    assert "nyxc names 4 axes, the array 9×7×3 has 3" in complaint(path, axes="nyxc")
    np.save(path, np.zeros((1, 2, 3, 4, 5)))
    assert "has 5 axes" in complaint(path)
    np.save(path, np.zeros((0, 2, 3)))
    assert "is empty" in complaint(path)
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(2, 3, 4, 4), dtype="u1", dimension_names=["n", "y", "C", "x"])
    assert "the array's axes are nycx" in complaint(tmp_path / "b.zarr")
    zarr.create_array(str(tmp_path / "c.zarr"), shape=(9, 7, 3), dtype="u1", dimension_names=["row", "col", "band"])
    assert reader(tmp_path / "c.zarr").collection.axes == "yxc"


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64"])
def test_numbers_of_arrays_are_scaled_by_their_type(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(dtype)
    values = (RNG.random((2, 5, 6)) * (np.iinfo(kind).max if kind.kind in "iu" else 2)).astype(kind)
    np.save(tmp_path / "a.npy", values)
    most = np.float32(np.iinfo(kind).max) if kind.kind in "iu" else np.float32(1)
    assert np.array_equal(reader(tmp_path / "a.npy").read_image(1)[..., 0], values[1].astype(np.float32) / most)
    assert np.array_equal(reader(tmp_path / "a.npy", values="raw").read_image(1)[..., 0], values[1].astype(np.float32))


def test_arrays_of_no_numbers_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([[{}]]), allow_pickle=True)
    assert "o.npy is not a .npy array of numbers" in complaint(tmp_path / "o.npy")
    np.save(tmp_path / "c.npy", np.zeros((3, 3), complex))
    assert "the array is of complex128" in complaint(tmp_path / "c.npy")
    np.save(tmp_path / "s.npy", np.zeros((3, 3), [("r", "u1"), ("g", "u1")]))
    assert "bool, integers and floats" in complaint(tmp_path / "s.npy")
    (tmp_path / "t.npy").write_text("text")
    assert "t.npy is not a .npy array of numbers" in complaint(tmp_path / "t.npy")
    (tmp_path / "z.zarr").mkdir()
    (tmp_path / "z.zarr/zarr.json").write_text("{")
    assert "is not a readable zarr array" in complaint(tmp_path / "z.zarr")
    zarr.create_group(str(tmp_path / "g.zarr")).create_array("inner", shape=(2, 2), dtype="u1")
    assert "is a zarr group of inner, not one array. Give one array:" in complaint(tmp_path / "g.zarr")
    assert reader(tmp_path / "g.zarr/inner").collection.shape == (2, 2)


def test_arrays_must_suit_colour_size_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 8, 8, 5), np.uint8))
    assert reader(path).collection.channels == ("0", "1", "2", "3", "4")
    assert "images.color: the array has 5 channels" in complaint(path, color="gray")
    assert "images.size: the images are 8×8 pixels, not 4×4" in complaint(path, size=[4, 4], fit="error")
    assert "images.labels" in complaint(path, labels="folders")
    assert "no column 'species'; there are: none beside path" in complaint(path, labels="species")


def test_not_a_number_is_refused_where_it_is_read(tmp_path: Path) -> None:
    values = np.zeros((2, 8, 8), np.float32)
    values[1, 2, 3] = np.nan
    np.save(tmp_path / "a.npy", values)
    array_reader = reader(tmp_path / "a.npy")
    assert array_reader.read_image(0).shape == (8, 8, 1)
    with pytest.raises(ImageError, match="1: holds 1 values that are NaN"):
        array_reader.read_image(1)


def test_gray_of_a_large_image_is_made_strip_by_strip(tmp_path: Path) -> None:
    values = RNG.random((300, 700, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    gray = reader(tmp_path / "a.npy", axes="yxc", color="gray").read_image(0)[..., 0]
    np.testing.assert_allclose(gray, values @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    values[0, 0, 0] = values[150, 5] = values[-1, -1, 2] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ImageError, match="0: holds 5 values that are NaN"):
        reader(tmp_path / "a.npy", axes="yxc", color="gray").read_image(0)


def test_a_damaged_chunk_is_an_image_error(tmp_path: Path) -> None:
    path = source(tmp_path, "zarr3")
    for chunk in (path / "c" / "0").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    array_reader = reader(path)
    assert array_reader.read_image(1).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="0: not a readable part of the array"):
        array_reader.read_image(0)


def test_an_array_in_memory_reads_like_a_file(tmp_path: Path) -> None:
    images = Images(path="array", color="gray")
    memory = open_reader(images, scan_array(STACK, images), STACK)
    file = reader(source(tmp_path, "npy"), color="gray")
    assert memory.collection.kind == "array"
    assert np.array_equal(memory.read_image(3), file.read_image(3))


def test_a_file_that_changed_or_went_after_the_scan_is_an_image_error(tmp_path: Path) -> None:
    file_reader = reader(source(tmp_path, "files"))
    Image.fromarray(STACK[0, :9]).save(tmp_path / "files/0.png")
    Image.fromarray(STACK[0, ..., 0]).save(tmp_path / "files/2.png")
    (tmp_path / "files/1.png").unlink()
    with pytest.raises(ImageError, match=r"0\.png: is 9×30 pixels of 3 channels now, not 20×30 of 3"):
        file_reader.read_image(0)
    with pytest.raises(ImageError, match=r"2\.png: is 20×30 pixels of 1 channels now"):
        file_reader.read_image(2)
    with pytest.raises(ImageError, match=r"1\.png: no such file"):
        file_reader.read(1, Span(0, 3), Span(0, 3))


def test_a_file_that_became_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    file_reader = reader(source(tmp_path, "files"))
    (tmp_path / "files/1.png").unlink()
    os.mkfifo(tmp_path / "files/1.png")
    with pytest.raises(ImageError, match=r"1\.png: is a named pipe, not a file"):
        file_reader.read_image(1)


def test_a_span_outside_the_image_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not within the 20×30 pixels"):
        reader(source(tmp_path, "npy")).read(0, Span(0, 21), Span(0, 3))


def resized(image: np.ndarray, folder: Path, **options: Any) -> np.ndarray:
    np.save(folder / "r.npy", image)
    return reader(folder / "r.npy", axes="yxc", values="raw", **options).read_image(0)


def test_an_image_of_the_size_is_left_alone_and_a_cut_is_exact(tmp_path: Path) -> None:
    image = RNG.random((20, 31, 3)).astype(np.float32)
    for fit in ("crop", "pad", "stretch", "error"):
        assert np.array_equal(resized(image, tmp_path, size=[20, 31], fit=fit), image)
    assert np.array_equal(resized(image, tmp_path, size=[20, 20]), image[:, 5:25])
    assert np.array_equal(resized(image, tmp_path, size=[12, 31]), image[4:16])


def test_padding_centres_the_whole_image_on_zeros(tmp_path: Path) -> None:
    image = RNG.random((20, 30, 1)).astype(np.float32) + 1
    padded = resized(image, tmp_path, size=[27, 30], fit="pad")
    assert np.array_equal(padded[3:23], image)
    assert not padded[:3].any()
    assert not padded[23:].any()
    small = resized(image, tmp_path, size=[10, 10], fit="pad")
    assert (small[..., 0].any(axis=1) == [0, 1, 1, 1, 1, 1, 1, 1, 0, 0]).all()


def test_shrinking_averages_and_keeps_the_centre(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[None, :, None], (20, 40, 1))
    cropped = resized(ramp, tmp_path, size=[10, 10])
    np.testing.assert_allclose(cropped[5, 2:8, 0], 10 + 2 * np.arange(2, 8) + 0.5, atol=1e-4)
    turned = resized(np.swapaxes(ramp, 0, 1), tmp_path, size=[10, 10])
    assert np.array_equal(np.swapaxes(turned, 0, 1), cropped)
    stretched = resized(ramp, tmp_path, size=[10, 10], fit="stretch")
    np.testing.assert_allclose(stretched[5, 2:8, 0], 4 * np.arange(2, 8) + 1.5, atol=1e-4)
    checks = (np.indices((40, 40)).sum(0) % 2).astype(np.float32)[..., None]
    np.testing.assert_allclose(resized(checks, tmp_path, size=[10, 10])[2:8, 2:8], 0.5, atol=0.01)


def test_images_of_many_sizes_do_not_mix_in_the_memory_they_share(tmp_path: Path) -> None:
    shapes = [(40, 30), (20, 50), (40, 30), (9, 9), (1700, 1300), (12, 40)]
    for i, shape in enumerate(shapes):
        Image.fromarray(RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    for options in ({"fit": "crop"}, {"fit": "pad", "color": "gray"}, {"fit": "stretch"}):
        shared = reader(tmp_path, size=[12, 12], **options)
        expected = [reader(tmp_path, size=[12, 12], **options).read_image(i) for i in range(len(shapes))]
        rows = [int(i) for i in RNG.integers(0, len(shapes), 40)]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(shared.read_image, rows))
        for row, image in zip(rows, found, strict=True):
            assert image.flags.c_contiguous
            assert np.array_equal(image, expected[row])


def test_a_sliver_does_not_explode(tmp_path: Path) -> None:
    image = np.ones((1, 100_000, 1), np.float32)
    for fit in ("crop", "pad", "stretch"):
        assert resized(image, tmp_path, size=[64, 64], fit=fit).max() == 1


MEASURE = """
import sys
from pathlib import Path
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.spec.pipeline import Images

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def reader(path):
    images = Images(path=path, size=[300, 300] if sys.argv[3] == "sized" else None, color="gray")
    return open_reader(images, scan(images))

reader(sys.argv[1]).read_image(0)  # loads the libraries
large = reader(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
result = large.read_image(0)
print(memory("VmHWM") - before, large.collection.decoded_bytes[0])
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("option", ["sized", "native"])
def test_reading_takes_no_more_memory_than_planned(tmp_path: Path, name: str, option: str) -> None:
    ramp = (np.add.outer(np.arange(1500), np.arange(2000)) % 256).astype(np.uint8)
    for folder, image in (("small", STACK[0]), ("large", np.dstack([ramp] * 3))):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / name)
    paths = [str(tmp_path / "small" / name), str(tmp_path / "large" / name)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths, option], capture_output=True, text=True, check=True)
    taken, planned = map(int, done.stdout.split())
    assert 0.2 * planned < taken <= planned
