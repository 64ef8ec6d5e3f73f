"""Images in tar and zip archives: the same as in a directory, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from featpipe.errors import ImageError, SourceError
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from tests.unit.source_examples import (
    PICTURES,
    classes_of,
    options,
    picture,
    read_all,
    same_images,
    splits_of,
    write_folder,
    write_tar,
    write_zip,
)


def complaint(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        scan(options(path))
    return str(caught.value)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, "stored", "deflated"])
def test_an_archive_reads_as_its_directory_does(tmp_path: Path, form: int | str) -> None:
    expected, pixels = read_all(write_folder(tmp_path / "images"))
    if isinstance(form, int):
        path = write_tar(tmp_path / "images.tar", format=form)
    else:
        path = write_zip(tmp_path / "images.zip", method={"stored": 0, "deflated": 8}[form])
    found, read = read_all(path)
    assert found.paths == expected.paths
    assert classes_of(found) == classes_of(expected)
    assert same_images(read, pixels)


def test_members_larger_than_memorys_share_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featpipe.images.ranges.AT_ONCE", 100)
    monkeypatch.setattr("featpipe.images.ranges._HEAD", 50)
    _, pixels = read_all(write_folder(tmp_path / "images"))
    for path in (write_tar(tmp_path / "a.tar"), write_zip(tmp_path / "a.zip"), write_zip(tmp_path / "b.zip", method=0)):
        assert same_images(read_all(path)[1], pixels)


def test_several_archives_are_one_collection_with_splits_by_their_names(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000.tar", {"cat/1.png": PICTURES["cat/a.png"]})
    write_tar(tmp_path / "test-000.tar", {"dog/1.png": PICTURES["dog/a.png"]})
    found, _ = read_all(tmp_path / "*.tar")
    assert found.paths == ("test-000.tar/dog/1.png", "train-000.tar/cat/1.png")
    assert classes_of(found) == ["dog", "cat"]
    assert splits_of(found) == ["test", "train"]
    assert scan(options(tmp_path)).paths == found.paths


def test_webdataset_members_share_a_sample(tmp_path: Path) -> None:
    image = PICTURES["cat/a.png"]
    files = {"./s/0.png": image, "./s/0.cls": b"10\n", "./s/1.png": image, "./s/1.cls": b"9", "./s/2.png": image}
    found = scan(options(write_tar(tmp_path / "a.tar", files)))
    assert found.paths == ("s/0.png", "s/1.png", "s/2.png")
    assert found.classes == ("9", "10")
    assert classes_of(found) == ["10", "9", None]
    files = {"0.left.png": image, "0.right.png": image, "0.json": b'{"label": "cat"}', "1.json": b"[1", "1.png": image}
    found = scan(options(write_zip(tmp_path / "a.zip", files)))
    assert classes_of(found) == ["cat", "cat", None]
    assert classes_of(scan(options(tmp_path / "a.zip", labels="none"))) == [None] * 3


def test_a_collection_of_an_archive_is_small_and_travels(tmp_path: Path) -> None:
    files = {f"{i:05}.png": PICTURES["cat/a.png"] for i in range(2000)}
    images = options(write_tar(tmp_path / "a.tar", files), size=(5, 7), color="rgb")
    reader = pickle.loads(pickle.dumps(open_reader(images, scan(images))))
    assert reader.read_image(1999).shape == (5, 7, 3)
    assert len(pickle.dumps(reader.collection.places)) < 2000 * 60


def unreadable(path: Path) -> dict[str, str]:
    collection = scan(options(path))
    assert any(why == "" for why in (collection.unreadable.get(i, "") for i in range(len(collection))))
    return {collection.paths[i]: why for i, why in collection.unreadable.items()}


def test_members_of_a_tar_that_are_no_plain_files_keep_their_rows(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(9))
    with tarfile.open(write_tar(tmp_path / "a.tar"), "a") as archive:
        for name, kind in [("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE), ("3.png", tarfile.FIFOTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(info)
        again = tarfile.TarInfo("cat/a.png")
        archive.addfile(again)
    why = unreadable(tmp_path / "a.tar")
    assert "is a link" in why["1.png"]
    assert "is a link" in why["2.png"]
    assert "not a regular file" in why["3.png"]
    assert "several times" in why["cat/a.png"]


def test_a_tar_that_ends_too_early_loses_only_what_is_lost(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    os.truncate(path, last.offset_data + last.size - 1)
    assert "is cut off" in unreadable(path)["dog/c.webp"]
    os.truncate(path, last.offset_data - 600)
    assert scan(options(path)).paths == ("cat/a.png", "cat/b.jpg", "dog/a.png")


def test_a_member_without_its_header_keeps_its_row(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip")
    path.write_bytes(b"XX" + path.read_bytes()[2:])
    assert "is not where" in unreadable(path)["cat/a.png"]


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "..\\x.png", "C:\\x.png"])
def test_a_name_that_leads_out_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    assert "leads out of it" in complaint(write_tar(tmp_path / "a.tar", {**PICTURES, name: b"x"}))
    assert "leads out of it" in complaint(write_zip(tmp_path / "a.zip", {**PICTURES, name: b"x"}))


def test_damage_between_members_is_told_and_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2]
    content = bytearray(path.read_bytes())
    content[third.offset + 150] ^= 1  # in its checksum
    path.write_bytes(content)
    assert f"damaged at byte {third.offset:,}, after 2 members" in complaint(path)


def test_headers_that_lead_back_or_ask_for_too_much_end(tmp_path: Path) -> None:
    def header(name: str, kind: bytes, size: int) -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, size
        return info.tobuf(tarfile.GNU_FORMAT)

    large = tmp_path / "large.tar"
    with large.open("wb") as file:
        file.write(header("x", tarfile.XHDTYPE, 2**33))
        file.truncate(2**33 + 1024)
    assert "a header of more than" in complaint(large)
    circle = tmp_path / "circle.tar"
    circle.write_bytes(header("a.png", tarfile.REGTYPE, 0) + header("b.png", tarfile.REGTYPE, -512) + bytes(1024))
    assert "not a readable .tar" in complaint(circle)
    deep = tmp_path / "deep.tar"
    deep.write_bytes(header("x", tarfile.XHDTYPE, 0) * 3000 + header("a.png", tarfile.REGTYPE, 0) + bytes(1024))
    assert "not a readable .tar" in complaint(deep)


def test_compressed_archives_say_what_to_do(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    for place in (tmp_path / "a.tar.gz", tmp_path):
        assert "unpack it to a .tar first" in complaint(place)


def forged(path: Path, at: int, value: int, width: str = "<I") -> Path:
    """Change a number in the first entry of a zip's directory."""
    content = bytearray(path.read_bytes())
    struct.pack_into(width, content, content.index(b"PK\1\2") + at, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("at", "value", "width", "said"),
    [
        (8, 1, "<H", "is encrypted"),
        (38, 0o120777 << 16, "<I", "is a link"),
        (10, 12, "<H", "packed by method 12"),
        (24, 2**31, "<I", "has 2,147,483,648 bytes"),
        (24, 2**29, "<I", "unpacks"),
        (20, 10_000, "<I", "overlaps"),
        (42, 2**31, "<I", "overlaps"),
        (16, 7, "<I", "checksum differs"),
        (24, 100, "<I", "more than the 100 bytes"),
        (24, 1000, "<I", "not the 1,000"),
    ],
)
def test_members_of_a_zip_that_lie_keep_their_rows(tmp_path: Path, at: int, value: int, width: str, said: str) -> None:
    images = options(forged(write_zip(tmp_path / "a.zip"), at, value, width))
    collection = scan(images)
    reader = open_reader(images, collection)
    with pytest.raises(ImageError, match=said):
        reader.read_image(0)
    assert reader.read_image(3).shape == (5, 7, 3)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {**PICTURES, "bomb.bmp": b"BM" + bytes(2**26)})
    assert "more than 250 for one" in unreadable(tmp_path / "a.zip")["bomb.bmp"]


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": picture(1), "b.png": picture(2), "c.png": picture(3)}, method=0)
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 4)
    size = len(content) - 22 - second
    struct.pack_into("<II", content, first + 20, first - 31, first - 31)  # the first takes in all others
    path.write_bytes(content)
    assert size > 0
    assert "overlaps" in unreadable(path)["a.png"]


