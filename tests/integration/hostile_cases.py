"""Sources made to break out, to run code, to fill memory or to hang: what each writes, and what must become of it."""

# ruff: noqa: E501 - a case a line

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.unit.source_examples import picture, write_table, write_tar, write_zip

PIPELINE = (
    "images: {%s, color: rgb}\nfeatures:\n  a:\n    layers:\n      - convolve: {bank: sobel}\nstore: {path: out.zarr}\n"
)
GOOD = picture(0, 12, 12)
CANARY = picture(99, 12, 12)
"""The picture outside, which no store may hold features of."""


class Payload:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


PICKLED = pickle.dumps(Payload())


@dataclass(frozen=True)
class Case:
    """``write`` fills the case's folder and returns ``images:`` of the pipeline, or all of it.

    ``row`` is the image that must be left without features while others get theirs; without it, all is refused.
    """

    write: Callable[[Path], str]
    row: str = ""


def image(name: str, content: bytes | Callable[[Path], object]) -> Case:
    """Return a case of one bad file beside a good one."""

    def write(folder: Path) -> str:
        (folder / "in").mkdir()
        (folder / "in/good.png").write_bytes(GOOD)
        if isinstance(content, bytes):
            (folder / "in" / name).write_bytes(content)
        else:
            content(folder / "in" / name)
        return "path: in"

    return Case(write, name)


def unplanned(name: str, content: bytes) -> Case:
    """Return a case of a file that might be read, but not in the memory of the run."""
    return Case(image(name, content).write)


def manifest(text: str | bytes, row: str = "", prepare: Callable[[Path], object] = lambda _: None) -> Case:
    def write(folder: Path) -> str:
        prepare(folder)
        (folder / "good.png").write_bytes(GOOD)
        (folder / "m.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "path: m.csv"

    return Case(write, row)


def archive(make: Callable[[Path], object], name: str, row: str = "") -> Case:
    def write(folder: Path) -> str:
        make(folder / name)
        return f"path: {name}"

    return Case(write, row)


def yaml(text: str, prepare: Callable[[Path], object] = lambda _: None) -> Case:
    def write(folder: Path) -> str:
        (folder / "in").mkdir()
        (folder / "in/good.png").write_bytes(GOOD)
        prepare(folder)
        return text

    return Case(write)


# -- tar ---------------------------------------------------------------------------------------------------------------


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, content: bytes) -> bytes:
    return header(name, size=len(content)) + content + bytes(-len(content) % 512)


def tar(*parts: bytes, row: str = "") -> Case:
    content = member("good.png", GOOD) + b"".join(parts) + bytes(1024)
    return archive(lambda path: path.write_bytes(content), "a.tar", row)


def pax(records: bytes) -> bytes:
    return header("pax", tarfile.XHDTYPE, len(records)) + records + bytes(-len(records) % 512)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    length = len(text) + len(str(len(text) + 3))
    return f"{length}{text}".encode()


def sparse_file(path: Path, content: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)


