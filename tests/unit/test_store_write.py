from __future__ import annotations

import hashlib
import pickle
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featpipe.errors import StoreError
from featpipe.plan.model import ArrayPlan
from featpipe.plan.writing import write_overhead_bytes
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.shard import to_stored
from featpipe.store.write import StoreWriter
from tests.unit.store_examples import BAD, TEXTURE, N, attributes, draw, make_collection, texture_array

GROUP = "texture/scale1"


def make_empty(path: Path, array: ArrayPlan | None = None, dtype: str = "float32") -> StoreWriter:
    create_store(LocalPlace(path), [(TEXTURE, array or texture_array())], make_collection(), attributes(dtype))
    return StoreWriter(LocalPlace(path))


def read(path: Path) -> Any:
    return zarr.open_array(path / GROUP / "features", mode="r")[...]


def test_threads_write_different_shards_at_once(tmp_path: Path) -> None:
    array = texture_array(300)
    create_store(LocalPlace(tmp_path / "a.zarr"), [(TEXTURE, array)], make_collection(300), attributes())
    writer, values = StoreWriter(LocalPlace(tmp_path / "a.zarr")), draw(array)
    together = threading.Barrier(2)

    def write(half: int) -> None:
        together.wait()
        for start in range(3 * half, 300, 6):
            writer.write(GROUP, (slice(start, start + 3),), values[start : start + 3])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), values)


def test_a_writer_travels_to_other_processes(tmp_path: Path) -> None:
    writer = make_empty(tmp_path / "a.zarr")
    values = draw(texture_array())
    writer.write(GROUP, (slice(0, 3),), values[:3])
    pickle.loads(pickle.dumps(writer)).write(GROUP, (slice(3, 6),), values[3:6])
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[:6], values[:6])


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ((slice(1, 4),), r"texture/scale1: \[1:4\) on axis 0 is not whole shards of 3 on 7 samples"),
        ((slice(0, 2),), r"\[0:2\) on axis 0"),
        ((slice(6, 9),), r"\[6:9\) on axis 0"),
        ((slice(3, 3),), r"\[3:3\) on axis 0"),
        ((slice(-1, 7),), r"\[-1:7\) on axis 0"),
        ((slice(0, 3), slice(0, 2)), r"\[0:2\) on axis 1 is not whole shards of 6 on 4"),
    ],
)
def test_anything_but_whole_shards_is_refused(tmp_path: Path, region: tuple[slice, ...], said: str) -> None:
    writer = make_empty(tmp_path / "a.zarr")
    values = np.zeros(tuple(part.stop - part.start for part in region) + (4, 5, 6)[len(region) - 1 :], np.float32)
    with pytest.raises(StoreError, match=said):
        writer.write(GROUP, region, values)
    assert np.isnan(read(tmp_path / "a.zarr")).all()


def test_a_region_of_many_shards_is_cut_into_files(tmp_path: Path) -> None:
    writer, values = make_empty(tmp_path / "a.zarr"), draw(texture_array())
    written = writer.write(GROUP, (slice(3, 7),), values[3:7])
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[3:], values[3:])
    files = sorted(p.name for p in (tmp_path / "a.zarr" / GROUP / "features/c").iterdir())
    assert files == ["1", "2"]
    for shard in written:
        content = (tmp_path / "a.zarr" / shard.key).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_values_of_another_shape_are_refused(tmp_path: Path) -> None:
    writer = make_empty(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=r"shape \(3, 4, 5, 6\) was given values of shape \(1, 4, 5, 6\)"):
        writer.write(GROUP, (slice(0, 3),), np.zeros((1, 4, 5, 6), np.float32))
    with pytest.raises(StoreError, match="has no map texture/scale9"):
        writer.write("texture/scale9", (), np.zeros((1, 4, 5, 6), np.float32))


def test_half_precision_rounds_and_tells_when_values_are_too_large(tmp_path: Path) -> None:
    writer, values = make_empty(tmp_path / "a.zarr", dtype="float16"), draw(texture_array())
    values[0, 0, 0, :2] = np.inf, 65504
    writer.write(GROUP, (slice(0, 3),), values[:3])
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[:3], values[:3].astype(np.float16))
    values[3, 1, 2, 3:5] = -1e6, 7e4
    said = r"store\.dtype: 2 values lie beyond ±65504.*the largest is 1e\+06\. Use store\.dtype: float32"
    with pytest.raises(StoreError, match=said):
        writer.write(GROUP, (slice(3, 6),), values[3:6])
    with pytest.raises(StoreError, match=said):
        to_stored(values, "float16")
    assert [p.name for p in (tmp_path / "a.zarr" / GROUP / "features/c").rglob("*") if p.is_file()] == ["0"]


