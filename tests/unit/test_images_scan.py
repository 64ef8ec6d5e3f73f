"""Listing collections: folders, globs, manifests, labels, splits, headers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from featpipe.errors import SourceError
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.plan.collection import Collection
from featpipe.spec.pipeline import Images, RandomSplit


def save(path: Path, height: int = 4, width: int = 6, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height)).save(path)
    return path


def found(path: Path, **options: Any) -> Collection:
    return scan(Images(path=str(path), **options))


def complaint(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        found(path, **options)
    assert caught.value.problems[0].location[0] == "images"
    return str(caught.value)


def labelled(collection: Collection) -> list[tuple[str, str | None, str | None]]:
    names = [*collection.classes, None]
    splits = [*collection.split_names, None]
    codes = zip(collection.paths, collection.labels, collection.splits, strict=True)
    return [(path, names[label], splits[split]) for path, label, split in codes]


def test_a_tree_is_listed_sorted_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.JPEG", "a/x.tif", "a/y.webp", "z.bmp", "c/deep/er/i.jpg"):
        save(tmp_path / name)
    save(tmp_path / ".hidden.png")
    save(tmp_path / ".cache/i.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    collection = found(tmp_path)
    expected = ("a/x.tif", "a/y.webp", "b/10.JPEG", "b/2.PNG", "c/deep/er/i.jpg", "z.bmp")
    assert collection.paths == expected
    assert collection.kind == "files"
    assert [label for _, label, _ in labelled(collection)] == ["a", "a", "b", "b", "c", None]
    assert collection.uniform
    assert collection.shape == (4, 6)
    assert not collection.regions


def test_files_that_are_passed_over_are_told(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    assert found(tmp_path).passed == ""
    for name in ("a/2.heic", "a/3.HEIC", "notes.txt", ".hidden", "README"):
        (tmp_path / name).touch()
    told = "4 files that are no images by their names are passed over: 2 .heic, "
    assert found(tmp_path).passed.startswith(told)
    assert found(tmp_path / "a" / "*").passed.endswith("over: 2 .heic")
    assert found(tmp_path / "a" / "*.png").passed == ""


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "data/a/1.png")
    save(tmp_path / "elsewhere/2.png")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "data").paths == ("a/1.png", "b/2.png")


def test_a_link_to_nothing_keeps_its_row(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone")
    assert found(tmp_path).unreadable == {1: "no such file"}


def test_numeric_classes_are_sorted_as_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "2"):
        save(tmp_path / name / "i.png")
    assert found(tmp_path).classes == ("2", "9", "10")
    save(tmp_path / "b" / "i.png")
    assert found(tmp_path).classes == ("10", "2", "9", "b")


def test_split_folders_stand_above_class_folders(tmp_path: Path) -> None:
    for name in ("Train/cat/1.png", "Train/dog/1.png", "validation/cat/1.png", "test/dog/1.png"):
        save(tmp_path / name)
    (tmp_path / "docs").mkdir()  # holds no images
    collection = found(tmp_path)
    assert collection.split_names == ("train", "val", "test")
    assert labelled(collection) == [
        ("Train/cat/1.png", "cat", "train"),
        ("Train/dog/1.png", "dog", "train"),
        ("test/dog/1.png", "dog", "test"),
        ("validation/cat/1.png", "cat", "val"),
    ]
    save(tmp_path / "other/1.png")
    assert found(tmp_path).split_names == ()
    assert set(found(tmp_path).classes) == {"Train", "other", "test", "validation"}


def test_labels_and_splits_can_be_switched_off_or_demanded(tmp_path: Path) -> None:
    save(tmp_path / "train/cat/1.png")
    none = found(tmp_path, labels="none", split="none")
    assert none.labels.tolist() == [-1]
    assert none.splits.tolist() == [-1]
    assert none.classes == none.split_names == ()
    flat = save(tmp_path / "flat/1.png").parent
    assert "images.labels: there are no class folders" in complaint(flat, labels="folders")
    assert "images.split: there are no folders named" in complaint(flat, split="folders")
    assert "only a manifest has columns" in complaint(flat, labels="species")


def test_random_splits_have_exact_counts_and_depend_on_seed_and_path_only(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / f"{i:02}.png", 2, 2)
    split = RandomSplit(test=0.2, val=0.1, seed=3)
    first = found(tmp_path, split=split)
    assert first.split_names == ("train", "val", "test")
    assert np.bincount(first.splits).tolist() == [14, 2, 4]
    assert np.array_equal(first.splits, found(tmp_path, split=split).splits)
    assert not np.array_equal(first.splits, found(tmp_path, split=RandomSplit(test=0.2, val=0.1, seed=4)).splits)
    assert np.bincount(found(tmp_path, split=RandomSplit(test=0.25)).splits).tolist() == [15, 5]
    assert "leave nothing to train on" in complaint(tmp_path, split=RandomSplit(test=0.5, val=0.5))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/*.png", ("a/1.png", "b/2.png")),
        ("**/*.png", ("0.png", "a/1.png", "b/2.png", "b/c/3.png")),
        ("b/**", ("2.png", "c/3.png", "c/4.jpg")),
        ("[ab]/?.png", ("a/1.png", "b/2.png")),
        ("b/c/*", ("3.png", "4.jpg")),
    ],
)
def test_globs_match_as_shells_do(tmp_path: Path, pattern: str, expected: tuple[str, ...]) -> None:
    for name in ("0.png", "a/1.png", "b/2.png", "b/c/3.png", "b/c/4.jpg", "a/.5.png"):
        save(tmp_path / name)
    (tmp_path / "b/c/loop").symlink_to(tmp_path)
    assert found(tmp_path / pattern).paths == expected


def test_a_directory_with_brackets_in_its_name_is_no_glob(tmp_path: Path) -> None:
    save(tmp_path / "run[1]/a.png")
    assert found(tmp_path / "run[1]").paths == ("a.png",)


def test_what_is_missing_is_named_with_what_there_is(tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png")
    assert "no such file or directory" in complaint(tmp_path / "photso")
    assert "Did you mean 'photos'?" in complaint(tmp_path / "photso" / "x")
    assert "no file matches" in complaint(tmp_path / "photos/*.jpg")
    assert "Did you mean 'photos'?" in complaint(tmp_path / "photo/*.jpg")
    (tmp_path / "images.py").touch()  # near, but nothing that images are read from
    assert "Did you mean" not in complaint(tmp_path / "images")
    (tmp_path / "empty").mkdir()
    assert "it holds no files. Files with these extensions are images: .bmp .jpeg" in complaint(tmp_path / "empty")
    for name in ("a.txt", "b.txt", "c"):
        (tmp_path / "empty" / name).touch()
    assert "it holds 3 other files (2 .txt, 1 no extension)" in complaint(tmp_path / "empty")
    assert "is not a directory, a manifest .csv, an image" in complaint(tmp_path / "empty/a.txt")


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_manifest_gives_paths_labels_and_splits(tmp_path: Path) -> None:
    save(tmp_path / "a, b.png")
    save(tmp_path / "sub/ü.png")
    text = 'label,path,split\r\ncat,"a, b.png",train\r\n"big ""dog""",sub/./ü.png,test\r\n\r\n,sub/ü.png,\r\n'
    collection = found(manifest(tmp_path, text, "utf-8-sig"))
    assert labelled(collection) == [
        ("a, b.png", "cat", "train"),
        ("sub/ü.png", 'big "dog"', "test"),
        ("sub/ü.png", None, None),
    ]
    assert not collection.unreadable


