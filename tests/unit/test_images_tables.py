"""Images in parquet tables, and parquet files as manifests."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from featpipe.errors import ImageError, SourceError
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from tests.unit.source_examples import (
    PICTURES,
    classes_of,
    options,
    read_all,
    same_images,
    splits_of,
    write_folder,
    write_table,
)

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def complaint(path: Path, **more: Any) -> str:
    with pytest.raises(SourceError) as caught:
        scan(options(path, **more))
    return str(caught.value)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_a_table_of_images_reads_as_their_directory_does(tmp_path: Path, rows: int) -> None:
    _, pixels = read_all(write_folder(tmp_path / "images"))
    found, read = read_all(write_table(tmp_path / "a.parquet", ["zebra", "ape", "unseen"], rows))
    assert found.paths == ("0", "1", "2", "3")
    assert found.classes == ("zebra", "ape", "unseen")
    assert found.labels.tolist() == [1, 1, 0, -1]
    assert same_images(read, pixels)


def test_several_tables_are_one_and_their_names_tell_the_split(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write_table(tmp_path / f"data/{name}.parquet")
    found, _ = read_all(tmp_path / "data")
    assert len(found) == 12
    assert found.paths[4] == "train-00001-of-00002.parquet/0"
    assert splits_of(found) == ["train"] * 8 + ["val"] * 4
    assert scan(options(tmp_path / "data/train-*.parquet")).paths == found.paths[:8]


def test_columns_beside_the_images_can_be_named(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", part=["test", "train", "train", None], kind=[True, False, True, False])
    found = scan(options(path, labels="kind", split="part"))
    assert classes_of(found) == ["True", "False", "True", "False"]
    assert splits_of(found) == ["test", "train", "train", None]
    assert "there are: label, part, kind" in complaint(path, labels="kinds")


def test_a_column_of_plain_bytes_will_do_and_rows_without_bytes_are_unreadable(tmp_path: Path) -> None:
    content = [PICTURES["cat/a.png"], None, b"", b"cos\nsystem\n(S'true'\ntR."]
    parquet.write_table(pa.table({"picture": pa.array(content, pa.large_binary())}), tmp_path / "a.parquet")
    found = scan(options(tmp_path / "a.parquet"))
    assert list(found.unreadable) == [1, 2, 3]
    assert "no bytes" in found.unreadable[1]
    assert "is empty" in found.unreadable[2]
    assert "not a JPEG" in found.unreadable[3]


def test_a_table_of_paths_is_a_manifest(tmp_path: Path) -> None:
    _, pixels = read_all(write_folder(tmp_path / "images"))
    names = [f"images/{name}" for name in PICTURES]
    parquet.write_table(pa.table({"path": [*names, names[0]], "label": [3, 3, 4, 4, 4]}), tmp_path / "a.parquet")
    found, read = read_all(tmp_path / "a.parquet")
    assert found.kind == "files"
    assert classes_of(found) == ["3", "3", "4", "4", "4"]
    assert same_images(read, [*pixels, pixels[0]])


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "a/../../x.png", "~/x.png", "", None])
def test_a_table_of_paths_cannot_reach_outside(tmp_path: Path, name: str | None) -> None:
    parquet.write_table(pa.table({"path": pa.array(["a.png", name])}), tmp_path / "a.parquet")
    assert "a.parquet row 2" in complaint(tmp_path / "a.parquet")
    (tmp_path / "m").mkdir()
    (tmp_path / "out.png").write_bytes(PICTURES["cat/a.png"])
    (tmp_path / "m/in.png").symlink_to(tmp_path / "out.png")
    parquet.write_table(pa.table({"path": ["in.png"]}), tmp_path / "m/a.parquet")
    assert "is a link out of" in complaint(tmp_path / "m/a.parquet")


def test_tables_that_are_none_say_why(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing")
    assert "is not a parquet file" in complaint(path)
    path.write_bytes(b"PAR1" + (2**31).to_bytes(4, "little") + b"PAR1")
    assert "its footer has 2,147,483,648 bytes" in complaint(path)
    parquet.write_table(pa.table({"x": [1.0]}), path)
    assert "neither a column of images' bytes" in complaint(path)
    parquet.write_table(pa.table({"a": [b"1"], "b": [b"2"]}), path)
    assert "several columns that can be images: a, b" in complaint(path)
    parquet.write_table(pa.table({"a": pa.array([], pa.binary())}), path)
    assert "holds no rows" in complaint(path)
    write_table(tmp_path / "b.parquet")
    assert "has other columns" in complaint(tmp_path / "*.parquet")


def test_a_value_that_a_dictionary_repeats_is_not_spread_out_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featpipe.images.tables._PIECE", 2**21)
    table = pa.table({"image": pa.array([b"\xff" * 2**20] * 100, pa.binary())})
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", data_page_size=2**30)
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    images = options(tmp_path / "a.parquet", size=(4, 4), color="gray")
    before = pa.total_allocated_bytes()
    gc.disable()
    collection = scan(images)
    with pytest.raises(ImageError, match="unpacks to more than"):
        open_reader(images, collection).read_image(99)
    taken = pa.total_allocated_bytes() - before
    gc.enable()
    assert taken < 2**24


def test_a_damaged_row_group_leaves_the_others(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", rows=2)
    content = bytearray(path.read_bytes())
    content[4:44] = b"\xff" * 40  # the header of the first page
    path.write_bytes(content)
    found = scan(options(path))
    assert list(found.unreadable) == [0, 1]
    assert "damaged" in found.unreadable[0]
