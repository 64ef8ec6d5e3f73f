"""Decoding of every kind of file, compared with another way of reading it."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from featpipe.errors import ImageError, SourceError
from featpipe.images.header import exif_orientation
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.spec.pipeline import Images
from tests.unit.reading import write_packed

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
GRAY = np.ascontiguousarray(RGB[..., 0])
DEEP = RNG.integers(0, 65536, (23, 31, 3), dtype=np.uint16)


def read(path: Path, **options: Any) -> np.ndarray:
    images = Images(path=str(path), **options)
    collection = scan(images)
    image = open_reader(images, collection).read_image(0)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert image.shape == (collection.heights[0], collection.widths[0], len(collection.channels))
    return image


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        read(path, **options)
    return str(caught.value)


def png(path: Path, pixels: np.ndarray, colour: int, extra: bytes = b"", tail: bytes = b"", depth: int = 16) -> Path:
    """Write a PNG by hand, 8 or 16 bits deep, with ``extra`` chunks before its pixels and ``tail`` behind."""
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in pixels)
    size = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", size) + extra + chunk(b"IDAT", zlib.compress(rows)) + tail + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.tif"])
@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_eight_bit_files_read_as_imageio_reads_them(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    path = tmp_path / name
    Image.fromarray(pixels).save(path)
    expected = np.atleast_3d(iio.imread(path)).astype(np.float32) / np.float32(255)
    assert np.array_equal(read(path), expected)
    assert np.array_equal(read(path, values="raw"), np.atleast_3d(iio.imread(path)).astype(np.float32))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_turned_as_pillow_turns_them(tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    if name == "a.tif":
        tifffile.imwrite(path, RGB, photometric="rgb", extratags=[(0x0112, 3, 1, orientation, True)])
    with Image.open(path) as image:
        if name == "a.tif":  # Pillow may have turned it on loading already
            turned = Image.fromarray(RGB)
            turned.getexif()[0x0112] = orientation
            expected = np.asarray(ImageOps.exif_transpose(turned))
            plain = RGB
        else:
            expected, plain = np.asarray(ImageOps.exif_transpose(image)), np.asarray(image)
    assert np.array_equal(read(path, values="raw"), expected)
    assert np.array_equal(read(path, values="raw", orientation="ignore"), plain)


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = png(tmp_path / "a.png", RGB, 2, tail=chunk(b"eXIf", exif.tobytes()[6:]), depth=8)
    assert np.array_equal(read(path, values="raw"), np.rot90(RGB, -1))


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0MM\0*garb", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x09\0\0"])
def test_damaged_exif_means_upright(tmp_path: Path, exif: bytes) -> None:
    assert exif_orientation(exif) == 1
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (23, 31, 3)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_pngs_keep_16_bits(tmp_path: Path, colour: int, channels: int) -> None:
    pixels = RNG.integers(0, 65536, (9, 11, channels), dtype=np.uint16)
    colours = pixels[..., : channels - (colour >= 4)]
    path = png(tmp_path / "a.png", pixels, colour)
    assert np.array_equal(read(path, values="raw"), colours.astype(np.float32))
    assert np.array_equal(read(path), colours.astype(np.float32) / np.float32(65535))
    if colour >= 4:
        alpha = pixels[..., -1:] / 65535
        np.testing.assert_allclose(read(path, alpha="white"), colours / 65535 * alpha + 1 - alpha, atol=1e-6)


def test_one_bit_images_are_zero_and_one(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(GRAY > 100).save(tmp_path / name)
        for values in ("raw", "unit"):
            assert np.array_equal(read(tmp_path / name, values=values)[..., 0], GRAY > 100)


def test_a_palette_with_transparency_is_rgb_and_can_be_blended(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).quantize(16).save(path, transparency=bytes(range(0, 256, 16)))
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    assert np.array_equal(read(path, values="raw"), rgba[..., :3])
    alpha = rgba[..., 3:] / 255
    blended = rgba[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(read(path, values="raw", alpha="white"), blended, atol=1e-4)
    np.testing.assert_allclose(read(path, alpha="white"), blended / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_never_a_channel(tmp_path: Path, mode: str) -> None:
    pixels = RNG.integers(0, 256, (9, 11, len(mode)), dtype=np.uint8)
    Image.frombytes(mode, (11, 9), pixels.tobytes()).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", values="raw"), pixels[..., :-1])
    alpha = pixels[..., -1:] / 255
    blended = pixels[..., :-1] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(read(tmp_path / "a.png", values="raw", alpha="white"), blended, atol=1e-4)


def test_opaque_pixels_blend_to_themselves(tmp_path: Path) -> None:
    pixels = np.dstack([RGB, np.full_like(GRAY, 255)])
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(read(tmp_path / "a.webp", values="raw", alpha="white"), RGB)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, name: str) -> None:
    ink = np.kron(RNG.integers(0, 256, (4, 5, 4)), np.ones((8, 8, 1))).astype(np.uint8)
    Image.frombytes("CMYK", (40, 32), ink.tobytes()).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode == "CMYK"
        assert np.array_equal(read(tmp_path / name, values="raw"), np.asarray(image.convert("RGB")))


def test_gray_is_601_luma_in_float32(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    expected = RGB.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(read(tmp_path / "a.png", color="gray")[..., 0], expected, atol=2e-7)
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", color="rgb", values="raw"), np.dstack([GRAY] * 3))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "float16", "float32", "float64"])
def test_tiffs_keep_their_numbers(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(dtype)
    pixels = (RNG.random((9, 11)) * (np.iinfo(kind).max if kind.kind in "iu" else 5)).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    assert np.array_equal(read(tmp_path / "a.tif", values="raw")[..., 0], pixels.astype(np.float32))
    most = np.float32(np.iinfo(kind).max) if kind.kind in "iu" else np.float32(1)
    assert np.array_equal(read(tmp_path / "a.tif")[..., 0], pixels.astype(np.float32) / most)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiffs_of_many_channels_have_numbered_channels(tmp_path: Path, planar: str, compression: str | None) -> None:
    pixels = RNG.integers(0, 65536, (33, 40, 5), dtype=np.uint16)
    stored = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if planar == "separate" else pixels
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": planar, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    assert scan(Images(path=str(tmp_path))).channels == ("0", "1", "2", "3", "4")
    assert np.array_equal(read(tmp_path / "a.tif", values="raw"), pixels)
    assert "has 5 channels; images.color: gray needs 1 or 3" in refusal(tmp_path / "a.tif", color="gray")


def test_tiffs_invert_white_is_zero_and_tell_alpha_from_channels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="miniswhite")
    assert np.array_equal(read(tmp_path / "a.tif", values="raw")[..., 0], 255 - GRAY)
    pixels = RNG.integers(0, 65536, (9, 11, 4), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read(tmp_path / "a.tif", values="raw"), pixels[..., :3])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    alpha = pixels[..., 3:] / 65535
    expected = pixels[..., :3] + 65535 * (1 - alpha)
    np.testing.assert_allclose(read(tmp_path / "a.tif", values="raw", alpha="white"), expected, rtol=1e-6)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(read(tmp_path / "a.tif", values="raw"), pixels)  # near infrared, say


def test_a_palette_tiff_is_rgb(tmp_path: Path) -> None:
    Image.fromarray(RGB).quantize(16).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(read(tmp_path / "a.tif", values="raw"), np.asarray(image.convert("RGB")))


def test_a_jpeg_in_a_tiff_is_rgb(tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(RGB).resize((64, 48), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_allclose(read(tmp_path / "a.tif", values="raw"), np.asarray(image.convert("RGB")), atol=2)


def test_12_bit_tiff_samples_reach_one(tmp_path: Path) -> None:
    pixels = np.array([[0, 4095], [2048, 1]], np.uint16)
    write_packed(tmp_path / "a.tif", pixels, 12)
    assert np.array_equal(read(tmp_path / "a.tif")[..., 0], pixels.astype(np.float32) / np.float32(4095))


def test_images_of_several_pages_or_frames_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GRAY] * 3), photometric="minisblack")
    assert "a.tif: has 3 pages" in refusal(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "i.tif", np.stack([GRAY] * 3), imagej=True, truncate=True)
    assert "i.tif: has 3 frames" in refusal(tmp_path / "i.tif")
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for name in ("a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert f"{name}: is an animation of 2 frames" in refusal(tmp_path / name)


def test_a_reduced_page_beside_the_image_does_not_count(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    assert np.array_equal(read(tmp_path / "a.tif", values="raw"), RGB)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.tif", "zlib.tif", "jpeg.tif"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    if name in {"zlib.tif", "jpeg.tif"}:
        tifffile.imwrite(path, np.kron(RGB, np.ones((9, 9, 1), np.uint8)), compression=path.stem, photometric="rgb")
    whole = path.read_bytes()
    for kept in (len(whole) - 40, len(whole) // 2, 60, 13, 1):
        path.write_bytes(whole[:kept])
        assert f"{name}: not a" in refusal(path, color="rgb", size=[8, 8])


def test_files_that_are_no_images_say_so(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"")
    assert "cat.jpg: is empty (0 bytes)." in refusal(path)
    path.write_text("<html>404</html>")
    assert "cat.jpg: not a JPEG, PNG, TIFF, BMP or WebP image." in refusal(path)
    Image.fromarray(GRAY).save(path, format="GIF")
    assert "cat.jpg: not a JPEG" in refusal(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(8) + b"\x08\0\0\0\0") + chunk(b"IEND", b""))
    assert "cat.jpg: has no pixels (0×0)." in refusal(path)


def test_damage_within_a_png_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert "a.png: not a readable PNG (" in refusal(path)


def test_odd_profiles_and_tags_make_no_noise(tmp_path: Path) -> None:
    profile = chunk(b"iCCP", b"odd\0\0" + zlib.compress(b"no profile"))
    png(tmp_path / "a.png", RGB, 2, extra=profile, depth=8)
    tifffile.imwrite(tmp_path / "b.tif", RGB, photometric="rgb", description="x" * 50)
    data = (tmp_path / "b.tif").read_bytes()
    description = struct.pack("<HHI", 270, 2, 51)
    assert data.count(description) == 1
    (tmp_path / "b.tif").write_bytes(data.replace(description, struct.pack("<HHI", 270, 2, 2**31)))
    program = (  # a process of its own, because pytest handles logs
        "import sys; from featpipe.images.decode import decode; from featpipe.spec.pipeline import Images\n"
        "print(sum(decode(path, Images(path=path)).samples.sum(dtype=int) for path in sys.argv[1:]))"
    )
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.tif")]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert (int(done.stdout), done.stderr) == (2 * RGB.sum(dtype=int), "")


def test_an_interlaced_png_reads_whole(tmp_path: Path) -> None:
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [row for y, x, down, right in passes for row in DEEP[y::down, x::right]]
    pixels = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows if row.size)
    size = struct.pack(">IIBBBBB", DEEP.shape[1], DEEP.shape[0], 16, 2, 0, 0, 1)
    body = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert np.array_equal(read(tmp_path / "a.png", values="raw"), DEEP)


def test_content_counts_more_than_the_extension(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read(tmp_path / "a.jpg", values="raw"), RGB)


def test_a_progressive_jpeg_and_one_with_a_trailer_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, progressive=True)
    path.write_bytes(path.read_bytes() + b"trailer of a camera")
    with Image.open(path) as image:
        assert np.array_equal(read(path, values="raw"), np.asarray(image))


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    bomb = png(tmp_path / "a.png", np.zeros((1, 1, 1)), 0)
    data = bytearray(bomb.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    bomb.write_bytes(data)
    assert "has 60000×60000 = 3,600,000,000 pixels, more than images.max_pixels = 500,000,000" in refusal(bomb)
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    with pytest.raises(SourceError):
        scan(Images(path=str(bomb), max_pixels=23 * 31 - 1))
    assert read(bomb, max_pixels=23 * 31).shape == (23, 31, 1)


def test_not_a_number_is_refused_with_its_count(tmp_path: Path) -> None:
    pixels = np.ones((9, 11), np.float64)
    pixels[2, 3], pixels[4, 5], pixels[0, 0] = np.nan, -np.inf, 1e300
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    assert "a.tif: holds 3 values that are NaN or infinite" in refusal(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "c.tif", np.ones((4, 4), np.complex64))
    assert "c.tif: is a TIFF of complex64 samples" in refusal(tmp_path / "c.tif")
