"""Reads that fail for a moment, and reads that give few bytes."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from featpipe.errors import ImageError, SourceError, UnavailableError, UnavailableSourceError
from featpipe.images.decode import read_header
from featpipe.images.npy import NpyFile
from featpipe.images.reader import open_reader
from featpipe.images.refusal import Refused, Unavailable
from featpipe.images.scan import scan
from featpipe.reading import retry as retrying
from featpipe.reading.files import ChangedFileError, IrregularFileError, SteadyFile, read_file
from featpipe.reading.retry import is_transient, retried, retry
from featpipe.spec.load import load_pipeline
from featpipe.spec.pipeline import Images
from tests.flaky import Flaky, flaky

N = 6


def draw(seed: int, shape: tuple[int, ...] = (40, 32, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw(seed)).save(file, "PNG")
    return file.getvalue()


def make_source(kind: str, root: Path) -> Path:
    """Write N images in a kind of source; return its path."""
    root.mkdir()
    match kind:
        case "files":
            for i in range(N):
                (root / f"{i}.png").write_bytes(png(i))
            Image.fromarray(draw(0, (300, 280, 3))).save(root / "large.bmp")
            return root
        case "manifest":
            make_source("files", root / "files")
            (root / "m.csv").write_text("path,label\n" + "".join(f"files/{i}.png,{i % 2}\n" for i in range(N)))
            return root / "m.csv"
        case "tiff":
            for i in range(2):
                tifffile.imwrite(root / f"{i}.tif", draw(i, (200, 180)), tile=(16, 16))
            return root
        case "tar":
            with tarfile.open(root / "a.tar", "w") as archive:
                for i in range(N):
                    info = tarfile.TarInfo(f"{i}.png")
                    info.size = len(png(i))
                    archive.addfile(info, io.BytesIO(png(i)))
            return root / "a.tar"
        case "zip":
            with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
                for i in range(N):
                    zipped.writestr(f"{i}.png", png(i))
            return root / "a.zip"
        case "parquet":
            pa = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            table = pa.table({"image": [png(i) for i in range(N)], "label": [f"c{i % 2}" for i in range(N)]})
            parquet.write_table(table, root / "a.parquet", row_group_size=2)
            return root / "a.parquet"
        case "npy":
            np.save(root / "a.npy", np.stack([draw(i) for i in range(N)]))
            return root / "a.npy"
        case "zarr":
            stack = np.stack([draw(i) for i in range(N)])
            array: Any = zarr.create_array(
                root / "a.zarr", shape=stack.shape, chunks=(1, 8, 32, 3), shards=(1, 40, 32, 3), dtype="u1"
            )
            array[:] = stack
            return root / "a.zarr"
    raise AssertionError(kind)


KINDS = ("files", "manifest", "tiff", "tar", "zip", "parquet", "npy", "zarr")


def read_all(path: Path) -> list[Any]:
    images = Images(path=str(path), color="keep")
    collection = scan(images)
    reader = open_reader(images, collection)
    return [reader.read_image(i) for i in range(len(collection))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_reads_the_same_where_calls_fail_in_turn(kind: str, tmp_path: Path) -> None:
    path = make_source(kind, tmp_path / "source")
    want = read_all(path)
    for seed in range(3):
        with flaky(tmp_path / "source", share=1.0 if seed == 0 else 0.4, seed=seed) as trouble:
            found = read_all(path)
        assert trouble.failed > 2
        for one, other in zip(found, want, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet", "npy"])
def test_a_source_that_cannot_be_reached_is_not_called_broken(kind: str, tmp_path: Path) -> None:
    path = make_source(kind, tmp_path / "source")
    with flaky(tmp_path / "source", always=path.name), pytest.raises(UnavailableSourceError) as caught:
        scan(Images(path=str(path)))
    assert caught.value.exit_code == 1
    assert "run again" in str(caught.value)
    assert len(scan(Images(path=str(path)))) == N


@pytest.mark.parametrize("name", ["0.png", "large.bmp"])
def test_an_image_that_cannot_be_reached_is_unavailable_whatever_its_decoder_makes_of_it(
    name: str, tmp_path: Path
) -> None:
    images = Images(path=str(make_source("files", tmp_path / "source")), size=(16, 16), fit="stretch")
    collection = scan(images)
    row = collection.paths.index(name)
    for spare in range(3):
        # Any other error, or none where a read failed, is wrong
        with flaky(tmp_path / "source", always=name, spare=spare) as trouble, suppress(UnavailableError):
            open_reader(images, collection).read_image(row)
            assert trouble.spare >= 0


def test_a_header_that_cannot_be_reached_leaves_the_image_unavailable_not_broken(tmp_path: Path) -> None:
    source = make_source("files", tmp_path / "source")
    with flaky(source, always="2.png"):
        collection = scan(Images(path=str(source)))
    assert collection.unavailable == {2}
    assert "could not be reached" in collection.unreadable[2]
    known = collection.with_sizes({"2.png": (40, 32)})
    assert not known.unavailable
    assert not known.unreadable
    assert (known.heights[2], known.widths[2]) == (40, 32)
    assert known.decoded_bytes[2] >= known.decoded_bytes[1]
    with flaky(source, always="2.png"):
        assert not scan(Images(path=str(source), size=(16, 16), fit="stretch")).unreadable


def test_a_directory_that_cannot_be_listed_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source("files", tmp_path / "source")
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.0)

    def fails(path: Any) -> Any:
        raise OSError(errno.ESTALE, "Stale file handle", path)

    monkeypatch.setattr(os, "scandir", fails)
    with pytest.raises(UnavailableSourceError, match="cannot be listed"):
        scan(Images(path=str(source)))


def test_a_file_that_vanishes_is_missing_at_once(tmp_path: Path) -> None:
    source = make_source("files", tmp_path / "source")
    images = Images(path=str(source))
    collection = scan(images)
    (source / "1.png").unlink()
    with pytest.raises(ImageError, match="no such file") as caught:
        open_reader(images, collection).read_image(1)
    assert not isinstance(caught.value, UnavailableError)


def test_the_pipeline_and_its_banks_are_read_through_trouble(tmp_path: Path) -> None:
    np.save(tmp_path / "bank.npy", np.random.default_rng(0).normal(size=(4, 3, 3)).astype(np.float32))
    (tmp_path / "images").mkdir()
    text = "images: {path: images}\nfeatures: {a: {layers: [{convolve: {kernels: bank.npy}}]}}\n"
    (tmp_path / "p.yaml").write_text(text)
    want = load_pipeline(tmp_path / "p.yaml")
    with flaky(tmp_path, share=1.0) as trouble:
        assert load_pipeline(tmp_path / "p.yaml") == want
    assert trouble.failed


# -- the mechanism ----------------------------------------------------------------------------------------------------


def test_errors_of_the_way_are_told_from_errors_of_the_data() -> None:
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ENFILE", "EAGAIN", "EINTR", "ECONNRESET", "ENETDOWN"):
        assert is_transient(OSError(getattr(errno, name), "no"))
    for name in ("ENOENT", "EACCES", "EISDIR", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "EINVAL"):
        assert not is_transient(OSError(getattr(errno, name), "no"))
    assert is_transient(TimeoutError())
    assert is_transient(ConnectionResetError())
    assert not is_transient(ValueError("EIO"))


def test_answers_of_a_service_are_told_apart_by_their_status() -> None:
    exceptions = pytest.importorskip("obstore.exceptions")
    for status, passing in ((500, True), (503, True), (429, True), (408, True), (400, False), (403, False)):
        answer = exceptions.GenericError(f"Error performing GET: Server returned error status code: {status} x: no")
        assert is_transient(answer) is passing
    assert is_transient(exceptions.GenericError("Generic S3 error: error sending request (kind: Connect)"))
    assert not is_transient(exceptions.NotFoundError("no"))
    assert not is_transient(exceptions.PermissionDeniedError("no"))


def test_tries_are_bounded_and_only_those_that_helped_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.0)
    calls = []

    def fails(times: int) -> str:
        calls.append(times)
        if len(calls) <= times:
            raise OSError(errno.EIO, "no")
        return "there"

    before = retried()
    assert retry(lambda: fails(4)) == "there"
    assert (len(calls), retried() - before) == (5, 1)
    calls.clear()
    with pytest.raises(OSError, match="no"):
        retry(lambda: fails(99))
    assert (len(calls), retried() - before) == (retrying.TRIES, 1)


def test_only_the_end_of_a_file_ends_a_read(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "a").write_bytes(content)
    for seed in range(5):
        with flaky(tmp_path, share=1.0, seed=seed):
            assert read_file(tmp_path / "a") == content
            with SteadyFile(str(tmp_path / "a")) as file:
                assert file.read_at(255_000, 5000) == content[255_000:]
                assert file.read_at(10, 0) == b""
    with SteadyFile(str(tmp_path / "a")) as file:
        (tmp_path / "a").write_bytes(content[:1000])
        assert file.read() == content[:1000]


def read_until_it_fails(file: SteadyFile) -> None:
    for _ in range(100):
        assert set(file.read_at(20, 10)) <= set(b"a")


def test_a_file_that_was_replaced_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 1000)
    trouble = Flaky(str(tmp_path), share=0.0)
    trouble.install()
    try:
        with SteadyFile(str(tmp_path / "a")) as file:
            assert file.read_at(0, 10) == b"a" * 10
            (tmp_path / "b").write_bytes(b"b" * 900)
            (tmp_path / "b").replace(tmp_path / "a")
            trouble.share = 1.0
            with pytest.raises(ChangedFileError):
                read_until_it_fails(file)
    finally:
        trouble.remove()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(IrregularFileError):
        SteadyFile(str(tmp_path / "a.png"))
    with pytest.raises(Refused, match="is a named pipe"):
        read_header(str(tmp_path / "a.png"), Images(path="x"))


def test_an_unavailable_image_is_refused_as_such() -> None:
    assert issubclass(Unavailable, Refused)
    assert issubclass(UnavailableSourceError, SourceError)


# -- arrays in files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6), (3, 4, 5, 2), (1, 1, 3)])
def test_parts_of_an_npy_file_are_those_of_the_array(shape: tuple[int, ...], order: Any, tmp_path: Path) -> None:
    array = np.asarray(np.arange(np.prod(shape), dtype=">f4").reshape(shape), order=order)
    np.save(tmp_path / "a.npy", array)
    file = NpyFile(str(tmp_path / "a.npy"))
    assert (file.shape, file.dtype) == (array.shape, array.dtype)
    draw = np.random.default_rng(0)
    for _ in range(40):
        key: list[Any] = []
        for length in shape[: draw.integers(1, len(shape) + 1)]:
            start, stop = np.sort(draw.integers(0, length + 1, 2))
            choices = [slice(None), slice(int(start), int(stop)), int(start) % length, slice(0, length)]
            key.append(choices[draw.integers(4)])
        np.testing.assert_array_equal(file[tuple(key)], array[tuple(key)])


def test_an_npy_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", draw(0))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-1])
    with pytest.raises(SourceError, match="its header says"):
        scan(Images(path=str(tmp_path / "a.npy")))