def test_zip64_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a/b.png", "w", force_zip64=True) as file:
        file.write(PICTURES["cat/a.png"])
    assert len(read_all(tmp_path / "a.zip")[1]) == 1


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for name, content in [("a.tar", b"x" * 2000), ("b.tar", b""), ("a.zip", b"PK\5\6" + b"\xff" * 18), ("b.zip", b"")]:
        (tmp_path / name).write_bytes(content)
        assert "not a readable" in complaint(tmp_path / name)
    assert "no images" in complaint(write_tar(tmp_path / "c.tar", {"a.txt": b"x", "__MACOSX/._a.png": b"x"}))


def test_an_archive_that_changes_after_the_scan_is_not_read(tmp_path: Path) -> None:
    images = options(write_tar(tmp_path / "a.tar"))
    collection = scan(images)
    with (tmp_path / "a.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ImageError, match="changed since it was scanned"):
        open_reader(images, collection).read_image(0)
    assert scan(images).digest != collection.digest


def test_deflated_members_are_seekable_files(tmp_path: Path) -> None:
    from featpipe.images.ranges import find_ranges
    from featpipe.images.zip import open_zipped

    content = np.random.default_rng(0).integers(0, 4, 10**6, np.uint8).tobytes()
    path = write_zip(tmp_path / "a.zip", {"x": content})
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[0]
    crc = zlib.crc32(content)
    file = open_zipped(find_ranges(str(tmp_path), "a.zip"), 0, len(content), info.compress_size, 8, crc, head=True)
    expected = io.BytesIO(content)
    for at, count in [(5, 10), (900_000, 1000), (0, 3), (999_990, 100), (500_000, -1)]:
        file.seek(at)
        expected.seek(at)
        assert file.read(count) == expected.read(count)