TARS = {
    "tar symlink": tar(header("x.png", tarfile.SYMTYPE, link="../outside/canary.png"), row="x.png"),
    "tar hard link": tar(header("x.png", tarfile.LNKTYPE, link="/etc/passwd"), row="x.png"),
    "tar fifo": tar(header("x.png", tarfile.FIFOTYPE), row="x.png"),
    "tar device": tar(header("x.png", tarfile.CHRTYPE), row="x.png"),
    "tar absolute": tar(member("/etc/x.png", GOOD)),
    "tar dots": tar(member("a/../../x.png", GOOD)),
    "tar dots in a pax header": tar(pax(record("path", "../outside/canary.png")), member("x.png", GOOD)),
    "tar twice": tar(member("x.png", GOOD), member("./x.png", GOOD[:99]), row="x.png"),
    "tar cut": archive(lambda path: path.write_bytes((member("good.png", GOOD) + member("x.png", GOOD))[:-300]), "a.tar", "x.png"),
    "tar of a larger member": tar(header("x.png", size=2**62), row="x.png"),
    "tar of negative size": tar(pax(record("size", "-1024")), header("x.png")),
    "tar of a large header": archive(
        lambda path: sparse_file(path, header("x", tarfile.XHDTYPE, 2**34), 2**34 + 2**20), "a.tar"
    ),
    "tar of many headers": tar(header("x", tarfile.XHDTYPE) * 5000, member("x.png", GOOD)),
    "tar of long names": tar(header("x", tarfile.GNUTYPE_LONGNAME, 2**40)),
    "tar sparse": tar(
        pax(record("GNU.sparse.size", str(2**40)) + record("GNU.sparse.map", "0,1," * 900 + "0,1")), member("x.png", b"x"),
        row="x.png",
    ),
    "tar sparse map": tar(pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")), member("x.png", b"9" * 512)),
    "tar of noise": archive(lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "a.tar"),
    "tar of zeros": archive(lambda path: sparse_file(path, b"", 2**33), "a.tar"),
    "tar class of bytes": tar(member("good.cls", b"\xff\xfe")),
    "tar large class": tar(header("good.cls", size=2**40)),
    "tar deep json": archive(lambda path: write_tar(path, {"x.png": GOOD[:50], "x.json": b"[" * 60_000, "g.png": GOOD}), "a.tar", "x.png"),
    "tar compressed": archive(lambda path: tarfile.open(path, "w:gz").close(), "a.tar.gz"),
    "tar of a tar": archive(lambda path: write_tar(path, {"a.tar": member("x.png", GOOD)}), "b.tar"),
}  # fmt: skip

# -- zip ---------------------------------------------------------------------------------------------------------------


def forged(path: Path, at: int, form: str, value: int, where: bytes = b"PK\1\2") -> None:
    """Write a zip with a good picture and ``x.png``, and change a number of what stands at the last ``where``."""
    write_zip(path, {"good.png": GOOD, "x.png": GOOD})
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.rindex(where) + at, value)
    path.write_bytes(content)


def lie(at: int, form: str, value: int, where: bytes = b"PK\1\2", row: str = "x.png") -> Case:
    return archive(lambda path: forged(path, at, form, value, where), "a.zip", row)


def write_quine(path: Path) -> None:
    """Write many members that are all the same bytes."""
    write_zip(path, {"good.png": GOOD, "x.bmp": b"BM" + bytes(2**20)})
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
    second = content.index(b"PK\1\2", start + 4)
    entries = [content[second:end].replace(b"x.bmp", b"%d.bmp" % i) for i in range(5)]
    directory = content[start:second] + b"".join(entries)
    path.write_bytes(
        content[:start] + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 6, 6, len(directory), start, 0)
    )


ZIPS = {
    "zip bomb": archive(lambda path: write_zip(path, {"good.png": GOOD, "x.bmp": b"BM" + bytes(2**27)}), "a.zip", "x.bmp"),
    "zip unpacks to more": lie(24, "<I", 60),
    "zip unpacks to less": lie(24, "<I", 2000),
    "zip encrypted": lie(8, "<H", 1),
    "zip symlink": lie(38, "<I", 0o120777 << 16),
    "zip of another method": lie(10, "<H", 14),
    "zip checksum": lie(16, "<I", 1),
    "zip overlaps": lie(42, "<I", 3, row=""),
    "zip beyond its end": lie(42, "<I", 2**31),
    "zip with a lying header": lie(26, "<H", 60_000, b"PK\3\4"),
    "zip directory beyond its end": lie(16, "<I", 2**31, b"PK\5\6", row=""),
    "zip large directory": lie(12, "<I", 2**31, b"PK\5\6", row=""),
    "zip quine": archive(write_quine, "a.zip", "0.bmp"),
    "zip dots": archive(lambda path: write_zip(path, {"good.png": GOOD, "../x.png": GOOD}), "a.zip"),
    "zip drive": archive(lambda path: write_zip(path, {"good.png": GOOD, "C:\\x.png": GOOD}), "a.zip"),
    "zip of a zip": archive(lambda path: write_zip(path, {"a.zip": b"PK"}), "b.zip"),
    "zip of noise": archive(lambda path: path.write_bytes(np.random.default_rng(0).bytes(9000)), "a.zip"),
    "zip huge": archive(lambda path: sparse_file(path, b"PK\3\4", 2**34), "a.zip"),
}  # fmt: skip