def test_values_are_read_only_to_the_writer(tmp_path: Path) -> None:
    writer, values = make_empty(tmp_path / "a.zarr"), draw(texture_array())
    values.flags.writeable = False
    writer.write(GROUP, (), values)


def test_a_disk_that_refuses_is_told_with_advice(tmp_path: Path) -> None:
    writer, values = make_empty(tmp_path / "a.zarr"), draw(texture_array())
    (tmp_path / "a.zarr" / GROUP / "features/c").write_text("a file where shards should go")
    with pytest.raises(StoreError, match=r"cannot be written: .*\. Check the permissions and the free space"):
        writer.write(GROUP, (slice(0, 3),), values[:3])


def test_finishing_marks_the_store_complete_and_sweeps_what_killed_writers_left(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    writer = make_empty(target)
    assert zarr.open_group(target, mode="r").attrs["featpipe"]["status"] == "partial"  # type: ignore[index, call-overload]
    writer.write(GROUP, (), draw(texture_array()))
    (target / GROUP / "features/c/0/0/0/0.77.partial").write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.finish({BAD: "no", 5: "neither"})
        root = zarr.open_group(target, mode="r")
    assert root.attrs["featpipe"]["status"] == "complete"  # type: ignore[index, call-overload]
    assert root.metadata.consolidated_metadata is not None
    assert np.flatnonzero(~np.asarray(root["ok"][...])).tolist() == [BAD, 5]  # type: ignore[index]
    assert not list(target.rglob("*.partial"))


def test_before_the_end_no_image_is_ok_but_those_that_are_said_to_be_there(tmp_path: Path) -> None:
    make_empty(tmp_path / "a.zarr")
    ok = zarr.open_group(tmp_path / "a.zarr", mode="r")["ok"]
    assert not np.asarray(ok[...]).any()  # type: ignore[index]
    there = np.arange(N) < 3
    create_store(LocalPlace(tmp_path / "a.zarr"), [(TEXTURE, texture_array())], make_collection(), attributes(), there)
    ok = zarr.open_group(tmp_path / "a.zarr", mode="r")["ok"]
    np.testing.assert_array_equal(np.asarray(ok[...]), there)  # type: ignore[index]


def big_array(shard: tuple[int, ...], chunk: tuple[int, ...]) -> ArrayPlan:
    y, x = np.arange(float(shard[1])), np.arange(float(shard[2]))
    return ArrayPlan(GROUP, shard, chunk, shard, y, x, relative=False)


def test_the_same_values_give_the_same_bytes_from_any_thread(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1, 600, 1000, 6), np.float32)
    array = big_array(values.shape, (1, 300, 1000, 6))
    writers = [make_empty(tmp_path / f"{name}.zarr", array) for name in "abc"]
    writers[0].write(GROUP, (), values)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda writer: writer.write(GROUP, (), values), writers[1:]))
    files = [tmp_path / f"{name}.zarr" / GROUP / "features/c/0/0/0/0" for name in "abc"]
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("chunk", [(2, 64, 64, 64), (1, 32, 32, 64), (1, 48, 64, 64)])
def test_writing_a_shard_takes_no_more_memory_than_planned(tmp_path: Path, dtype: str, chunk: tuple[int, ...]) -> None:
    wide = np.random.default_rng(0).random((16, 64, 64, 65), np.float32)
    values, shard = wide[..., 1:], (16, -(-64 // chunk[1]) * chunk[1], 64, 64)
    array = ArrayPlan(GROUP, values.shape, chunk, shard, np.arange(64.0), np.arange(64.0), relative=False)
    writer = make_empty(tmp_path / "first.zarr", array, dtype)
    writer.write(GROUP, (), values)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        writer.write(GROUP, (), values)
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    encoded = int(np.prod(chunk)) * np.dtype(dtype).itemsize
    copies = 2 if dtype == "float32" else 3
    assert encoded < taken < copies * encoded + 300_000 < write_overhead_bytes(values.size * np.dtype(dtype).itemsize)


def test_writing_a_shard_of_one_small_chunk_takes_no_more_memory_than_planned(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1, 256, 256, 6), np.float32)
    writer = make_empty(tmp_path / "first.zarr", big_array(values.shape, values.shape))
    tracemalloc.start()
    try:
        writer.write(GROUP, (), values)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values.nbytes < taken <= write_overhead_bytes(values.nbytes)
