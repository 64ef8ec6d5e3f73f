"""Parts of TIFF files, against what tifffile reads of the whole; OME-TIFF; files that mean harm."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featpipe.errors import ImageError
from featpipe.geometry.axis import Span
from featpipe.images.decode import decode, read_header
from featpipe.images.reader import Reader, open_reader
from featpipe.images.refusal import Refused
from featpipe.images.scan import scan
from featpipe.images.tifftiles import read_part
from featpipe.spec.pipeline import Images, Region
from tests.unit.reading import packs_integers

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 256, (150, 170, 3), np.uint8)


def reader(path: Path, **options: Any) -> Reader:
    images = Images(path=str(path), **options)
    return open_reader(images, scan(images))


def refusal(path: Path, **options: Any) -> str:
    """Return why a file is refused, when its header is read or its pixels are."""
    images = Images(path=str(path), **options)
    try:
        read_header(str(path), images)
        decode(str(path), images)
    except Refused as refused:
        return str(refused)
    raise AssertionError(f"{path} was read")


COMPRESSIONS: dict[str | None, set[str]] = {
    None: {"uint8", "uint16", "int16", "float32", "float64", "bool"},
    "zlib": {"uint8", "uint16", "int16", "float32"},
    "lzw": {"uint8", "uint16"},
    "zstd": {"uint8", "uint16", "float32"},
    "packbits": {"uint8"},
    "lzma": {"uint16"},
    "jpeg": {"uint8"},
    "webp": {"uint8"},
    "jpeg2000": {"uint8", "uint16"},
    "png": {"uint8", "uint16"},
    "lerc": {"uint8", "float32"},
}


@st.composite
def tiffs(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    """Return pixels and how to write them."""
    compression = draw(st.sampled_from(list(COMPRESSIONS)))
    dtype = draw(st.sampled_from(sorted(COMPRESSIONS[compression])))
    image_codec = compression in {"jpeg", "webp", "jpeg2000", "png"}
    many = [3] if compression == "webp" else [1, 3] if image_codec else [1, 2, 3, 5]
    samples = 1 if dtype == "bool" else draw(st.sampled_from(many))
    apart = samples > 1 and not image_codec and draw(st.booleans())
    height, width = draw(st.integers(40, 130)), draw(st.integers(40, 130))
    shape = (samples, height, width) if apart else (height, width, samples) if samples > 1 else (height, width)
    seed = draw(st.integers(0, 2**32 - 1))
    pixels = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    options: dict[str, Any] = {"compression": compression, "bigtiff": draw(st.booleans()), "metadata": None}
    options["byteorder"] = "<" if image_codec or compression == "lerc" else draw(st.sampled_from("<>"))
    options["photometric"] = "rgb" if samples == 3 else "minisblack"
    if samples > 1:
        options["planarconfig"] = "separate" if apart else "contig"
    if draw(st.booleans()):
        options["tile"] = (16 * draw(st.integers(1, 4)), 16 * draw(st.integers(1, 4)))
    else:
        options["rowsperstrip"] = draw(st.integers(1, 40)) if compression != "jpeg" else 8 * draw(st.integers(1, 4))
    if compression in {"zlib", "lzw", "zstd"} and dtype != "bool":
        options["predictor"] = draw(st.booleans())
    plain = compression is None and dtype == "uint16" and options["byteorder"] == "<"
    if plain and packs_integers() and draw(st.booleans()):
        options["bitspersample"] = 12
    return pixels, options


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tiffs(), st.data())
def test_parts_are_what_tifffile_reads_of_the_whole(
    tmp_path: Path, written: tuple[np.ndarray, dict[str, Any]], data: st.DataObject
) -> None:
    pixels, options = written
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **options)
    expected = tifffile.imread(path)
    if expected.ndim == 2:
        expected = expected[..., None]
    elif options.get("planarconfig") == "separate":
        expected = np.moveaxis(expected, 0, -1)
    height, width, _ = expected.shape
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y, x = Span(y0, data.draw(st.integers(y0 + 1, height))), Span(x0, data.draw(st.integers(x0 + 1, width)))
    images = Images(path=str(path))
    for part, rows, columns in (((y, x), slice(*y), slice(*x)), (None, slice(None), slice(None))):
        found = decode(str(path), images, part).samples
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected[rows, columns])
    with tifffile.TiffFile(path) as tiff:  # however few tiles there are
        assert np.array_equal(read_part(tiff.pages.first, y, x), expected[slice(*y), slice(*x)])


@pytest.mark.parametrize("photometric", ["palette", "miniswhite", "separated", "alpha", "jpeg"])
def test_colours_of_parts_are_those_of_the_whole(tmp_path: Path, photometric: str) -> None:
    path, options = tmp_path / "a.tif", {"tile": (32, 48)}
    if photometric == "palette":
        table = RNG.integers(0, 65536, (3, 256), np.uint16)
        tifffile.imwrite(path, IMAGE[..., 0], photometric="palette", colormap=table, **options)
    elif photometric == "alpha":
        pixels = np.dstack([IMAGE, IMAGE[..., :1]])
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"], **options)
    elif photometric == "separated":
        tifffile.imwrite(path, np.dstack([IMAGE, IMAGE[..., :1]]), photometric="separated", **options)
    elif photometric == "jpeg":
        options["tile"] = (32, 48)
        tifffile.imwrite(path, IMAGE, photometric="rgb", compression="jpeg", subsampling=(2, 2), **options)
    else:
        tifffile.imwrite(path, IMAGE[..., 0], photometric=photometric, **options)
    source = reader(path, alpha="white")
    whole = source.read_image(0)
    assert source.collection.regions
    assert np.array_equal(source.read(0, Span(20, 90), Span(31, 150)), whole[20:90, 31:150])


def sparse(path: Path, fill: str = "") -> np.ndarray:
    """Write a file of which only one tile exists, and return what it holds."""
    tags = [(42113, 2, 0, fill, True)] if fill else None
    real = RNG.integers(1, 256, (64, 64), np.uint8)
    tiles = (zlib.compress(real.tobytes()) if i == 5 else b"" for i in range(20))
    tifffile.imwrite(
        path, tiles, shape=(250, 280), dtype="uint8", tile=(64, 64), photometric="minisblack",
        compression="zlib", extratags=tags, metadata=None,
    )  # fmt: skip
    expected = np.full((250, 280), int(fill or 0), np.uint8)
    expected[64:128, :64] = real
    return expected


@pytest.mark.parametrize("fill", ["", "7"])
def test_tiles_that_were_never_written_are_zeros_or_no_data(tmp_path: Path, fill: str) -> None:
    expected = sparse(tmp_path / "a.tif", fill)
    source = reader(tmp_path / "a.tif", values="raw")
    assert source.collection.regions
    assert np.array_equal(source.read(0, Span(3, 130), Span(60, 249))[..., 0], expected[3:130, 60:249])
    assert np.array_equal(source.read_image(0)[..., 0], expected)


def test_only_tiles_that_a_part_meets_are_read_and_many_threads_may(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image = RNG.integers(0, 256, (256, 256), np.uint8)
    tifffile.imwrite(path, image, tile=(64, 64), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offsets = tiff.pages.first.dataoffsets
    content = bytearray(path.read_bytes())
    for index in set(range(16)) - {5, 6}:
        content[offsets[index]] ^= 0xFF
    path.write_bytes(content)
    source = reader(path, values="raw")
    parts = [(Span(64 + i, 128), Span(64, 192 - i)) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: source.read(0, *part), parts))
    for (y, x), part in zip(parts, found, strict=True):
        assert np.array_equal(part[..., 0], image[slice(*y), slice(*x)])
    with pytest.raises(ImageError, match=r"a\.tif: not a readable TIFF"):
        source.read(0, Span(63, 70), Span(64, 70))


def test_a_turned_image_is_read_whole_unless_its_orientation_is_ignored(tmp_path: Path) -> None:
    tags = [(0x0112, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, tile=(16, 16), photometric="rgb", extratags=tags, metadata=None)
    turned, stored = reader(tmp_path / "a.tif"), reader(tmp_path / "a.tif", orientation="ignore")
    assert (turned.collection.regions, stored.collection.regions) == (False, True)
    assert turned.collection.shape == (170, 150)
    part = turned.read(0, Span(5, 50), Span(100, 140))
    assert np.array_equal(part, turned.read_image(0)[5:50, 100:140])
    cut = reader(tmp_path / "a.tif", region=Region(y=[5, 50], x=[100, 140]))
    assert np.array_equal(cut.read_image(0), part)


def test_copies_masks_and_what_a_scanner_adds_are_no_pages_to_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "cog.tif", bigtiff=True) as writer:
        writer.write(IMAGE, tile=(16, 16), photometric="rgb", metadata=None)
        writer.write(IMAGE[..., 0] > 9, tile=(16, 16), subfiletype=4, photometric="mask", metadata=None)
        writer.write(IMAGE[::2, ::2], tile=(16, 16), subfiletype=1, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        writer.write(IMAGE, tile=(32, 32), description="Aperio Image Library v12", **options)
        writer.write(IMAGE[::8, ::8], **options)
        writer.write(IMAGE[::4, ::4], tile=(32, 32), **options)
    for name in ("cog.tif", "slide.tif"):
        source = reader(tmp_path / name, values="raw")
        assert source.collection.regions
        assert np.array_equal(source.read(0, Span(9, 99), Span(20, 160)), IMAGE[9:99, 20:160])


# -- OME-TIFF -------------------------------------------------------------------------------------------------------


def test_channels_of_an_ome_tiff_are_pages_or_samples(tmp_path: Path) -> None:
    stack = RNG.integers(0, 4096, (4, 100, 90), np.uint16)
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(stack, tile=(16, 32), metadata={"axes": "CYX"}, photometric="minisblack", subifds=1)
        writer.write(stack[:, ::2, ::2], tile=(16, 32), subfiletype=1, photometric="minisblack")
    source = reader(path, values="raw")
    assert source.collection.channels == ("0", "1", "2", "3")
    assert np.array_equal(source.read(0, Span(7, 80), Span(30, 90)), np.moveaxis(stack, 0, -1)[7:80, 30:90])
    assert np.array_equal(source.read_image(0), np.moveaxis(stack, 0, -1))
    tifffile.imwrite(path, IMAGE, ome=True, tile=(16, 16), photometric="rgb")
    assert np.array_equal(reader(path, values="raw").read(0, Span(3, 9), Span(2, 8)), IMAGE[3:9, 2:8])


def test_an_ome_tiff_of_more_than_one_plane_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((3, 2, 40, 40), np.uint8), ome=True, metadata={"axes": "ZCYX"})
    assert refusal(path).startswith("is an OME-TIFF of 3 planes (z) and 1 times (t); one of each is read. Split it")
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(np.zeros((40, 40), np.uint8))
        writer.write(np.zeros((30, 30), np.uint8))
    assert "is an OME-TIFF of 2 images; it may have one" in refusal(path)


def test_an_ome_tiff_opens_no_other_file_and_expands_no_entity(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = '<Pixels SizeX="40" SizeY="40" SizeZ="1" SizeT="1" SizeC="2" DimensionOrder="XYCZT" Type="uint8">'
    data = '<TiffData FirstC="{0}" IFD="0"><UUID FileName="{1}">urn:uuid:{0}</UUID></TiffData>'
    body = pixels + data.format(0, "a.ome.tif") + data.format(1, "../b.ome.tif") + "</Pixels>"
    describe = '<OME UUID="urn:uuid:0"><Image ID="Image:0">{}</Image></OME>'.format
    tifffile.imwrite(path, IMAGE[..., 0], description=describe(body), metadata=None)
    assert refusal(path) == "is an OME-TIFF of several files; it may have one. Convert it to one file (bfconvert)"
    bomb = '<!DOCTYPE OME [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + describe("&b;")
    tifffile.imwrite(path, IMAGE[..., 0], description=bomb, metadata=None)
    assert "declares entities" in refusal(path)


# -- limits and harm ----------------------------------------------------------------------------------------------


def test_max_pixels_limits_what_is_decoded_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE[..., 0], tile=(32, 32), metadata=None, compression="zlib")
    assert reader(path, max_pixels=2000).collection.regions
    assert "has a tile of 32×32 = 1,024 pixels, more than images.max_pixels = 1,000" in refusal(path, max_pixels=1000)
    assert "has 150×170 = 25,500 pixels, more than images.max_pixels" in refusal(path, max_pixels=2000, size=[9, 9])
    assert reader(path, max_pixels=2000, size=[9, 9], region=Region(y=[0, 40], x=[9, 49])).collection.shape == (9, 9)
    tifffile.imwrite(path, IMAGE[..., 0], metadata=None, compression="zlib", rowsperstrip=150)
    assert "has a tile of 150×170" in refusal(path, max_pixels=2000)


def test_beside_files_that_are_read_whole_a_large_one_is_too_large(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", tile=(16, 16), metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", IMAGE[:40, :40], photometric="rgb", rowsperstrip=40, compression="zlib")
    collection = scan(Images(path=str(tmp_path), max_pixels=2000))
    assert not collection.regions
    assert "a.tif" in collection.paths
    assert "more than images.max_pixels" in collection.unreadable[0]


def entry(code: int, dtype: int, count: int, value: int) -> bytes:
    return struct.pack("<HHQQ", code, dtype, count, value)


def page(after: int = 0, **changes: tuple[int, int, int] | None) -> bytes:
    """Return a BigTIFF's page of one 16×16 tile, with some of its tags changed."""
    tags: dict[str, tuple[int, int, int, int]] = {
        "width": (256, 4, 1, 16), "height": (257, 4, 1, 16), "bits": (258, 3, 1, 8), "compression": (259, 3, 1, 1),
        "photometric": (262, 3, 1, 1), "samples": (277, 3, 1, 1), "tilewidth": (322, 4, 1, 16),
        "tileheight": (323, 4, 1, 16), "offsets": (324, 16, 1, 16), "counts": (325, 16, 1, 256),
        "more": (330, 16, 0, 0),
    }  # fmt: skip
    lines = []
    for name, (code, *facts) in tags.items():
        dtype, count, value = changes.get(name) or facts
        if count:
            lines.append(entry(code, dtype, count, value & (2**64 - 1)))
    return struct.pack("<Q", len(lines)) + b"".join(lines) + struct.pack("<Q", after)


