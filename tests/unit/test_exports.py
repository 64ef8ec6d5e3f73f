"""Exports against the matrix and the maps that they were made of, read back by the formats' own libraries."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

import featpipe
from featpipe.errors import FeatpipeError
from featpipe.exports import export as exporting
from featpipe.exports import omezarr, parquet, table, target
from featpipe.geometry.axis import Span
from featpipe.geometry.window import Window
from featpipe.plan.model import ArrayPlan
from featpipe.stack import Stack, open_stack
from featpipe.store import read
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.write import StoreWriter
from tests.unit.probe_examples import write_stack
from tests.unit.store_examples import (
    BAD,
    CORNERS,
    OWN,
    N,
    attributes,
    corners_array,
    make_collection,
    make_own,
    make_stacked,
    own_array,
)

GOOD = [i for i in range(N) if i != BAD]
TRAIN = [i for i in GOOD if i % 3]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exports") / "a.zarr"
    make_stacked(path)
    return path


@pytest.fixture
def stack(store: Path) -> Stack:
    return open_stack(store)


@pytest.fixture(params=["one block", "a row each"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "one block":
        monkeypatch.setattr(table, "BLOCK_BYTES", 1)
        monkeypatch.setattr(omezarr, "BLOCK_BYTES", 1)
    return str(request.param)


# -- texts -------------------------------------------------------------------------------------------------------------

ODD = ("a\0b", "a\0", "\x1b[31m", "a/b", "", "\u202e", "tab\tline\n", "é" * 300, "same", "same")
LOST = {("a\0b", "h5ad"), ("a\0", "h5ad"), ("a\0", "npz")}
"""What HDF5 and NumPy cannot hold."""


def odd_store(path: Path, classes: tuple[str, ...]) -> Stack:
    """Return a store of a column, and a class for each image."""
    n = len(classes)
    maps = [(replace(CORNERS, features=({"bank": "log"},)), replace(corners_array(n), shape=(n, 2, 2, 1)))]
    collection = make_collection(n, classes=classes, labels=np.arange(n), unreadable={}, heights=np.full(n, 11))
    create_store(LocalPlace(path), maps, collection, attributes())
    writer = StoreWriter(LocalPlace(path))
    for start in range(0, n, 4):
        rows = slice(start, min(n, start + 4))
        writer.write("corners/kept/scale2", (rows,), np.ones((rows.stop - start, 2, 2, 1), np.float32))
    writer.finish({})
    return open_stack(path)


@pytest.mark.parametrize("form", ["npz", "parquet", "h5ad"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_text_is_written_as_it_is_or_refused_before_anything_is(odd: str, form: str, tmp_path: Path) -> None:
    classes = ("plain", odd, "same")
    stack = odd_store(tmp_path / "a.zarr", classes)
    file = tmp_path / f"a.{form}"
    if (odd, form) not in LOST:
        featpipe.export(stack, file)
        assert tuple(class_names(file)) == classes
        return
    with pytest.raises(FeatpipeError, match="the class") as error:
        featpipe.export(stack, file)
    assert error.value.exit_code == 2
    assert repr(odd) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def class_names(file: Path) -> list[str]:
    """Return the class of every row, by the format's own reader."""
    if file.suffix == ".npz":
        with np.load(file) as found:
            return [str(found["class_names"][code]) for code in found["y"]]
    if file.suffix == ".parquet":
        from pyarrow import parquet as reader

        return list(reader.read_table(file)["class_name"].to_pylist())
    import anndata

    return [str(name) for name in anndata.read_h5ad(file).obs["class_name"]]