# -- tables ------------------------------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict[str, object], metadata: dict[str, str] | None = None, **options: object) -> None:
    import pyarrow as pa
    from pyarrow import parquet as writer

    writer.write_table(pa.table(columns).replace_schema_metadata(metadata), path, **options)


def extension_table(path: Path) -> None:
    """Write a column of the kind that once unpickled what its metadata holds."""
    import pyarrow as pa
    from pyarrow import parquet as writer

    told = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": PICKLED.decode("latin1")}
    field = pa.field("image", pa.binary(), metadata=told)
    writer.write_table(pa.table([pa.array([GOOD, PICKLED])], schema=pa.schema([field])), path)


def truncated_table(path: Path) -> None:
    write_table(path)
    content = bytearray(path.read_bytes())
    content[4:50] = b"\xff" * 46
    path.write_bytes(content)


TABLES = {
    "parquet absolute": archive(lambda path: parquet(path, {"path": ["/etc/hostname.png"]}), "a.parquet"),
    "parquet dots": archive(lambda path: parquet(path, {"path": ["../outside/canary.png"]}), "a.parquet"),
    "parquet of pickles": archive(lambda path: parquet(path, {"image": [GOOD, PICKLED]}), "a.parquet", "1"),
    "parquet of a pickled type": archive(extension_table, "a.parquet", "1"),
    "parquet of pandas' pickles": archive(lambda path: parquet(path, {"image": [GOOD, b""]}, {"pandas": "{" * 9000}), "a.parquet", "1"),
    "parquet of deep metadata": archive(lambda path: parquet(path, {"image": [GOOD, b"x"]}, {"huggingface": "[" * 90_000}), "a.parquet", "1"),
    "parquet bomb": archive(
        lambda path: parquet(path, {"image": [b"\xff" * 2**22] * 500}, compression="zstd", data_page_size=2**30), "a.parquet"
    ),
    "parquet large footer": archive(lambda path: sparse_file(path, b"PAR1", 2**33), "a.parquet"),
    "parquet footer": archive(lambda path: path.write_bytes(b"PAR1" + bytes(999) + b"\xff\0\0\0PAR1"), "a.parquet"),
    "parquet damaged": archive(truncated_table, "a.parquet", "0"),
}  # fmt: skip

# -- manifests ---------------------------------------------------------------------------------------------------------


def link(folder: Path, name: str, to: str) -> None:
    (folder / name).symlink_to(to)


MANIFESTS = {
    "csv absolute": manifest("path\ngood.png\n/etc/passwd\n"),
    "csv dots": manifest("path\ngood.png\n../outside/canary.png\n"),
    "csv dots within": manifest("path\ngood.png\na/b/../../../outside/canary.png\n"),
    "csv home": manifest("path\ngood.png\n~/x.png\n"),
    "csv backslash": manifest("path\ngood.png\n\\\\host\\x.png\n"),
    "csv link": manifest("path\ngood.png\nx.png\n", prepare=lambda f: link(f, "x.png", "../outside/canary.png")),
    "csv linked folder": manifest("path\ngood.png\nx/canary.png\n", prepare=lambda f: link(f, "x", "../outside")),
    "csv link to secrets": manifest("path\ngood.png\nx.png\n", prepare=lambda f: link(f, "x.png", "/proc/self/environ")),
    "csv address": manifest("path\ngood.png\ns3://bucket/x.png\n", "s3:/bucket/x.png"),
    "csv NUL": manifest(b"path\ngood.png\na\0.png\n"),
    "csv fifo": manifest("path\ngood.png\nx.png\n", "x.png", lambda f: os.mkfifo(f / "x.png")),
    "csv directory": manifest("path\ngood.png\nx.png\n", "x.png", lambda f: (f / "x.png").mkdir()),
    "csv open quote": manifest('path\n"' + "x" * 200_000),
    "csv many columns": manifest(",".join(f"c{i}" for i in range(20_000)) + "\n"),
    "csv of bytes": manifest(np.random.default_rng(0).bytes(9000)),
    "csv of zeros": archive(lambda path: sparse_file(path, b"path\n", 2**33), "m.csv"),
    "csv that is a fifo": archive(os.mkfifo, "m.csv"),
    "csv that is a device": archive(lambda path: path.symlink_to("/dev/zero"), "m.csv"),
}  # fmt: skip