def big(*pages: bytes, first: int = 0) -> bytes:
    """Return a BigTIFF of these pages, the first of which comes after 1000 bytes of pixels."""
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first or 1016) + bytes(1000) + b"".join(pages)


def chain(count: int) -> bytes:
    size = len(page())
    return big(*(page(1016 + size * (i + 1)) for i in range(count)), page())


def claim(compression: str, marker: bytes, after: int, form: str, side: int = 60_000) -> bytes:
    """Return a TIFF of one tile that says of itself that it is larger."""
    file = io.BytesIO()
    pixels = IMAGE[:64, :64]
    options = {"lossless": True} if compression == "webp" else {}
    tifffile.imwrite(
        file, pixels, photometric="rgb", tile=(64, 64), compression=compression, compressionargs=options, metadata=None
    )
    content = bytearray(file.getvalue())
    sides = (side, side) if form != "<I" else (14_999 << 14 | 14_999,)
    struct.pack_into(form, content, content.index(marker) + after, *sides)
    return bytes(content)


LONG, SHORT, SIGNED = 16, 3, 17
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a page that follows itself": (lambda: big(page(1016)), "in a circle"),
    "a hundred thousand pages": (lambda: chain(100_000), "more than 4,096 pages"),
    "a hundred pages": (lambda: chain(99), "has 100 pages; it may have one"),
    "no page at all": (lambda: big(page(), first=10**9), "truncated"),
    "tiles beyond the file": (lambda: big(page(offsets=(LONG, 1, 10**12))), "truncated"),
    "a tile of 2^60 bytes": (lambda: big(page(counts=(LONG, 1, 2**60))), "truncated"),
    "2^60 tiles": (lambda: big(page(offsets=(LONG, 2**60, 16), counts=(LONG, 2**60, 16))), "tiles or strips"),
    "tiles of no height": (lambda: big(page(tileheight=(4, 1, 0))), "tilelength is 0"),
    "a tile of 10^6 x 10^6": (
        lambda: big(page(compression=(3, 1, 8), tilewidth=(4, 1, 10**6), tileheight=(4, 1, 10**6))),
        "more than images.max_pixels",
    ),
    "pixels that are not there": (lambda: big(page(width=(4, 1, 4096), tilewidth=(4, 1, 4096))), "truncated"),
    "an image of 2^31 x 2^31": (lambda: big(page(width=(4, 1, 2**31), height=(4, 1, 2**31))), "it lists 1 of"),
    "a large image of one tile": (lambda: big(page(width=(4, 1, 9000), height=(4, 1, 9000))), "of 316,969 tiles"),
    "65,535 samples": (lambda: big(page(samples=(SHORT, 1, 65535), bits=(SHORT, 1, 8))), "65,535 samples per pixel"),
    "a negative width": (lambda: big(page(width=(SIGNED, 1, -16))), "imagewidth is -16"),
    "two widths": (lambda: big(page(width=(4, 2, 16 << 32 | 16))), "imagewidth is (16, 16)"),
    "no offsets": (lambda: big(page(offsets=(LONG, 0, 0))), "of 1 tiles"),
    "a JPEG without its tables": (
        lambda: claim("jpeg", b"\xff\xc0", 5, ">HH", 64).replace(b"\xff\xdb", b"\xff\xfe"),
        "not a readable TIFF (tifffile: Quantization table",
    ),
    "a JPEG that is none": (lambda: big(page(compression=(SHORT, 1, 7))), "not a readable JPEG"),
    "a sub-page that is its own": (lambda: big(page(1016, more=(18, 1, 1016))), "in a circle"),
    "a JPEG of 60,000 x 60,000 in a tile": (lambda: claim("jpeg", b"\xff\xc0", 5, ">HH"), "holds one of 60000×60000"),
    "a JPEG 2000 likewise": (lambda: claim("jpeg2000", b"\xff\x51", 6, ">II"), "holds one of 60000×60000"),
    "a PNG likewise": (lambda: claim("png", b"IHDR", 4, ">II"), "holds one of 60000×60000"),
    "a WebP likewise": (lambda: claim("webp", b"VP8L", 9, "<I"), "holds one of 15000×15000"),
    "tags without end": (lambda: big(struct.pack("<Q", 2**40)), "tags in a page"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_tiff_that_means_harm_is_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    make, reason = HOSTILE[name]
    (tmp_path / "a.tif").write_bytes(make())
    assert reason in refusal(tmp_path / "a.tif")


GROWTH = """
import resource, sys
from featpipe.images.decode import decode
from featpipe.images.refusal import Refused
from featpipe.spec.pipeline import Images

for path in sys.argv[1:]:
    try:
        decode(path, Images(path=path))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    except Refused:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_tiffs_that_mean_harm_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "good.tif").write_bytes(big(page()))
    for i, (make, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{i}.tif").write_bytes(make())
    paths = [str(tmp_path / "good.tif"), *(str(tmp_path / f"{i}.tif") for i in range(len(HOSTILE)))]
    done = subprocess.run([sys.executable, "-c", GROWTH, *paths], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64  # MiB
