"""``featpipe.extract``: the features of a run, of arrays at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

import featpipe
from featpipe.report.plan import plan_facts
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.spec.load import parse_pipeline

FEATURES: dict[str, Any] = {
    "texture": {
        "scales": [1, 2],
        "layers": [
            {"convolve": {"bank": "sobel", "padding": "reflect"}},
            "modulus",
            {"save": "edges"},
            {"pool": {"max": 2}},
        ],
    },
    "whole": {"layers": [{"convolve": {"bank": "log", "sigmas": 1}}, {"pool": {"std": "global"}}]},
}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 21, 26, 3), np.uint8)


def test_extract_gives_what_a_run_stores(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    data = {
        "images": {"path": str(tmp_path / "images.npy"), "color": "gray", "size": [16, 18], "fit": "stretch"},
        "features": FEATURES,
        "store": {"path": str(tmp_path / "out.zarr"), "batch": 2},
    }
    run_plan(plan_run(parse_pipeline(data), default_resources()))
    stack = featpipe.open(tmp_path / "out.zarr")
    maps = featpipe.extract(IMAGES, data)
    assert (
        set(maps)
        == set(stack.maps)
        == {
            "texture/scale1",
            "texture/scale2",
            "texture/edges/scale1",
            "texture/edges/scale2",
            "whole/scale1",
        }
    )
    for name, values in maps.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, stack[name][:])


@pytest.mark.parametrize("chunks", [(2, 21, 26, 3), (5, 10, 13, 1)])
def test_a_dask_array_gives_lazy_dask_arrays_of_the_same_values(chunks: tuple[int, ...]) -> None:
    expected = featpipe.extract(IMAGES, {"features": FEATURES})

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("extract computed something")

    with dask.config.set(scheduler=refuse):
        lazy = featpipe.extract(da.from_array(IMAGES, chunks=chunks), {"features": FEATURES})
    for name, values in lazy.items():
        assert isinstance(values, da.Array)
        assert values.shape == expected[name].shape
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values.compute(), expected[name])


@pytest.mark.parametrize("store", [{"batch": 2}, {"block": [8, 8]}])
def test_the_image_itself_can_be_saved(tmp_path: Path, store: dict[str, Any]) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    layers = [{"save": "image"}, {"convolve": {"bank": "sobel"}}]
    data = {
        "images": {"path": str(tmp_path / "images.npy")},
        "features": {"a": {"scales": [1, 2], "layers": layers}},
        "store": {"path": str(tmp_path / "out.zarr"), **store},
    }
    plan = plan_run(parse_pipeline(data), default_resources())
    plan_facts(plan)
    run_plan(plan)
    stack = featpipe.open(tmp_path / "out.zarr")
    assert [labels["channel"] for labels in stack["a/image/scale1"].labels] == ["red", "green", "blue"]
    np.testing.assert_array_equal(stack["a/image/scale1"][:], IMAGES.astype(np.float32) / np.float32(255))
    for name, values in featpipe.extract(IMAGES, data).items():
        np.testing.assert_array_equal(values, stack[name][:])


def test_gray_images_need_no_channel_axis() -> None:
    gray = IMAGES[..., 0]
    maps = featpipe.extract(gray, {"features": FEATURES})
    same = featpipe.extract(gray[..., None], {"features": FEATURES})
    for name, values in maps.items():
        np.testing.assert_array_equal(values, same[name])


def test_integers_are_scaled_to_unit_and_floats_are_left() -> None:
    identity = {"features": {"a": {"layers": [{"convolve": {"bank": "identity", "padding": "zero"}}]}}}
    unit = featpipe.extract(IMAGES[..., 0], identity)["a/scale1"]
    np.testing.assert_array_equal(unit[..., 0], IMAGES[..., 0].astype(np.float32) / np.float32(255))
    floats = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(featpipe.extract(floats, identity)["a/scale1"][..., 0], floats)


def test_no_images_give_no_rows() -> None:
    assert all(len(values) == 0 for values in featpipe.extract(IMAGES[:0], {"features": FEATURES}).values())


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (IMAGES[0, :, :, 0], "2 axes"),
        (IMAGES.astype(complex), "complex128"),
        (IMAGES[:, :2, :2], "exceeds its"),
    ],
)
def test_an_array_that_does_not_suit_is_refused(array: Any, said: str) -> None:
    with pytest.raises(featpipe.FeatpipeError, match=said):
        featpipe.extract(array, {"features": FEATURES})


def test_nan_in_an_image_is_refused() -> None:
    array = IMAGES.astype(np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(featpipe.FeatpipeError, match="3 values that are NaN"):
        featpipe.extract(array, {"features": FEATURES})
