"""Laws 2, 3, 4, 5 and 9: on real runs, from a file to a store."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from featpipe.chain.execute import run_whole
from featpipe.errors import FeatpipeError
from featpipe.graph import ThreadWorkers
from featpipe.images.reader import open_reader
from featpipe.plan.budget import Resources
from featpipe.plan.check import shape_problems
from featpipe.plan.layout import array_plans
from featpipe.plan.model import Plan
from featpipe.plan.resolve import make_program
from featpipe.run import plan_run, run_plan
from featpipe.spec.load import parse_pipeline
from featpipe.store.create import create_store
from featpipe.store.place import LocalPlace
from featpipe.store.shard import Shard
from featpipe.store.write import StoreWriter
from featpipe.task import Work
from tests.strategies import branches

SETTINGS = settings(
    max_examples=max(15, settings.default.max_examples // 6) if settings.default else 15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
ROOMY = Resources(memory_bytes=8 << 30, threads=1, base_bytes=0)
pieces = st.one_of(
    st.builds(lambda n: {"batch": n}, st.integers(1, 9)),
    st.builds(lambda y, x: {"block": [y, x]}, st.integers(1, 40), st.integers(1, 40)),
    st.builds(lambda n, y: {"batch": n, "block": y}, st.integers(1, 3), st.integers(1, 20)),
    st.just({}),
)


def make_pipeline(folder: Path, features: dict[str, Any], images: Any, store: dict[str, Any], name: str) -> Any:
    np.save(folder / "images.npy", images)
    data = {
        "images": {"path": str(folder / "images.npy")},
        "features": features,
        "store": {"path": str(folder / f"{name}.zarr"), **store},
    }
    try:
        return parse_pipeline(data)
    except FeatpipeError:
        assume(False)


def plan_or_reject(pipeline: Any, threads: int = 1) -> Plan:
    try:
        plan = plan_run(pipeline, Resources(ROOMY.memory_bytes, threads, 0))
    except FeatpipeError:
        assume(False)
    assume(sum(len(m.features) for m in plan.maps) < 60)
    return plan


def read_all(path: Path) -> dict[str, Any]:
    arrays = {}
    for name, member in zarr.open_group(path, mode="r").members(max_depth=None):
        if name.endswith("/features"):
            array: Any = member
            arrays[name] = array[...]
    return arrays


def draw_images(seed: int, count: int, shape: tuple[int, int]) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


@SETTINGS
@given(
    features=st.fixed_dictionaries({"a": branches(), "b": branches()}),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    count=st.integers(1, 7),
    one=pieces,
    other=pieces,
    threads=st.integers(1, 3),
)
def test_the_output_does_not_depend_on_batch_block_shard_or_thread_counts(
    features: Any, shape: tuple[int, int], count: int, one: Any, other: Any, threads: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), draw_images(0, count, shape)
        first = plan_or_reject(make_pipeline(folder, features, images, one, "one"))
        second = plan_or_reject(make_pipeline(folder, features, images, other, "other"), threads)
        assume(len(first.tasks) + len(second.tasks) < 120)
        run_plan(first)
        run_plan(second)
        left, right = read_all(folder / "one.zarr"), read_all(folder / "other.zarr")
        assert left.keys() == right.keys()
        for key, values in left.items():
            np.testing.assert_array_equal(values, right[key])
        maps = run_whole(first.program, images.astype(np.float32)[..., None] / np.float32(255))
        for a_map in first.maps:
            np.testing.assert_array_equal(left[f"{a_map.name}/features"], maps[a_map.node])


class RecordingWriter(StoreWriter):
    """A real writer that also notes what it was given."""

    def __init__(self, path: Path) -> None:
        super().__init__(LocalPlace(path))
        self.regions: list[tuple[str, tuple[slice, ...]]] = []

    def write(self, group: str, region: tuple[slice, ...], values: Any) -> list[Shard]:
        self.regions.append((group, region))
        return super().write(group, region, values)


@SETTINGS
@given(
    features=st.fixed_dictionaries({"a": branches()}),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    count=st.integers(1, 7),
    store=pieces,
)
def test_write_slices_tile_the_output_once_and_no_shard_has_two_writers(
    features: Any, shape: tuple[int, int], count: int, store: Any
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), draw_images(1, count, shape)
        plan = plan_or_reject(make_pipeline(folder, features, images, store, "out"))
        assume(len(plan.tasks) < 80)
        target = folder / "out.zarr"
        create_store(LocalPlace(target), ((plan.maps[i], a) for i, a in array_plans(plan)), plan.collection, {})
        writer = RecordingWriter(target)
        work = Work(plan, open_reader(plan.pipeline.images, plan.collection), writer)
        for task in plan.tasks:
            work.run(task.index)
        written = {array.group: np.zeros(array.shape, int) for _, array in array_plans(plan)}
        shards = {array.group: array.shard for _, array in array_plans(plan)}
        owners: set[tuple[str, tuple[int, ...]]] = set()
        for group, region in writer.regions:
            written[group][region] += 1
            for axis, (part, edge) in enumerate(zip(region, shards[group], strict=False)):
                assert part.start is None or part.start % edge == 0
                assert part.stop is None or part.stop % edge == 0 or part.stop == written[group].shape[axis]
            key = (group, tuple((part.start or 0) // edge for part, edge in zip(region, shards[group], strict=False)))
            assert key not in owners
            owners.add(key)
        for group, counts in written.items():
            assert (counts == 1).all(), group


@SETTINGS
@given(
    features=st.fixed_dictionaries({"a": branches()}),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    count=st.integers(1, 5),
    store=pieces,
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_the_plans_shapes_dtypes_and_bytes_are_the_runs(
    features: Any, shape: tuple[int, int], count: int, store: Any, dtype: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), draw_images(2, count, shape)
        plan = plan_or_reject(make_pipeline(folder, features, images, {**store, "dtype": dtype}, "out"))
        assume(len(plan.tasks) < 80)
        report = run_plan(plan)
        root = zarr.open_group(folder / "out.zarr", mode="r")
        total = 0
        for index, array in array_plans(plan):
            stored: Any = root[f"{array.group}/features"]
            assert stored.shape == array.shape
            assert stored.dtype == dtype
            assert (stored.shards or stored.chunks) == array.shard
            assert stored.shape[-1] == len(plan.maps[index].features)
            assert np.array_equal(np.asarray(root[f"{array.group}/y"][...]), array.y)  # type: ignore[index]
            total += stored.size * stored.dtype.itemsize
        assert total == plan.output_bytes == report.bytes_written
        assert report.tasks == len(plan.tasks)


def test_planning_and_sending_a_job_read_no_pixels(tmp_path: Path) -> None:
    from PIL import Image

    for i in range(5):
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_images(i, 1, (40, 40))[0]).save(path)
        head, pixels = path.read_bytes().split(b"IDAT")
        path.write_bytes(head + b"IDAT" + bytes(len(pixels) - 16) + pixels[-16:])  # whoever reads pixels now fails
    data = {
        "images": {"path": str(tmp_path / "images"), "color": "gray"},
        "features": {"a": {"layers": [{"convolve": {"bank": "sobel"}}]}},
        "store": {"path": str(tmp_path / "out.zarr"), "batch": 2},
    }
    plan = plan_run(parse_pipeline(data), ROOMY)
    writer = StoreWriter(LocalPlace(tmp_path / "out.zarr"))
    work = Work(plan, open_reader(plan.pipeline.images, plan.collection), writer)
    assert plan.collection.shape == (40, 40)
    assert pickle.dumps(work)
    assert len(plan.tasks) == 3
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("store", [{"batch": 2}, {"block": [16, 16]}])
def test_there_are_as_many_tasks_as_shards(tmp_path: Path, store: dict[str, Any]) -> None:
    features = {"a": {"layers": [{"convolve": {"bank": "sobel", "padding": "reflect"}}]}}
    pipeline = make_pipeline(tmp_path, features, draw_images(0, 5, (40, 40)), store, "out")
    plan = plan_run(pipeline, ROOMY)
    run_plan(plan)
    files = [p for p in (tmp_path / "out.zarr/a/scale1/features/c").rglob("*") if p.is_file()]
    assert len(files) == len(plan.tasks)


@SETTINGS
@given(
    features=st.fixed_dictionaries({"a": branches()}),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_kernels_never_change_their_input(features: Any, shape: tuple[int, int]) -> None:
    try:
        program = make_program(parse_pipeline({"features": features}).features, ("red", "green", "blue"))
    except FeatpipeError:
        assume(False)
    assume(not shape_problems(program, shape))
    image = np.random.default_rng(0).standard_normal((1, *shape, 3)).astype(np.float32)
    before = image.copy()
    run_whole(program, image)
    np.testing.assert_array_equal(image, before)
    image.flags.writeable = False
    run_whole(program, image)


def test_tasks_not_begun_are_left_out_once_the_run_is_stopped(tmp_path: Path) -> None:
    import threading

    class Job:
        def run(self, index: int) -> int:
            stop.set()
            return index

    stop = threading.Event()
    receipts: list[int] = []
    ThreadWorkers(1).run(Job(), range(50), receipts.append, stop)
    assert len(receipts) == 1
