from __future__ import annotations

import json
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec

from featpipe.errors import StoreError
from featpipe.plan.model import ArrayPlan, MapPlan
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.write import StoreWriter
from tests.unit.store_examples import GABOR, WINDOWS, Values, attributes, make_collection

GROUP = "own/scale1"
OWN = MapPlan(GROUP, "own", 1, 2, GABOR, WINDOWS, stacked=False, batched=False)
Axis = tuple[int, int, int]
axes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 20))
"""Chunk, chunks to a shard, length."""
dtypes = st.sampled_from(["float32", "float16"])


def make_store(path: Path, shape: tuple[int, ...], chunk: tuple[int, ...], shard: tuple[int, ...], dtype: str) -> Path:
    """Create an empty store of one map, and return where its array is."""
    y, x = np.arange(float(shape[0])), np.arange(float(shape[1]))
    array = ArrayPlan(GROUP, shape, chunk, shard, y, x, relative=False)
    create_store(LocalPlace(path), [(OWN, array)], make_collection(1), attributes(dtype))
    return path / GROUP / "features"


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Values:
    """Return smooth values, as features are, that compress."""
    values = np.cumsum(np.random.default_rng(seed).normal(size=shape), axis=0)
    return values.astype(dtype).astype(np.float32)


def read_chunks(file: Path, counts: tuple[int, ...]) -> dict[tuple[int, ...], bytes]:
    """Return the chunks of a shard, read by the letter of zarr's codec sharding_indexed."""
    content = file.read_bytes()
    size = 16 * int(np.prod(counts))
    index, checksum = content[-size - 4 : -4], content[-4:]
    assert struct.unpack("<I", checksum)[0] == crc32c(index)
    entries = zip(np.ndindex(*counts), struct.iter_unpack("<QQ", index), strict=True)
    return {at: content[o : o + n] for at, (o, n) in entries if (o, n) != (2**64 - 1, 2**64 - 1)}


def crc32c(content: bytes) -> int:
    """Return Castagnoli's checksum, bit by bit as RFC 3720 defines it."""
    remainder = 0xFFFFFFFF
    for byte in content:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def test_the_checksum_of_these_tests_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@settings(max_examples=40, deadline=None)