# -- npz ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [None, "train"])
def test_npz_is_xy_with_names_for_rows_and_columns(
    stack: Stack, tmp_path: Path, split: str | None, blocks: str
) -> None:
    facts = featpipe.export(stack, tmp_path / "a.npz", split=split)
    X, y = stack.xy(split)
    rows = GOOD if split is None else TRAIN
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert (found["X"].dtype, found["y"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(found["X"], X)
        np.testing.assert_array_equal(found["y"], y)
        np.testing.assert_array_equal(found["image"], rows)
        assert found["path"].tolist() == [f"class {i % 2}/{i}.png" for i in rows]
        assert found["split_names"][found["split"]].tolist() == [("train", "test")[i % 3 == 0] for i in rows]
        assert found["class_names"].tolist() == ["cat", "tabby"]
        columns = stack.columns()
        for key in ("map", "y", "x", "bank", "channel"):
            assert found[f"column_{key}"].tolist() == [column.get(key, "") for column in columns]
        np.testing.assert_array_equal(found["column_sigma"], [column.get("sigma", np.nan) for column in columns])
        assert len(set(found["column"].tolist())) == X.shape[1]
        assert found["column"][0] == "texture/scale1[0,0] gabor frequency=0.1 orientation=0 channel=red"
        assert json.loads(str(found["featpipe"]))["pipeline"] == stack.pipeline
    assert (facts["images"], facts["features"], facts["format"]) == (*X.shape, "npz")
    assert facts["bytes"] == (tmp_path / "a.npz").stat().st_size


def test_the_same_features_make_the_same_file(stack: Stack, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        featpipe.export(stack, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        assert {member.date_time[0] for member in file.infolist()} == {1980}


def test_a_choice_of_features_is_exported_as_chosen(stack: Stack, tmp_path: Path) -> None:
    chosen = stack.select(frequency=0.1, channel="red")
    featpipe.export(chosen, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_array_equal(found["X"], chosen.xy()[0])
        assert set(found["column_frequency"].tolist()) == {0.1}


# -- parquet -----------------------------------------------------------------------------------------------------------


def test_parquet_has_a_row_for_each_image_and_a_column_for_each_feature(
    stack: Stack, tmp_path: Path, blocks: str
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    featpipe.export(stack, tmp_path / "a.parquet")
    found, (X, y) = pq.read_table(tmp_path / "a.parquet"), stack.xy()
    assert found.column_names[:5] == list(parquet.IMAGE)
    assert len(set(found.column_names)) == 5 + X.shape[1]
    np.testing.assert_array_equal(np.stack([column.to_numpy() for column in found.columns[5:]], axis=1), X)
    assert found["label"].to_pylist() == y.tolist()
    assert found["class_name"].to_pylist() == [stack.classes[code] for code in y]
    assert found["split"].to_pylist() == [("train", "test")[i % 3 == 0] for i in GOOD]
    assert found["image"].to_pylist() == GOOD
    labels = [json.loads(found.schema.field(i).metadata[b"featpipe"]) for i in range(5, 5 + X.shape[1])]
    assert labels == stack.columns()
    assert json.loads(found.schema.metadata[b"featpipe"])["classes"] == list(stack.classes)
    groups = pq.ParquetFile(tmp_path / "a.parquet").num_row_groups
    assert groups == (1 if blocks == "one block" else len(GOOD))


def test_parquet_of_very_many_features_has_them_in_one_column(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "MOST_COLUMNS", 135)
    featpipe.export(stack, tmp_path / "a.parquet")
    found, (X, _) = pq.read_table(tmp_path / "a.parquet"), stack.xy()
    assert found.column_names == [*parquet.IMAGE, "features"]
    np.testing.assert_array_equal(np.array(found["features"].to_pylist(), np.float32), X)
    assert len(json.loads(found.schema.field("features").metadata[b"featpipe"])["columns"]) == X.shape[1]


# -- AnnData -----------------------------------------------------------------------------------------------------------


# anndata 0.13 asks pandas 3 for options that pandas is giving up
@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")
def test_h5ad_has_images_as_observations_and_labels_as_variables(stack: Stack, tmp_path: Path, blocks: str) -> None:
    anndata = pytest.importorskip("anndata")
    featpipe.export(stack, tmp_path / "a.h5ad")
    found, (X, y) = anndata.read_h5ad(tmp_path / "a.h5ad"), stack.xy()
    np.testing.assert_array_equal(found.X, X)
    assert found.obs_names.tolist() == stack.paths[GOOD].tolist()
    assert found.obs["class_name"].astype(str).tolist() == [stack.classes[code] for code in y]
    assert found.obs["split"].cat.categories.tolist() == ["train", "test"]
    columns = stack.columns()
    assert found.var["map"].astype(str).tolist() == [column["map"] for column in columns]
    assert found.var["channel"].isna().tolist() == ["channel" not in column for column in columns]
    np.testing.assert_array_equal(found.var["sigma"], [column.get("sigma", np.nan) for column in columns])
    assert json.loads(found.uns["featpipe"])["pipeline"] == stack.pipeline
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(backed[2:4].X, X[2:4])
    backed.file.close()


def test_images_and_features_of_the_same_name_are_told_apart() -> None:
    assert table.unique(["a", "a", "a (2)", "a"]) == ["a", "a (3)", "a (2)", "a (4)"]


# -- OME-Zarr ----------------------------------------------------------------------------------------------------------


def ome(path: Path) -> dict[str, Any]:
    attributes: Any = zarr.open_group(path, mode="r").attrs["ome"]
    return dict(attributes)


def level(path: Path, number: int = 0) -> npt.NDArray[Any]:
    array: Any = zarr.open_group(path, mode="r")[str(number)]
    assert array.metadata.dimension_names == ("c", "y", "x")
    return np.asarray(array[...])


def transforms(path: Path, number: int = 0) -> list[list[float]]:
    scale, translation = ome(path)["multiscales"][0]["datasets"][number]["coordinateTransformations"]
    assert (scale["type"], translation["type"]) == ("scale", "translation")
    return [scale["scale"], translation["translation"]]


def test_an_image_of_a_stacked_map_becomes_an_ome_zarr(stack: Stack, tmp_path: Path, blocks: str) -> None:
    path = tmp_path / "a.ome.zarr"
    facts = featpipe.export(stack.select(branch="texture"), path, image="class 0/2.png")
    one = stack["texture/scale1"]
    np.testing.assert_array_equal(level(path), np.moveaxis(one[2], -1, 0))
    assert transforms(path) == [[1.0, 2.0, 2.0], [0.0, 1.0, 1.0]]
    assert (facts["image"], facts["shape"], facts["levels"]) == (2, [6, 4, 5], 1)
    channels = ome(path)["omero"]["channels"]
    assert [channel["label"] for channel in channels] == list(one.features)
    assert [channel["window"]["min"] for channel in channels] == one[2].min(axis=(0, 1)).tolist()
    assert [channel["window"]["max"] for channel in channels] == one[2].max(axis=(0, 1)).tolist()
    assert all(channel["window"]["start"] < channel["window"]["end"] for channel in channels)


def test_an_images_own_map_becomes_an_ome_zarr(tmp_path: Path) -> None:
    values = make_own(tmp_path / "own.zarr")
    featpipe.export(tmp_path / "own.zarr", tmp_path / "a.ome.zarr", image=5)
    np.testing.assert_array_equal(level(tmp_path / "a.ome.zarr"), np.moveaxis(values[5], -1, 0))
    array = own_array(5)
    assert transforms(tmp_path / "a.ome.zarr")[1] == [0.0, array.y[0], array.x[0]]


def test_contrast_is_told_of_channels_that_are_constant_or_have_no_numbers() -> None:
    values = np.zeros((4, 6, 4), np.float32)
    values[..., 0], values[..., 1] = np.nan, 3
    values[..., 2] = np.arange(24).reshape(4, 6)
    values[0, 0, 2], values[3, 5, 3] = np.inf, 1
    contrast = omezarr.Contrast(Ready(values))
    for y, x in ((Span(0, 3), Span(0, 6)), (Span(3, 4), Span(0, 6))):
        contrast.add(values[y.start : y.stop], y, x)
    empty, constant, some, rare = contrast.windows()
    assert empty == {"min": 0, "max": 1, "start": 0, "end": 1}
    assert constant == {"min": 3, "max": 3, "start": 3, "end": 4}
    assert (some["min"], some["max"]) == (1, 23)
    np.testing.assert_allclose([some["start"], some["end"]], np.percentile(np.arange(1, 24), (0.5, 99.5)), rtol=1e-6)
    assert (rare["min"], rare["max"]) == (0, 1)
    assert rare["start"] < rare["end"]


class Ready:
    """A level at hand."""

    scale = translation = (1.0, 1.0)

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self.values = values
        self.shape: tuple[int, int, int] = values.shape

    def read(self, y: Span, x: Span) -> npt.NDArray[np.float32]:
        return self.values[y.start : y.stop, x.start : x.stop]


def test_an_export_may_replace_an_export_and_nothing_else(stack: Stack, tmp_path: Path) -> None:
    one = stack.select(branch="texture")
    path = tmp_path / "a.ome.zarr"
    for image in (1, 2):
        featpipe.export(one, path, image=image, overwrite=True)
    np.testing.assert_array_equal(level(path), np.moveaxis(stack["texture/scale1"][2], -1, 0))
    for other in (tmp_path / "photos.ome.zarr", tmp_path / "store.ome.zarr"):
        other.mkdir()
        (other / "zarr.json").write_text('{"attributes": {"ome": {}}}', encoding="utf-8")
        with pytest.raises(FeatpipeError, match="is a directory that no export has written"):
            featpipe.export(one, other, image=1, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.zarr", "photos.ome.zarr", "store.ome.zarr"]


# -- whole or not at all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npz", "a.parquet", "a.h5ad", "a.ome.zarr"])
def test_an_export_that_fails_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    make_stacked(tmp_path / "f.zarr")
    stack, path = open_stack(tmp_path / "f.zarr").select(branch="texture"), tmp_path / name
    options: dict[str, Any] = {"image": 6, "overwrite": True} if name == "a.ome.zarr" else {"overwrite": True}
    featpipe.export(stack, path, **options)
    before = {file: file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}
    shard = max((tmp_path / "f.zarr" / "texture" / "scale1" / "features" / "c").rglob("2/*/*/0"))
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(Exception, match=r"."):
        featpipe.export(stack, path, **options)
    assert {file: file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()} == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, "f.zarr"])


@pytest.mark.parametrize("name", ["a.npz", "a.parquet", "a.h5ad", "a.ome.zarr"])
def test_memory_does_not_grow_with_the_number_of_images_or_their_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (table, omezarr):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 19)
    monkeypatch.setattr(read, "READ_BYTES", 1 << 19)
    monkeypatch.setattr(omezarr, "CHUNK", 128)
    monkeypatch.setattr(omezarr, "SAMPLED", 1 << 16)
    stack = large_image(tmp_path / "f.zarr") if name == "a.ome.zarr" else many_images(tmp_path / "f.zarr")
    featpipe.export(stack, tmp_path / name, overwrite=True)  # imports, and what libraries keep
    tracemalloc.start()
    featpipe.export(stack, tmp_path / name, overwrite=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def many_images(path: Path) -> Stack:
    """Return 16 MiB of features of 16,384 images."""
    n = 1 << 14
    values = np.random.default_rng(0).random((n, 8, 8, 4), np.float32)
    zeros = np.zeros(n, np.int64)
    return open_stack(write_stack(path, {"a/scale1": values}, zeros, zeros, shard=1024, chunk=64))


def large_image(path: Path) -> Stack:
    """Return 16 MiB of features of one image."""
    edge = 1024
    a_map = replace(OWN, windows=(Window(), Window()))
    at = np.arange(edge, dtype=np.float64)
    array = ArrayPlan("images/0/own/scale1", (edge, edge, 4), (64, 64, 4), (256, 256, 4), at, at, relative=False)
    create_store(LocalPlace(path), [(a_map, array)], make_collection(1), attributes())
    writer = StoreWriter(LocalPlace(path))
    random = np.random.default_rng(0)
    for row in range(0, edge, 256):
        for col in range(0, edge, 256):
            spans = slice(row, row + 256), slice(col, col + 256)
            writer.write(array.group, spans, random.random((256, 256, 4), np.float32))
    writer.finish({})
    return open_stack(path)


def test_behind_a_link_what_was_exported_there_is_replaced(stack: Stack, tmp_path: Path) -> None:
    texture = stack.select(branch="texture", scale=1)
    (tmp_path / "far").mkdir()
    (tmp_path / "a.ome.zarr").symlink_to(tmp_path / "far" / "b.ome.zarr")
    featpipe.export(texture, tmp_path / "far" / "b.ome.zarr", image=1)
    second: Any = np.int64(2)
    found = featpipe.export(texture, tmp_path / "a.ome.zarr", image=second, overwrite=True)
    assert found["image"] == 2
    assert [file.name for file in tmp_path.iterdir() if "ome" in file.name] == ["a.ome.zarr"]
    assert [file.name for file in (tmp_path / "far").iterdir()] == ["b.ome.zarr"]
    written = json.loads((tmp_path / "far" / "b.ome.zarr" / "zarr.json").read_text())
    assert written["attributes"]["featpipe"]["exported"]["image"] == 2


# -- what is refused, before any work ----------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_told_in_words(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.npz").write_bytes(b"mine")
    make_own(tmp_path / "own.zarr")
    make_stacked(tmp_path / "partial.zarr", finish=False)
    texture = stack.select(branch="texture")
    cases: list[tuple[Any, str, dict[str, Any], str]] = [
        (stack, "there.npz", {}, "exists already"),
        (stack, "none/a.npz", {}, "its directory does not exist"),
        (stack, "a.dat", {}, r"End it in \.npz, \.parquet, \.h5ad, \.ome\.zarr, or give --format"),
        (stack, "a", {"format": "parqet"}, "Did you mean parquet"),
        (stack, "a.npz", {"split": "tran"}, "no split 'tran'. Did you mean train"),
        (stack, "a.npz", {"image": 1}, "holds all images"),
        (tmp_path / "own.zarr", "a.npz", {}, "no map of one shape"),
        (tmp_path / "partial.zarr", "a.npz", {}, r"not complete\..*stopped\.$"),
        (tmp_path / "partial.zarr", "a.ome.zarr", {}, r"not complete\..*stopped\.$"),
        (stack, "a.ome.zarr", {"image": 0}, "several branches, and an OME-Zarr holds one: texture, corners/kept"),
        (texture, "a.ome.zarr", {}, "has 6 images, and an OME-Zarr holds one"),
        (texture, "a.ome.zarr", {"image": "class 0/22.png"}, "Did you mean class 0/2.png"),
        (texture, "a.ome.zarr", {"image": N}, f"no image {N}.*0 to {N - 1}"),
        (texture, "a.ome.zarr", {"image": BAD}, "could not be read"),
        (texture, "a.ome.zarr", {"image": 1, "split": "train"}, "an OME-Zarr holds one image"),
        (stack.select(branch="corners"), "a.ome.zarr", {"image": 1}, "no grid of pixels"),
    ]
    for source, name, options, words in cases:
        with pytest.raises(FeatpipeError, match=words) as error:
            featpipe.export(source, tmp_path / name, **options)
        assert error.value.exit_code == 2
    for place in ("s3://bucket/a.npz", Path("s3://bucket/a.npz")):
        with pytest.raises(FeatpipeError, match=r"^s3://bucket/a\.npz: is no local file"):
            featpipe.export(stack, place)
    monkeypatch.setitem(target.NEEDS, "parquet", ("no_such_package", "parquet"))
    with pytest.raises(FeatpipeError, match=r"featpipe\[parquet\]"):
        featpipe.export(stack, tmp_path / "a.parquet")
    monkeypatch.setattr(table, "MOST_COLUMNS", 135)
    with pytest.raises(FeatpipeError, match="136 numbers for each image"):
        featpipe.export(stack, tmp_path / "a.npz")
    monkeypatch.undo()
    monkeypatch.setattr(exporting, "free_bytes", lambda _: 3263)
    with pytest.raises(FeatpipeError, match=r"3\.19 KiB of features, and 3\.19 KiB are free") as error:
        featpipe.export(stack, tmp_path / "a.h5ad")
    assert error.value.exit_code == 1
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
    assert not list(tmp_path.glob("a*"))
