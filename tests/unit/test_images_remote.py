"""Images in an object store, read from a real service on this machine."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from featpipe.errors import FeatpipeError, ImageError, SourceError
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from tests.endpoint import KEY, SECRET, Bucket
from tests.unit.source_examples import (
    PICTURES,
    classes_of,
    options,
    read_all,
    same_images,
    write_folder,
    write_table,
    write_tar,
    write_zip,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


def complaint(url: str) -> str:
    with pytest.raises(FeatpipeError) as caught:
        scan(options(url))
    return str(caught.value)


def test_a_prefix_a_glob_and_an_object_read_as_the_directory_does(bucket: Bucket, folder: Path) -> None:
    expected, pixels = read_all(folder)
    url = bucket.put_folder(folder, "photos/2024")
    bucket.put("photos/2024/.hidden.png", b"x")
    bucket.put("photos/2024/notes.txt", b"x")
    bucket.put("photos/2024b/other.png", PICTURES["cat/a.png"])
    found, read = read_all(url)
    assert found.paths == expected.paths
    assert classes_of(found) == classes_of(expected)
    assert same_images(read, pixels)
    assert scan(options(f"{url}/**/a.*")).paths == ("cat/a.png", "dog/a.png")
    assert same_images(read_all(f"{url}/cat/b.jpg")[1], pixels[1:2])


def test_manifests_archives_and_tables_are_read_there(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    _, pixels = read_all(folder)
    bucket.put_folder(folder, "in")
    rows = "".join(f"{name},{i}\n" for i, name in enumerate(PICTURES))
    manifest = bucket.put("in/list.csv", f"path,label\n{rows}none.png,1\n".encode())
    found = scan(options(manifest))
    assert found.unreadable == {4: "is not there"}
    assert same_images([open_reader(options(manifest), found).read_image(i) for i in range(4)], pixels)
    tar = bucket.put("shards/a-0.tar", write_tar(tmp_path / "a.tar").read_bytes())
    zipped = bucket.put("a.zip", write_zip(tmp_path / "a.zip").read_bytes())
    table = bucket.put("t/train.parquet", write_table(tmp_path / "a.parquet", ["a", "b"]).read_bytes())
    for url in (tar, f"{bucket.url}/shards/*.tar", f"{bucket.url}/shards", zipped, table, f"{bucket.url}/t"):
        assert same_images(read_all(url)[1], pixels), url


def test_a_zarr_is_read_there(bucket: Bucket, tmp_path: Path) -> None:
    import zarr

    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    zarr.create_array(str(tmp_path / "a.zarr"), data=values)
    url = bucket.put_folder(tmp_path / "a.zarr", "a.zarr")
    found, read = read_all(url, values="raw")
    assert found.kind == "zarr"
    assert np.array_equal(read, values)
    assert "is not there" in complaint(f"{bucket.url}/none.zarr")


def test_large_objects_are_read_in_parts(bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featpipe.images.media.AT_ONCE", 100)
    monkeypatch.setattr("featpipe.images.ranges.AT_ONCE", 100)
    monkeypatch.setattr("featpipe.images.ranges._HEAD", 50)
    _, pixels = read_all(folder)
    assert same_images(read_all(bucket.put_folder(folder, "p"))[1], pixels)


def test_a_thousand_objects_are_listed_page_by_page(bucket: Bucket) -> None:
    objects = bucket.objects
    for i in range(1050):
        objects.put(f"p/{i:04}.png", b"x")
    from featpipe.images.buckets import list_marks

    assert len(list_marks(f"{bucket.url}/p")) == 1050


def test_what_vanishes_or_changes_after_the_scan_is_an_unreadable_image(
    bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    images = options(bucket.put_folder(folder, "p"))
    reader = open_reader(images, scan(images))
    bucket.objects.delete("p/cat/a.png")
    with pytest.raises(ImageError, match=r"cat/a.png: is not there"):
        reader.read_image(0)
    images = options(bucket.put("a.tar", write_tar(tmp_path / "a.tar").read_bytes()))
    reader = open_reader(images, scan(images))
    reader.read_image(0)
    bucket.put("a.tar", write_tar(tmp_path / "a.tar", dict(reversed(PICTURES.items()))).read_bytes())
    with pytest.raises(ImageError, match="changed since it was scanned"):
        reader.read_image(0)
    assert scan(images).digest != reader.collection.digest


def test_the_digest_follows_the_content(bucket: Bucket) -> None:
    images = options(bucket.put("p/a.png", PICTURES["cat/a.png"]), size=(4, 4), color="rgb")
    before = scan(images).digest
    assert scan(images).digest == before
    bucket.put("p/a.png", PICTURES["cat/a.png"])
    assert scan(images).digest == before
    bucket.put("p/a.png", PICTURES["cat/a.png"] + b"x")
    assert scan(images).digest != before


def test_no_credentials_travel_with_a_reader(bucket: Bucket, folder: Path) -> None:
    images = options(bucket.put_folder(folder, "p"))
    reader = open_reader(images, scan(images))
    reader.read_image(0)
    sent = pickle.dumps(reader)
    assert SECRET.encode() not in sent
    assert KEY.encode() not in sent
    assert pickle.loads(sent).read_image(0).shape == (5, 7, 3)


def test_what_is_not_there_is_told(bucket: Bucket) -> None:
    assert "no images" in complaint(f"{bucket.url}/nothing")
    assert "no such bucket" in complaint("s3://there-is-no-such-bucket/x")
    assert "is not there" in complaint(f"{bucket.url}/a.csv")
    assert "is not there" in complaint(f"{bucket.url}/a.tar")
    assert "is not there" in complaint(f"{bucket.url}/a.png")
    assert "unpack it to a .tar" in complaint(f"{bucket.url}/a.tar.gz")
    assert "make it a .zarr" in complaint(f"{bucket.url}/a.npy")
    manifest = bucket.put("m/a.csv", b"path\n../secret.png\n")
    assert "leads out of the manifest" in complaint(manifest)
    with pytest.raises(SourceError) as caught:
        scan(options("s3://there-is-no-such-bucket/x"))
    assert caught.value.problems[0].location == ("images", "path")


@pytest.mark.parametrize("name", ["photos", "photos/*.png", "list.csv", "shards.tar", "stack.zarr", "one.png"])
def test_a_missing_library_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert "obstore, which is not installed. pip install 'featpipe[cloud]'" in complaint(f"s3://bucket/{name}")
