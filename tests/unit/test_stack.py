from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featpipe.errors import StoreError
from featpipe.plan.identity import Identity
from featpipe.stack import FeatureMap, Stack, open_stack
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.receipts import Journal, Receipt
from tests.unit.store_examples import (
    BAD,
    DIGESTS,
    GABOR,
    POOLED,
    TEXTURE,
    N,
    attributes,
    make_collection,
    make_own,
    make_stacked,
    own_array,
    texture_array,
)

GOOD = [i for i in range(N) if i != BAD]
TRAIN = [i for i in GOOD if i % 3]
TEST = [i for i in GOOD if i % 3 == 0]
NAMES = ("texture/scale1", "corners/kept/scale2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def values(folder: Path) -> dict[str, Any]:
    values = make_stacked(folder / "a.zarr")
    for array in values.values():
        array.flags.writeable = False
    return dict(values)


@pytest.fixture
def stack(folder: Path, values: dict[str, Any]) -> Stack:
    return open_stack(folder / "a.zarr")


def flat(values: dict[str, Any], rows: list[int]) -> Any:
    return np.concatenate([values[name][rows].reshape(len(rows), -1) for name in NAMES], axis=1)


# -- xy ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "rows"), [(None, GOOD), ("train", TRAIN), ("test", TEST)])
def test_xy_is_the_maps_flattened_side_by_side(
    stack: Stack, values: dict[str, Any], split: str | None, rows: list[int]
) -> None:
    X, y = stack.xy(split)
    assert (str(X.dtype), str(y.dtype), X.flags.c_contiguous) == ("float32", "int64", True)
    np.testing.assert_array_equal(X, flat(values, rows))
    np.testing.assert_array_equal(y, np.arange(N)[rows] % 2)


def test_unreadable_images_are_nan_when_asked_for(stack: Stack, values: dict[str, Any]) -> None:
    X, y = stack.xy(ok_only=False)
    np.testing.assert_array_equal(X, flat(values, list(range(N))))
    assert np.isnan(X[BAD]).all()
    assert len(y) == N


def test_columns_tell_where_every_number_of_xy_comes_from(stack: Stack, values: dict[str, Any]) -> None:
    X, _ = stack.xy()
    columns = stack.columns()
    assert len(columns) == X.shape[1]
    features = {NAMES[0]: GABOR, NAMES[1]: POOLED}
    for at in (0, 7, 119, 120, 127, 135):
        column = dict(columns[at])
        name, y, x = column.pop("map"), column.pop("y"), column.pop("x")
        feature = features[name].index(column)
        np.testing.assert_array_equal(X[:, at], values[name][GOOD, y, x, feature])


def test_xy_goes_straight_into_scikit_learn(stack: Stack) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    model = neighbors.KNeighborsClassifier(1).fit(*stack.xy("train"))
    assert model.score(*stack.xy("train")) == 1.0


def test_xy_does_not_depend_on_the_stored_type(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "h.zarr")
    create_store(place, [(TEXTURE, texture_array())], make_collection(), attributes("float16"))
    X, _ = open_stack(tmp_path / "h.zarr").xy(allow_partial=True, ok_only=False)
    assert X.dtype == np.float32
    assert np.isnan(X).all()


def test_an_unknown_split_is_answered_with_those_there_are(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a\.zarr: has no split 'val'\. There are train, test\."):
        stack.xy("val")
    none = make_collection(split_names=(), splits=np.full(N, -1, np.int8))
    create_store(LocalPlace(tmp_path / "b.zarr"), [(TEXTURE, texture_array())], none, attributes())
    with pytest.raises(StoreError, match="Its images are not split"):
        open_stack(tmp_path / "b.zarr").xy("train", allow_partial=True)


def test_a_partial_store_is_only_taken_knowingly(tmp_path: Path) -> None:
    values = make_stacked(tmp_path / "p.zarr", finish=False)
    stack = open_stack(tmp_path / "p.zarr")
    assert stack.status == "partial"
    with pytest.raises(StoreError, match="is not complete"):
        stack.xy()
    np.testing.assert_array_equal(stack.xy(allow_partial=True, ok_only=False)[0], flat(values, list(range(N))))
    assert not stack.ok.any()  # no receipt tells of any
    identity = Identity("chain", "", "versions", "pieces", "input")
    whole = [Receipt(name, (0, N), None, identity, (), {BAD: "truncated"}) for name in stack.maps[:1]]
    Journal(stack.place).begin(whole)
    assert not open_stack(tmp_path / "p.zarr").ok.any()  # one map is not there yet
    Journal(stack.place, 1).begin([*whole, *(replace(one, map=stack.maps[1]) for one in whole)])
    np.testing.assert_array_equal(open_stack(tmp_path / "p.zarr").xy(allow_partial=True)[0], flat(values, GOOD))


def test_maps_of_their_own_give_no_matrix_but_advice(tmp_path: Path) -> None:
    make_own(tmp_path / "o.zarr")
    stack = open_stack(tmp_path / "o.zarr")
    for call in (stack.xy, stack.columns):
        with pytest.raises(StoreError, match=r"no matrix\. End a branch with pool: \{mean: \{grid"):
            call()


# -- maps -------------------------------------------------------------------------------------------------------------


def test_a_map_behaves_as_the_array_it_is(stack: Stack, values: dict[str, Any]) -> None:
    one, expected = stack["texture/scale1"], values["texture/scale1"]
    assert (one.shape, str(one.dtype), one.ndim, len(one)) == (expected.shape, "float32", 4, N)
    assert (one.chunks, one.shards, one.nbytes) == ((1, 3, 5, 6), (3, 6, 5, 6), expected.nbytes)
    assert isinstance(one.zarr, zarr.Array)
    np.testing.assert_array_equal(np.asarray(one), expected)
    assert np.asarray(one, np.float64).dtype == np.float64
    assert one.features[0] == "gabor frequency=0.1 orientation=0 channel=red"
    assert one.labels == GABOR
    assert (one.y.tolist(), one.x.tolist()) == ([1, 3, 5, 7], [1, 3, 5, 7, 9])
    assert one.attrs["window"]["x"]["size"] == 9
    assert repr(one) == "<FeatureMap texture/scale1: image 7, y 4, x 5, feature 6; float32>"
    with pytest.raises(ValueError, match="copy"):
        np.array(one, copy=False)


KEYS = [
    np.s_[2],
    np.s_[1:4],
    np.s_[..., 2],
    np.s_[..., -1],
    np.s_[0, ..., 1:3],
    np.s_[:, 1, 2, :],
    np.s_[1:3, ..., ::-1],
    np.s_[..., [2, 0]],
    np.s_[[0, 4]],
    np.s_[[0, 4], 1],
    np.s_[np.arange(N) > 4],
    np.s_[2, 1, 0, 1],
    np.s_[-1, :, -2],
    np.s_[..., 0:0],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("chosen", [False, True])
def test_indexing_a_map_equals_indexing_numpy(stack: Stack, values: dict[str, Any], key: Any, chosen: bool) -> None:
    expected = values["texture/scale1"]
    if chosen:
        stack, expected = stack.select(channel="red"), expected[..., [0, 1, 4]]
    got = stack["texture/scale1"][key]
    assert np.shape(got) == expected[key].shape
    np.testing.assert_array_equal(got, expected[key])


def test_lists_on_several_axes_choose_from_each(stack: Stack, values: dict[str, Any]) -> None:
    expected = values["texture/scale1"][np.ix_([0, 2], [1, 3], range(5), [4, 1])]
    np.testing.assert_array_equal(stack["texture/scale1"][[0, 2], [1, 3], :, [4, 1]], expected)


@pytest.mark.parametrize(
    "key", [np.s_[0, 0, 0, 0, 0], np.s_[..., 0, ...], np.s_[None], np.s_[99], np.s_[..., 6]], ids=str
)
def test_an_index_beyond_the_map_is_an_index_error(stack: Stack, key: Any) -> None:
    with pytest.raises(IndexError):
        stack["texture/scale1"][key]


def test_dask_reads_lazily_a_chunk_per_shard(stack: Stack, values: dict[str, Any]) -> None:
    lazy = stack["texture/scale1"].dask()
    assert lazy.chunks[0] == (3, 3, 1)
    np.testing.assert_array_equal(lazy.compute(), values["texture/scale1"])
    chosen = stack.select(orientation=45)["texture/scale1"].dask()
    np.testing.assert_array_equal(chosen.compute(), values["texture/scale1"][..., [1, 3]])


def test_a_mistyped_map_is_answered_with_the_nearest(stack: Stack) -> None:
    with pytest.raises(StoreError, match=r"has no map 'texture/scale3'\. Did you mean texture/scale1\?"):
        stack["texture/scale3"]
    with pytest.raises(StoreError, match=r"There are texture/scale1, corners/kept/scale2\."):
        stack["texture"]
    with pytest.raises(StoreError, match=r"There are texture/scale1, corners/kept/scale2\."):
        stack["zzz"]
    with pytest.raises(StoreError, match="has no map 0"):
        stack[0]  # type: ignore[index]
    with pytest.raises(StoreError, match=r"stacks its maps.*stack\[\"texture/scale1\"\]\[2\]"):
        stack.image(2)
    with pytest.raises(StoreError, match="the maps are stacked"):
        stack["images/2/texture/scale1"]


def test_each_images_own_maps_are_found_by_its_number(tmp_path: Path) -> None:
    values = make_own(tmp_path / "o.zarr")
    stack = open_stack(tmp_path / "o.zarr")
    for image, expected in values.items():
        one = stack.image(image)["own/scale1"]
        assert isinstance(one, FeatureMap)
        np.testing.assert_array_equal(one[...], expected)
        np.testing.assert_array_equal(stack[f"images/{image}/own/scale1"][1:, ..., 2], expected[1:, ..., 2])
        np.testing.assert_array_equal(one.y, own_array(image).y)
    np.testing.assert_array_equal(stack.image(-1)["own/scale1"][...], values[N - 1])
    np.testing.assert_array_equal(stack.image(stack.paths[N - 1])["own/scale1"][...], values[N - 1])
    chosen = stack.select(sigma=2, polarity=-1)
    np.testing.assert_array_equal(chosen.image(5)["own/scale1"][...], values[5][..., [3]])
    assert chosen.image(5)["own/scale1"].columns()[4] == {
        "map": "images/5/own/scale1", "y": 1, "x": 0, "bank": "log", "sigma": 2.0, "polarity": -1
    }  # fmt: skip
    with pytest.raises(StoreError, match=r'Use stack\.image\(n\)\["own/scale1"\]'):
        stack["own/scale1"]
    with pytest.raises(StoreError, match="no such image, or it cannot be read"):
        stack.image(BAD)
    with pytest.raises(StoreError, match=r"has no image 'nosuch\.png'"):
        stack.image("nosuch.png")
    with pytest.raises(StoreError, match=r"has no image 7\. There are 7, from 0"):
        stack.image(7)


# -- select -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "texture", "corners"),
    [
        ({"orientation": 45}, [1, 3], []),
        ({"frequency": 0.3}, [2, 3], []),
        ({"frequency": [0.1, 0.3], "orientation": 0.0}, [0, 2], []),
        ({"frequency": np.array([0.1])}, [0, 1], []),
        ({"channel": ["red", "green"]}, [0, 1, 2, 3, 4], []),
        ({"bank": "log"}, [], [0, 1, 2, 3]),
        ({"bank": ["log", "plain box"]}, [4, 5], [0, 1, 2, 3]),
        ({"polarity": -1}, [], [1, 3]),
        ({"size": 5}, [5], []),
        ({"branch": "texture"}, [0, 1, 2, 3, 4, 5], []),
        ({"scale": [2, 4]}, [], [0, 1, 2, 3]),
        ({"map": "corners/kept/scale2", "sigma": 1}, [], [0, 1]),
    ],
)
def test_selecting_equals_indexing_numpy(
    stack: Stack, values: dict[str, Any], labels: dict[str, Any], texture: list[int], corners: list[int]
) -> None:
    chosen = stack.select(**labels)
    wanted = dict(zip(NAMES, (texture, corners), strict=True))
    assert chosen.maps == tuple(name for name in NAMES if wanted[name])
    parts = [values[name][TRAIN][..., wanted[name]].reshape(len(TRAIN), -1) for name in chosen.maps]
    X, _ = chosen.xy("train")
    np.testing.assert_array_equal(X, np.concatenate(parts, axis=1))
    assert len(chosen.columns()) == X.shape[1]
    for name in chosen:
        np.testing.assert_array_equal(np.asarray(chosen[name]), values[name][..., wanted[name]])
        assert len(chosen[name].features) == len(chosen[name].labels) == len(wanted[name])
    assert stack.maps == NAMES


def test_selections_narrow_one_another(stack: Stack, values: dict[str, Any]) -> None:
    chosen = stack.select(channel="green").select(orientation=45)
    np.testing.assert_array_equal(chosen["texture/scale1"][...], values["texture/scale1"][..., [3]])
    assert "corners/kept/scale2" not in chosen
    with pytest.raises(StoreError, match="has no map 'corners/kept/scale2'"):
        chosen["corners/kept/scale2"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"orientaton": 0}, r"no feature carries the label 'orientaton'\. Did you mean orientation\?"),
        ({"zzz": 0}, "The labels are bank, frequency, orientation, channel, size, sigma, polarity"),
        ({"orientation": 30}, r"has no orientation 30\. There is orientation 0\.0, 45\.0\."),
        ({"channel": "gren"}, r"has no channel 'gren'\. Did you mean green\? There are red, green\."),
        ({"orientation": 0, "size": 3}, "no feature has orientation=0, size=3 at once"),
        ({"branch": "texure"}, r"has no branch 'texure'\. Did you mean texture\?"),
        ({"scale": 8}, r"has no scale 8\. There is scale 1, 2\."),
        ({"branch": "texture", "scale": 2}, r"has no scale 2\. There is scale 1\."),
    ],
)
def test_a_selection_of_nothing_tells_what_there_is(stack: Stack, labels: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        stack.select(**labels)


# -- facts ------------------------------------------------------------------------------------------------------------


def test_the_stack_knows_its_images(stack: Stack) -> None:
    assert stack.n == N
    assert list(stack.paths) == list(make_collection().paths)
    assert isinstance(stack.paths[0], str)
    assert (stack.classes, stack.split_names) == (("cat", "tabby"), ("train", "test"))
    assert stack.labels.tolist() == [i % 2 for i in range(N)]
    assert stack.splits.tolist() == [int(i % 3 == 0) for i in range(N)]
    assert np.flatnonzero(~stack.ok).tolist() == [BAD]
    assert stack.failures == {"class 0/4.png": "truncated"}
    assert stack.status == "complete"
    assert stack.pipeline == attributes()["pipeline"]
    assert repr(stack).splitlines()[0].endswith("a.zarr: 7 images, 2 classes, complete>")


def test_info_is_plain_data(stack: Stack, folder: Path, tmp_path: Path) -> None:
    info = json.loads(json.dumps(stack.info()))
    assert (info["images"], info["ok"], info["status"], info["format"]) == (7, 6, "complete", 1)
    assert info["classes"] == {"cat": 4, "tabby": 3}
    assert info["splits"] == {"train": 4, "test": 3}
    assert info["digests"] == DIGESTS
    texture = info["maps"][0]
    assert (texture["shape"], texture["dtype"], texture["bytes"]) == ([7, 4, 5, 6], "float32", 7 * 4 * 5 * 6 * 4)
    assert texture["labels"]["orientation"] == [0.0, 45.0]
    assert texture["window"]["y"]["size"] == 9
    on_disk = sum(file.stat().st_size for file in (folder / "a.zarr").rglob("*") if file.is_file())
    assert info["stored_bytes"] == on_disk
    make_own(tmp_path / "o.zarr")
    own = json.loads(json.dumps(open_stack(tmp_path / "o.zarr").info()))["maps"][0]
    assert own["stacked"] is False
    assert own["features"] == 4
    assert "shape" not in own


def test_xarray_gets_labels_as_text_and_reads_when_asked(stack: Stack, values: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    tree = stack.to_xarray()
    data = tree["texture/scale1"].to_dataset()
    assert data.bank.values.tolist() == ["gabor"] * 4 + ["plain box"] * 2
    assert data.bank_code.values.tolist() == [0] * 4 + [1] * 2
    assert data.channel.values.tolist() == ["red", "red", "green", "green", "red", ""]
    assert tree["class_name"].values.tolist() == ["cat", "tabby"] * 3 + ["cat"]
    assert tree["label"].values.tolist() == [i % 2 for i in range(N)]
    assert tree["split_name"].values.tolist()[:2] == ["test", "train"]
    shard = Path(stack.path) / "texture/scale1/features/c/0/0/0/0"
    shard.rename(tmp_path / "aside")
    assert np.isnan(data.features[:3].values).all()  # so nothing had been read before
    (tmp_path / "aside").rename(shard)
    red = stack.select(channel="red").to_xarray()["texture/scale1"]
    np.testing.assert_array_equal(red["features"].values, values["texture/scale1"][..., [0, 1, 4]])
    assert red["size"].values.tolist()[2] == 3
    make_own(tmp_path / "o.zarr")
    assert open_stack(tmp_path / "o.zarr").to_xarray()["images/5/own/scale1/features"].shape == (8, 4, 4)


@pytest.mark.parametrize(("engine", "package"), [("h5netcdf", "h5netcdf"), ("netcdf4", "netCDF4")])
def test_xarray_writes_the_whole_tree_as_netcdf(
    engine: str, package: str, stack: Stack, values: dict[str, Any], tmp_path: Path
) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip(package)
    tree = stack.to_xarray()
    tree.to_netcdf(tmp_path / "a.nc", engine=engine)
    with xarray.open_datatree(tmp_path / "a.nc", engine=engine) as found:
        data = found["texture/scale1"]
        np.testing.assert_array_equal(data["features"].values, values["texture/scale1"])
        assert data["channel"].values.tolist() == ["red", "red", "green", "green", "red", ""]
        assert found["class_name"].values.tolist() == ["cat", "tabby"] * 3 + ["cat"]
        assert found["path"].values.tolist() == stack.paths.tolist()
        assert json.loads(found.attrs["featpipe"])["pipeline"] == stack.pipeline
        window = json.loads(data.attrs["window"]) if "window" in data.attrs else None
        assert window == stack["texture/scale1"].attrs["window"]


def test_attributes_of_a_tree_are_those_that_netcdf_has(stack: Stack) -> None:
    pytest.importorskip("xarray")
    for node in stack.to_xarray().subtree:
        for kept_ones in (node.attrs, *(node[name].attrs for name in node.variables)):
            for value in kept_ones.values():
                kept = value if isinstance(value, list) else [value]
                assert kept
                assert all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in kept)


def test_reading_needs_no_xarray_and_no_dask(stack: Stack) -> None:
    code = (
        "import sys; sys.modules['xarray'] = None; sys.modules['dask'] = None\n"
        "from featpipe.stack import open_stack; from featpipe.errors import StoreError\n"
        f"stack = open_stack({str(stack.path)!r}); stack.xy(); stack.info()\n"
        "try: stack.to_xarray()\n"
        "except StoreError as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == 'to_xarray: xarray is not installed. Install it with pip install "featpipe[xarray]".\n'


def test_what_is_not_a_feature_stack_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.zarr: there is no such file or directory\. Make it with featpipe run"):
        open_stack(tmp_path / "none.zarr")
    (tmp_path / "file").write_text("x")
    zarr.create_group(tmp_path / "other.zarr")
    for name in ("file", "other.zarr"):
        with pytest.raises(StoreError, match="is not a feature stack"):
            open_stack(str(tmp_path / name))
    make_stacked(tmp_path / "new.zarr")
    node = tmp_path / "new.zarr/zarr.json"
    node.write_text(node.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match=r"is of format 2; this featpipe reads format 1\. Upgrade featpipe"):
        open_stack(tmp_path / "new.zarr")
