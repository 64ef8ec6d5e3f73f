"""The compiled loop equals the NumPy reference for any number of kernels and whatever follows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featpipe.chain.execute import run_whole
from featpipe.plan.resolve import make_program
from featpipe.spec.load import parse_pipeline
from tests.oracle import reference

RNG = np.random.default_rng(8)
KERNELS = RNG.normal(size=(70, 3, 4, 3)).astype(np.float32)
IMAGE = RNG.random((31, 45, 3), np.float32)
CHANNELS = ("red", "green", "blue")
SPLIT = {"activate": {"split": {"threshold": 0.4}}}


def check(layers: list[Any]) -> None:
    pipeline = parse_pipeline({"features": {"a": {"layers": layers}}})
    program = make_program(pipeline.features, CHANNELS)
    ((_, got),) = run_whole(program, IMAGE[None]).items()
    (want,) = reference(pipeline, IMAGE, CHANNELS).values()
    np.testing.assert_allclose(got[0], want, rtol=2e-4, atol=2e-5 * max(1.0, float(np.abs(want).max())))


def convolve(folder: Path, count: int, **options: Any) -> dict[str, Any]:
    np.save(folder / "kernels.npy", KERNELS[:count])
    return {"convolve": {"kernels": str(folder / "kernels.npy"), "channels": "sum", **options}}


@pytest.mark.parametrize("count", [*range(1, 20), 33, 48, 64, 70])
def test_any_number_of_kernels_equals_the_reference(count: int, tmp_path: Path) -> None:
    check([convolve(tmp_path, count, bias=0.5)])
    check([convolve(tmp_path, count, stride=2, padding="reflect"), {"activate": "relu"}, {"pool": {"mean": 2}}])


@pytest.mark.parametrize("count", [3, 64])
@pytest.mark.parametrize(
    "layers",
    [
        [SPLIT, {"pool": {"sum": 5, "stride": 3}}],
        [SPLIT, {"pool": {"mean": {"grid": [2, 3]}}}],
        [SPLIT, {"pool": {"max": 2}}],
        [{"activate": "relu"}, {"pool": {"max": {"grid": [3, 2]}}}],
        [{"activate": "relu"}, {"pool": {"min": 4}}],
        [{"pool": {"max": 3, "padding": {"widths": [[2, 1], [2, 2]]}}}],
        [{"pool": {"mean": 3, "stride": 1, "padding": {"widths": [[2, 0], [0, 2]]}}}],
        [{"pool": {"l2": [2, 5], "padding": "same"}}],
        [{"activate": "triangle"}, {"pool": {"sum": {"grid": [2, 2]}}}],
        [SPLIT, {"activate": "triangle"}, {"pool": {"mean": 3}}],
        [{"activate": "hard"}, {"pool": {"sum": {"grid": [2, 2]}}}],
        [{"activate": "nearest"}, {"pool": {"mean": 4}}],
    ],
    ids=str,
)
def test_whatever_follows_the_kernels_equals_the_reference(layers: list[Any], count: int, tmp_path: Path) -> None:
    check([convolve(tmp_path, count), *layers])
    check([convolve(tmp_path, count, contrast={"epsilon": 0.1}, bias=0.3), *layers])


@pytest.mark.parametrize("options", [{}, {"padding": "reflect", "stride": 2}, {"bias": 0.2}])
def test_filters_at_opposite_angles_equal_the_reference(options: dict[str, Any]) -> None:
    bank = {"bank": "gabor", "frequencies": [0.2, 0.3], "orientations": [30, 90, 150, 60], **options}
    check([{"convolve": bank}])
    check([{"convolve": {**bank, "contrast": {"epsilon": 0.05}}}, "modulus", {"pool": {"mean": 3}}])


@pytest.mark.parametrize("count", [1, 2, 32])
@pytest.mark.parametrize("name", ["hard", "nearest"])
def test_of_equal_features_the_first_wins(name: str, count: int, tmp_path: Path) -> None:
    np.save(tmp_path / "kernels.npy", np.concatenate([KERNELS[:count]] * 2))
    layers: list[Any] = [
        {"convolve": {"kernels": str(tmp_path / "kernels.npy"), "channels": "sum"}},
        {"activate": name},
    ]
    program = make_program(parse_pipeline({"features": {"a": {"layers": layers}}}).features, CHANNELS)
    ((_, got),) = run_whole(program, IMAGE[None]).items()
    assert (got[..., :count].sum(axis=-1) == 1).all()
    assert not got[..., count:].any()