@given(y=axes, x=axes, feature=st.integers(1, 6), dtype=dtypes, layout=st.sampled_from(["C", "F", "strided"]))
def test_zarr_reads_what_was_written(y: Axis, x: Axis, feature: int, dtype: str, layout: str) -> None:
    shape, chunk = (y[2], x[2], 6), (y[0], x[0], feature)
    shard = (y[0] * y[1], x[0] * x[1], -(-6 // feature) * feature)
    values = draw(shape, dtype)
    as_given = np.repeat(values, 2, axis=1)[:, ::2] if layout == "strided" else np.asarray(values, order=layout)  # type: ignore[call-overload]
    with TemporaryDirectory() as folder:
        array = make_store(Path(folder, "a.zarr"), shape, chunk, shard, dtype)
        StoreWriter(LocalPlace(Path(folder, "a.zarr"))).write(GROUP, (), as_given)
        stored: Any = zarr.open_array(array, mode="r")
        np.testing.assert_array_equal(stored[...], values)
        part = np.s_[y[2] // 2 :, : x[2] // 2 + 1, 1:]
        np.testing.assert_array_equal(stored[part], values[part])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_chunks_are_those_that_zarr_writes(tmp_path: Path, dtype: str) -> None:
    shape, chunk, shard = (70, 75, 6), (16, 32, 6), (64, 64, 6)
    ours = make_store(tmp_path / "a.zarr", shape, chunk, shard, dtype)
    theirs = make_store(tmp_path / "b.zarr", shape, chunk, shard, dtype)
    values = draw(shape, dtype)
    StoreWriter(LocalPlace(tmp_path / "a.zarr")).write(GROUP, (), values)
    zarr.open_array(theirs, mode="r+")[...] = values.astype(dtype)
    assert sorted(p.name for p in ours.rglob("?")) == sorted(p.name for p in theirs.rglob("?"))
    for at in ("0/0", "0/1", "1/0", "1/1"):
        chunks = read_chunks(ours / "c" / at / "0", (4, 2, 1))
        assert chunks == read_chunks(theirs / "c" / at / "0", (4, 2, 1))
        # chunks that lie beyond the array are in no file
        assert len(chunks) == (4 if at[0] == "0" else 1) * (2 if at[2] == "0" else 1)


def test_a_shard_of_one_chunk_is_the_file_that_zarr_writes(tmp_path: Path) -> None:
    arrays = [make_store(tmp_path / name, (20, 9, 6), (16, 9, 6), (16, 9, 6), "float32") for name in "ab"]
    values = draw((20, 9, 6), "float32")
    StoreWriter(LocalPlace(tmp_path / "a")).write(GROUP, (), values)
    zarr.open_array(arrays[1], mode="r+")[...] = values
    for at in "01":
        assert (arrays[0] / "c" / at / "0/0").read_bytes() == (arrays[1] / "c" / at / "0/0").read_bytes()


def test_chunks_of_nothing_but_the_fill_value_are_written(tmp_path: Path) -> None:
    array = make_store(tmp_path / "a.zarr", (32, 32, 6), (16, 16, 6), (32, 32, 6), "float32")
    StoreWriter(LocalPlace(tmp_path / "a.zarr")).write(GROUP, (), np.full((32, 32, 6), np.nan, np.float32))
    assert len(read_chunks(array / "c/0/0/0", (2, 2, 1))) == 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tensorstore_reads_what_was_written(tmp_path: Path, dtype: str) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    array = make_store(tmp_path / "a.zarr", (70, 75, 6), (16, 32, 6), (64, 64, 6), dtype)
    values = draw((70, 75, 6), dtype)
    StoreWriter(LocalPlace(tmp_path / "a.zarr")).write(GROUP, (), values)
    place = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    np.testing.assert_array_equal(tensorstore.open(place, open=True).result().read().result(), values)


def test_a_shard_that_fails_leaves_the_one_before_it_and_nothing_else(tmp_path: Path) -> None:
    array = make_store(tmp_path / "a.zarr", (32, 32, 6), (16, 16, 6), (32, 32, 6), "float16")
    writer, values = StoreWriter(LocalPlace(tmp_path / "a.zarr")), draw((32, 32, 6), "float16")
    writer.write(GROUP, (), values)
    bad = values + 1
    bad[-1, -1, -1] = 1e9
    with pytest.raises(StoreError, match="1 values lie beyond"):
        writer.write(GROUP, (), bad)
    np.testing.assert_array_equal(zarr.open_array(array, mode="r")[...], values)
    assert [p.name for p in (array / "c").rglob("*") if p.is_file()] == ["0"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    array = make_store(tmp_path / "a.zarr", (256, 256, 6), (64, 64, 6), (256, 256, 6), "float32")
    writer = StoreWriter(LocalPlace(tmp_path / "a.zarr"))
    values = np.random.default_rng(0).random((256, 256, 6), np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_001, before[1]))  # in the midst of a chunk
    try:
        with pytest.raises(
            StoreError, match=r"own/scale1/features/c/0/0/0: cannot be written: .*\. Check the permissions"
        ):
            writer.write(GROUP, (), values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [p for p in array.rglob("*") if p.is_file() and p.name != "zarr.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, BloscCodec(typesize=4).to_dict()] * 2},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, BloscCodec(typesize=4).to_dict()]},
        {"location": "start"},
        {"index": [{"name": "bytes", "configuration": {"endian": "little"}}]},
    ],
)
def test_an_array_laid_out_otherwise_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    array = make_store(tmp_path / "a.zarr", (32, 32, 6), (16, 16, 6), (32, 32, 6), "float32")
    node = json.loads((array / "zarr.json").read_bytes())
    sharding = node["codecs"][0]["configuration"]
    sharding["index_location"] = change.get("location", sharding["index_location"])
    sharding["index_codecs"] = change.get("index", sharding["index_codecs"])
    node["codecs"] = change.get("codecs", node["codecs"])
    (array / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(StoreError, match=r"was not laid out by this featpipe\. Run with --overwrite"):
        StoreWriter(LocalPlace(tmp_path / "a.zarr")).write(GROUP, (), np.zeros((32, 32, 6), np.float32))