# -- images ------------------------------------------------------------------------------------------------------------


def png(width: int, height: int, *more: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*part) for part in more) + chunk(b"IEND", b"")


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (12, 12), (i, 0, 0)) for i in (0, 255)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], **options)
    return out.getvalue()


def tiff_loop() -> bytes:
    """Return a TIFF whose only page is followed by itself."""
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((12, 12, 3), np.uint8))
    content = bytearray(out.getvalue())
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    return bytes(content)


def listen(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may be 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def make_behind(path: Path, make: Callable[[Path], object]) -> None:
    make(path.parents[1] / "thing")
    path.symlink_to("../thing")


JPEG = picture(1, 12, 12, "JPEG")
IMAGES = {
    "empty": image("x.png", b""),
    "text": image("x.jpg", b"#!/bin/sh\ntouch pwned\n"),
    "pickle": image("x.png", PICKLED),
    "cut png": image("x.png", GOOD[:-30]),
    "cut jpeg": image("x.jpg", JPEG[: len(JPEG) // 2]),
    "png of no pixels": image("x.png", png(0, 5)),
    "png bomb": image("x.png", png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(10**6))))),
    "png bomb below the limit": unplanned("x.png", png(20_000, 20_000, (b"IDAT", zlib.compress(bytes(10**6))))),
    "png text bomb": image("x.png", png(12, 12, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27))))),
    "png profile bomb": image("x.png", png(12, 12, (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27))))),
    "png of a huge chunk": image("x.png", png(12, 12)[:33] + b"\x7f\xff\xff\xffeXIf" + bytes(50)),
    "jpeg bomb": image("x.jpg", JPEG.replace(struct.pack(">2H", 12, 12), struct.pack(">2H", 65_500, 65_500), 1)),
    "animated png": image("x.png", encoded("PNG")),
    "animated webp": image("x.webp", encoded("WEBP", lossless=True)),
    "webp of a huge canvas": image("x.webp", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6 + bytes(8)),
    "bmp bomb": image("x.bmp", b"BM" + struct.pack("<3I", 54, 0, 54) + struct.pack("<I2i2H6I", 40, 2**30, 2**30, 1, 24, *[0] * 6)),
    "tiff of NaN": image("x.tif", lambda path: tifffile.imwrite(path, np.full((12, 12, 3), np.nan, np.float32), photometric="rgb")),
    "tiff of pages": image("x.tif", lambda path: tifffile.imwrite(path, np.zeros((5, 12, 12, 3), np.uint8), photometric="rgb")),
    "tiff bomb": image("x.tif", b"II*\0\x08\0\0\0\x03\0" + struct.pack("<HHII", 256, 4, 1, 2**31) + struct.pack("<HHII", 257, 4, 1, 2**31) + struct.pack("<HHII", 258, 3, 1, 8) + bytes(4)),
    "tiff of endless tags": image("x.tif", b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 273, 4, 2**31, 8) + bytes(4)),
    "link in a circle": image("x.png", lambda path: path.symlink_to(path.name)),
    "link to nothing": image("x.png", lambda path: path.symlink_to("nowhere.png")),
    "link to a device": image("x.png", lambda path: path.symlink_to("/dev/zero")),
    "fifo behind a link": image("x.png", lambda path: make_behind(path, os.mkfifo)),
    "socket behind a link": image("x.png", lambda path: make_behind(path, listen)),
}  # fmt: skip

# -- pipelines ---------------------------------------------------------------------------------------------------------


def layers(text: str) -> str:
    return f"images: {{path: in}}\nfeatures:\n  a:\n    layers:\n      - {text}\nstore: {{path: out.zarr}}\n"


def npy(path: Path, shape: str, dtype: str = "<f4", content: bytes = b"") -> None:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + content)


