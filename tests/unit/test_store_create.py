from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featpipe.errors import StoreError
from featpipe.kernels.bank import Labels
from featpipe.store.coordinates import decode_labels, encode_labels
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.target import check_place
from featpipe.store.write import StoreWriter
from tests.unit.store_examples import (
    BAD,
    DIGESTS,
    GABOR,
    TEXTURE,
    N,
    attributes,
    make_collection,
    make_own,
    make_stacked,
    own_array,
    stacked_pairs,
    texture_array,
)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def read(group: Any, name: str) -> Any:
    return group[name][...]


def test_the_root_tells_what_each_image_is(tmp_path: Path) -> None:
    make_stacked(tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    collection = make_collection()
    assert read(root, "image").tolist() == list(range(N))
    assert read(root, "path").tolist() == list(collection.paths)
    assert root["path"].metadata.to_dict()["data_type"] == "string"
    assert read(root, "label").tolist() == collection.labels.tolist()
    assert root["label"].attrs["classes"] == ["cat", "tabby"]
    assert root["label"].dtype == np.int64  # type: ignore[union-attr]
    assert read(root, "split").tolist() == collection.splits.tolist()
    assert root["split"].attrs["splits"] == ["train", "test"]
    assert root["split"].attrs["flag_meanings"] == "train test"
    assert root["split"].dtype == np.int8  # type: ignore[union-attr]
    assert np.flatnonzero(~read(root, "ok")).tolist() == [BAD]
    assert root["ok"].attrs["reasons"] == {str(BAD): "truncated"}
    assert read(root, "height").tolist() == collection.heights.tolist()
    assert read(root, "width").tolist() == collection.widths.tolist()
    assert root.attrs["coordinates"] == "path label split ok height width"
    header: Any = root.attrs["featpipe"]
    assert (header["format"], header["status"], header["digests"]) == (1, "complete", DIGESTS)
    assert header["pipeline"] == attributes()["pipeline"]
    assert header["versions"]["zarr"] == zarr.__version__


def test_a_map_carries_its_window_its_centres_and_its_labels(tmp_path: Path) -> None:
    make_stacked(tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    group: Any = root["texture/scale1"]
    assert group["features"].metadata.dimension_names == ("image", "y", "x", "feature")
    assert np.isnan(group["features"].fill_value)
    assert (group["features"].shards, group["features"].chunks) == ((3, 6, 5, 6), (1, 3, 5, 6))
    assert group.attrs["window"]["y"] == {"size": 9, "stride": 2, "offset": -3}
    assert group.attrs["coordinates"].split() == ["bank", "frequency", "orientation", "channel", "size"]
    assert group["y"][...].tolist() == [1, 3, 5, 7]
    assert group["y"].attrs["units"] == "pixel"
    assert group["feature"][...].tolist()[0] == "gabor frequency=0.1 orientation=0 channel=red"
    assert group["bank"][...].tolist() == [0, 0, 0, 0, 1, 1]
    assert group["bank"].attrs["names"] == ["gabor", "plain box"]
    assert "flag_meanings" not in group["bank"].attrs  # a name with a space would read as two
    assert group["channel"][...].tolist() == [0, 0, 1, 1, 0, -1]
    assert group["channel"].attrs["flag_meanings"] == "red green"
    np.testing.assert_array_equal(group["size"][...], [np.nan] * 4 + [3, 5])
    pooled: Any = root["corners/kept/scale2"]
    assert pooled.attrs["window"] is None
    assert pooled["features"].shards is None
    assert pooled["polarity"].dtype == np.int64
    assert pooled["x"].attrs["units"] == "fraction of image width"


def test_images_of_different_shapes_get_groups_of_their_own(tmp_path: Path) -> None:
    values = make_own(tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert sorted(root["images"].group_keys()) == [str(i) for i in sorted(values)]  # type: ignore[union-attr]
    for image, expected in values.items():
        group: Any = root[f"images/{image}/own/scale1"]
        assert group["features"].metadata.dimension_names == ("y", "x", "feature")
        np.testing.assert_array_equal(group["features"][...], expected)
        np.testing.assert_array_equal(group["y"][...], own_array(image).y)
        assert group["sigma"][...].tolist() == [1, 1, 2, 2]


def test_codecs_are_those_of_the_zarr_specification(tmp_path: Path) -> None:
    make_stacked(tmp_path / "a.zarr")
    core = {"bytes", "blosc", "zstd", "crc32c", "sharding_indexed", "vlen-utf8"}
    used = set()
    for file in (tmp_path / "a.zarr").rglob("zarr.json"):
        for codec in json.loads(file.read_text()).get("codecs", []):
            facts = codec.get("configuration", {})
            inner = facts.get("codecs", []) + facts.get("index_codecs", [])
            used |= {codec["name"], *(one["name"] for one in inner)}
    assert used <= core
    assert "sharding_indexed" in used


def test_labels_survive_the_store_with_their_types() -> None:
    features: tuple[Labels, ...] = (*GABOR, {}, {"size": 7, "order": 2, "kernel": "é x"})
    decoded = decode_labels(encode_labels(features), len(features))
    assert decoded == features
    assert [{k: type(v) for k, v in one.items()} for one in decoded] == [
        {k: type(v) for k, v in one.items()} for one in features
    ]


def test_xarray_opens_the_tree_without_a_warning(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    values = make_stacked(tmp_path / "a.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xarray.open_datatree(tmp_path / "a.zarr", engine="zarr")
        data = tree["texture/scale1"].to_dataset()
        assert set(data.coords) >= {"image", "y", "x", "feature", "bank", "frequency", "orientation", "channel", "size"}
        assert list(data.data_vars) == ["features"]
        assert set(tree.to_dataset().coords) == {"image", "path", "label", "split", "ok", "height", "width"}
        np.testing.assert_array_equal(data.features.values, values["texture/scale1"])
        chosen = data.sel(image=2, feature="gabor frequency=0.1 orientation=45 channel=red", y=3)
        np.testing.assert_array_equal(chosen.features.values, values["texture/scale1"][2, 1, :, 1])
        assert tree["path"].values[1] == "class 1/1.png"
        np.testing.assert_array_equal(tree["ok"].values, np.arange(N) != BAD)


def test_xarray_opens_maps_of_single_images_too(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    values = make_own(tmp_path / "a.zarr")
    tree = xarray.open_datatree(tmp_path / "a.zarr", engine="zarr")
    np.testing.assert_array_equal(tree["images/2/own/scale1/features"].values, values[2])


def test_names_that_are_not_utf8_are_replaced_not_refused(tmp_path: Path) -> None:
    paths = ("caf\udce9.png", "é.png")
    collection = make_collection(2, paths=paths)
    create_store(LocalPlace(tmp_path / "a.zarr"), [(TEXTURE, texture_array(2))], collection, attributes())
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert read(root, "path").tolist() == ["caf?.png", "é.png"]


def test_an_empty_collection_of_classes_and_splits_is_fine(tmp_path: Path) -> None:
    none = np.full(2, -1)
    collection = make_collection(2, classes=(), split_names=(), labels=none, splits=none.astype(np.int8))
    create_store(LocalPlace(tmp_path / "a.zarr"), [(TEXTURE, texture_array(2))], collection, attributes())
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert root["label"].attrs["classes"] == []
    assert read(root, "split").tolist() == [-1, -1]


# -- what stands at the path already ----------------------------------------------------------------------------------


def test_a_place_where_nothing_is_an_empty_directory_and_a_store_may_be_written_to(tmp_path: Path) -> None:
    check_place(LocalPlace(tmp_path / "deep" / "er" / "a.zarr"))
    assert not (tmp_path / "deep").exists()
    (tmp_path / "a.zarr").mkdir()
    check_place(LocalPlace(tmp_path / "a.zarr"))
    make_stacked(tmp_path / "a.zarr", finish=False)
    check_place(LocalPlace(tmp_path / "a.zarr"))
    make_stacked(tmp_path / "a.zarr")
    check_place(LocalPlace(tmp_path / "a.zarr"))


def test_creating_again_what_was_begun_keeps_its_shards_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    values = make_stacked(tmp_path / "whole.zarr")
    target = tmp_path / "resumed.zarr"
    create_store(LocalPlace(target), stacked_pairs(), make_collection(), attributes())
    StoreWriter(LocalPlace(target)).write("texture/scale1", (slice(0, 3),), values["texture/scale1"][:3])
    shard = target / "texture/scale1/features/c/0/0/0/0"
    (shard.parent / "0.1234.partial").write_bytes(b"left by a writer that was killed")
    before = shard.stat().st_mtime_ns
    create_store(LocalPlace(target), stacked_pairs(), make_collection(), attributes())
    assert shard.stat().st_mtime_ns == before
    writer = StoreWriter(LocalPlace(target))
    for group, edge in (("texture/scale1", 3), ("corners/kept/scale2", 4)):
        for start in range(0, N, edge):
            region = (slice(start, min(N, start + edge)),)
            if group != "texture/scale1" or start:
                writer.write(group, region, values[group][region])
    assert shard.stat().st_mtime_ns == before
    writer.finish({BAD: "truncated"})
    assert contents(target) == contents(tmp_path / "whole.zarr")


def test_nothing_but_a_feature_stack_is_ever_touched(tmp_path: Path) -> None:
    foreign = tmp_path / "b.zarr"
    zarr.create_group(foreign, attributes={"mine": True})
    broken = tmp_path / "c.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text('{"attributes": {"featpipe"')
    for target in (foreign, broken):
        before = contents(target)
        with pytest.raises(StoreError, match="is a directory that featpipe did not write"):
            check_place(LocalPlace(target))
        assert contents(target) == before


def test_files_and_links_in_the_way_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file.zarr"
    file.write_text("x")
    with pytest.raises(StoreError, match=r"file\.zarr: is a file\. Set store\.path"):
        check_place(LocalPlace(file))
    with pytest.raises(StoreError, match="is a file"):
        check_place(LocalPlace(file / "below" / "a.zarr"))
    make_stacked(tmp_path / "real.zarr")
    for name, aim in (("good", "real.zarr"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(tmp_path / aim)
        with pytest.raises(StoreError, match=f"is a symbolic link to .*{aim}"):
            check_place(LocalPlace(tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="locked may not be written to"):
        check_place(LocalPlace(tmp_path / "locked" / "a.zarr"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses directories")
def test_a_file_system_that_refuses_is_told_without_a_traceback() -> None:
    with pytest.raises(StoreError, match=r"/proc/a\.zarr.*: cannot be (written|made)"):
        create_store(LocalPlace(Path("/proc/a.zarr")), stacked_pairs(), make_collection(), attributes())