def test_a_manifests_other_columns_can_be_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    path = manifest(tmp_path, "path,species,fold\na.png,tench,7\n")
    assert labelled(found(path)) == [("a.png", None, None)]
    assert labelled(found(path, labels="species", split="fold")) == [("a.png", "tench", "7")]
    text = complaint(path, labels="specie")
    assert "images.labels: there is no column 'specie'; there are: species, fold. Did you mean 'species'?" in text


def test_a_missing_file_of_a_manifest_keeps_its_row(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "d.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    path = manifest(tmp_path, "path\na.png\ngone.png\nd.png\npipe.png\n")
    for options in ({}, {"size": [8, 8], "color": "gray"}):
        collection = found(path, **options)
        assert collection.unreadable == {
            1: "no such file",
            2: "is a directory, not a file",
            3: "is a named pipe, not a file",
        }
        assert collection.heights.tolist() == [collection.heights[0], 0, 0, 0]
        assert collection.heights[0] > 0
    assert "3 of 4 images cannot be read" in complaint(path, on_error="fail")
    assert "gone.png: no such file." in complaint(path, on_error="fail")


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../out.png", "sub/../../out.png", "link/out.png", "link.png", ""])
def test_a_manifest_cannot_reach_outside_its_directory(tmp_path: Path, name: str) -> None:
    save(tmp_path / "out.png")
    save(tmp_path / "in/sub/a.png")
    (tmp_path / "in/link").symlink_to(tmp_path)
    (tmp_path / "in/link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "in/fine.png").symlink_to(tmp_path / "in/sub/a.png")
    assert not found(manifest(tmp_path / "in", "path\nfine.png\nsub/../sub/a.png\n")).unreadable
    text = complaint(manifest(tmp_path / "in", f"path,label\nsub/a.png,x\n{name},y\n"))
    assert "absolute" in text or "out of the manifest's directory" in text or "line 3: '' is no path" in text


def test_a_manifest_that_is_none_says_where(tmp_path: Path) -> None:
    assert "has no column path; its first row reads: paht, x. Did you mean 'paht'?" in complaint(
        manifest(tmp_path, "paht,x\na,b\n")
    )
    text = complaint(manifest(tmp_path, "path,label\na.png,x,y\nb.png\n"))
    assert "list.csv line 2 has 3 fields, the first row 2." in text
    assert "list.csv line 3 has 1 fields" in text
    assert "is empty" in complaint(manifest(tmp_path, ""))
    assert "lists no images" in complaint(manifest(tmp_path, "path\n"))
    assert "several columns 'label'" in complaint(manifest(tmp_path, "path,label,label\n"))
    assert "not a CSV file in UTF-8" in complaint(manifest(tmp_path, "path\nä.png", "latin-1"))
    assert "not a CSV file in UTF-8" in complaint(manifest(tmp_path, 'path\n"a.png'))


def test_sizes_are_those_after_orientation_and_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    save(tmp_path / "b.jpg", 4, 6, "L")
    collection = found(tmp_path)
    assert (collection.heights.tolist(), collection.widths.tolist()) == ([6, 4], [4, 6])
    assert not collection.uniform
    assert found(tmp_path, orientation="ignore").uniform
    sized = found(tmp_path, size=[8, 9])
    assert sized.uniform
    assert sized.shape == (8, 9)


def test_fit_error_names_the_images_of_another_size(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 4, 6)
    save(tmp_path / "b.png", 5, 6)
    collection = found(tmp_path, size=[4, 6], fit="error")
    assert collection.unreadable == {1: "is 5×6 pixels, not 4×6 as images.size with fit: error asks"}


def test_unreadable_headers_keep_their_rows_unless_none_is_readable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    assert "none of the 1 images can be read" in complaint(tmp_path)
    save(tmp_path / "b.png")
    collection = found(tmp_path)
    assert collection.unreadable == {0: "not a JPEG, PNG, TIFF, BMP or WebP image"}
    assert collection.heights.tolist() == [0, 4]
    assert collection.decoded_bytes[0] == 0
    assert "images.on_error: 1 of 2 images cannot be read. Mend" in complaint(tmp_path, on_error="fail")


def test_kept_colours_must_agree(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png")
    save(tmp_path / "3.png", mode="L")
    text = complaint(tmp_path)
    assert "1 with 1 (as 3.png), 3 with 3 (as 0.png). Set images.color: rgb or images.color: gray." in text
    assert found(tmp_path, color="gray").channels == ("gray",)
    assert found(tmp_path, color="rgb").channels == ("red", "green", "blue")


def test_an_image_of_the_sample_that_will_not_do_is_left_to_the_run(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    save(tmp_path / "b.png")
    collection = found(tmp_path, size=[8, 8], color="gray")
    assert collection.channels == ("gray",)
    assert not collection.unreadable


def test_alpha_palette_and_cmyk_make_no_channels(tmp_path: Path) -> None:
    for mode, channels in (("LA", ("gray",)), ("RGBA", ("red", "green", "blue")), ("P", ("red", "green", "blue"))):
        assert found(save(tmp_path / f"{mode}.png", mode=mode)).channels == channels
    assert found(save(tmp_path / "c.jpg", mode="CMYK")).channels == ("red", "green", "blue")


def test_the_digest_follows_paths_sizes_times_and_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a/1.png")
    first = found(tmp_path).digest
    assert first == found(tmp_path).digest
    assert first != found(tmp_path, labels="none").digest
    os.utime(path, ns=(0, 1))
    assert first != (second := found(tmp_path).digest)
    path.rename(tmp_path / "a/2.png")
    assert second != found(tmp_path).digest


def test_headers_are_not_read_where_nothing_depends_on_them(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"{i:03}.png").write_text("no image")
    collection = found(tmp_path, size=[8, 8], color="gray")
    assert not collection.unreadable
    assert collection.uniform
    assert (collection.decoded_bytes >= 16 * 2**20).all()


def test_repeated_rows_are_looked_at_once(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    path = manifest(tmp_path, "path\n" + "a.png\n" * 100_000)
    started = time.perf_counter()
    assert len(found(path)) == 100_000
    assert time.perf_counter() - started < 5


def test_file_names_that_are_not_utf_8_are_shown_escaped_and_read(tmp_path: Path) -> None:
    options = Images(path=str(tmp_path), size=None)
    save(tmp_path / "a.png", 2, 3)
    save(tmp_path / "\\xff.png", 4, 4)
    save(tmp_path / "b.png", 5, 7).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    collection = scan(options)
    assert collection.paths == ("\\xff.png", "a.png", "\\xff_.png")
    assert not collection.unreadable
    shapes = [open_reader(options, collection).read_image(i).shape[:2] for i in range(3)]
    assert shapes == [(4, 4), (2, 3), (5, 7)]