def write_zarr(path: Path, **changed: object) -> None:
    import zarr

    zarr.create_array(str(path), shape=(2, 12, 12, 3), dtype="uint8", chunks=(1, 12, 12, 3))
    about = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(about | changed))


NOTHING_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)
PIPELINES = {
    "yaml object": yaml("images: !!python/object/apply:os.system ['touch pwned']\nfeatures: {}\n"),
    "yaml module": yaml("images: {path: !!python/module:hostile.thing in}\nfeatures: {}\n"),
    "yaml laughs": yaml(NOTHING_LAUGHS),
    "yaml deep": yaml("images: " + "[" * 100_000),
    "yaml large": yaml("# " + "x" * 17 * 2**20),
    "yaml of bytes": yaml("images: {path: in\0}\n"),
    "kernels of pickles": yaml(layers("convolve: {kernels: k.npy}"), lambda f: np.save(f / "k.npy", np.array([Payload()]), allow_pickle=True)),
    "kernels of a huge shape": yaml(layers("convolve: {kernels: k.npy}"), lambda f: npy(f / "k.npy", "(1000000, 1000000)")),
    "kernels of code": yaml(layers("convolve: {kernels: k.npy}"), lambda f: npy(f / "k.npy", "(__import__('os').system('touch pwned'),)")),
    "kernels bomb": yaml(layers("convolve: {kernels: 'k.npz:a'}"), lambda f: np.savez_compressed(f / "k.npz", a=np.zeros((2**26,)))),
    "weights of pickles": yaml(layers("import: {file: w.pt}"), lambda f: (f / "w.pt").write_bytes(PICKLED)),
    "weights of a long header": yaml(layers("import: {file: w.safetensors, arch: vgg}"), lambda f: (f / "w.safetensors").write_bytes(struct.pack("<Q", 2**60))),
    "images in npy of pickles": yaml(PIPELINE % "path: x.npy", lambda f: np.save(f / "x.npy", np.array([Payload()]), allow_pickle=True)),
    "images in npy of a huge shape": yaml(PIPELINE % "path: x.npy", lambda f: npy(f / "x.npy", "(1000000, 1000, 1000)", "|u1")),
    "images in zarr of objects": yaml(PIPELINE % "path: x.zarr", lambda f: write_zarr(f / "x.zarr", data_type="object")),
    "images in zarr by pickle": yaml(PIPELINE % "path: x.zarr", lambda f: write_zarr(f / "x.zarr", codecs=[{"name": "pickle"}])),
    "images in zarr of a huge chunk": yaml(
        PIPELINE % "path: x.zarr",
        lambda f: write_zarr(f / "x.zarr", shape=[2**40, 12, 12, 3], chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**40, 12, 12, 3]}}),
    ),
    "images that are the pipeline": yaml(PIPELINE % "path: pipeline.yaml"),
    "images that are a device": yaml(PIPELINE % "path: /dev/zero"),
    "images that are all files": yaml(PIPELINE % "path: /proc/self/environ"),
    "store among the images": yaml(PIPELINE.replace("out.zarr", "in/out.zarr") % "path: in"),
}  # fmt: skip

URLS = {
    f"address {i}": yaml(PIPELINE % f"path: '{url}'")
    for i, url in enumerate(
        [
            "s3://AKIACANARY:hunter2@bucket/x",
            "https://user:hunter2@host/x",
            "https://host/x.tar?X-Amz-Signature=hunter2",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "ftp://host/x",
            "s3://bucket/../../x",
            "s3://",
            "s3://buc ket/x",
            "gopher://127.0.0.1:6379/_x",
        ]
    )
}

CASES: dict[str, Case] = {
    "good": Case(image("x.jpg", JPEG).write),
    **TARS, **ZIPS, **TABLES, **MANIFESTS, **IMAGES, **PIPELINES, **URLS,
}  # fmt: skip


def write_case(folder: Path, case: Case) -> None:
    folder.mkdir()
    text = case.write(folder)
    (folder / "pipeline.yaml").write_text(text if "\n" in text or len(text) > 200 else PIPELINE % text)
