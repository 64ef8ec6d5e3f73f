"""Every layer's map of one image, and what each of its values is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import featpipe
from featpipe.errors import ImageError, PlanError, SourceError
from featpipe.images.values import channel_names
from featpipe.kernels.combining import OUTPUTS, combine
from featpipe.plan.program import (
    ROOT,
    ActivateOp,
    CombineOp,
    ConvolveOp,
    DistanceOp,
    FoldOp,
    GridOp,
    LocallyConnectedOp,
    LocalOp,
    PoolOp,
    Program,
    StandardiseOp,
)
from featpipe.plan.resolve import make_program
from featpipe.spec.load import parse_pipeline
from featpipe.trace import Terms, explain, read_example, seen, single, trace
from tests.strategies import branches

STATISTIC: dict[str, Any] = {
    "max": np.max, "mean": np.mean, "min": np.min, "sum": np.sum, "std": np.std, "l2": lambda v: np.sqrt((v**2).sum()),
}  # fmt: skip


def program_of(features: dict[str, Any], channels: int = 1) -> Program:
    return make_program(parse_pipeline({"features": features}).features, channel_names(channels))


def value_from(op: Any, terms: Terms, feature: int) -> float | None:
    """Work out a value from its terms alone; None where the formula is longer than that."""
    values = terms.values.astype(np.float64)
    match op:
        case ConvolveOp() | LocallyConnectedOp():
            return float(terms.gain * terms.products.sum() + terms.bias)
        case PoolOp(by=by, bins=None) | GridOp(by=by, bins=None) | FoldOp(by=by):
            return float(STATISTIC[by](values))
        case PoolOp(bins=int(bins)) | GridOp(bins=int(bins)):
            there = np.outer(terms.rows >= 0, terms.columns >= 0)
            return float(np.count_nonzero(values[there][:, 0] == feature % bins))
        case ActivateOp(name="relu"):
            return float(max(0.0, values.item()))
        case ActivateOp(name="abs"):
            return float(abs(values.item()))
        case StandardiseOp(mean=mean, std=std):
            at = feature if len(mean) > 1 else 0
            return float((values.item() - mean[at]) / std[feature if len(std) > 1 else 0])
        case LocalOp(epsilon=epsilon):
            centre = values[values.shape[0] // 2, values.shape[1] // 2]
            return float(((centre - values.mean()) / np.sqrt(values.var() + epsilon)).item())
        case CombineOp(formula=formula, starts=starts, numbers=numbers):
            group, members = feature // OUTPUTS[formula], np.arange(values.size)
            own = numbers[starts[group] : starts[group + 1]]
            made = combine(terms.values[None], formula, np.array([0, values.size]), members, own)
            return float(made[0, 0, 0, feature % OUTPUTS[formula]])
    assert isinstance(op, ActivateOp | DistanceOp)
    return None


@settings(max_examples=60)
@given(branches(), st.integers(0, 10**6), st.booleans())
def test_a_value_is_what_its_terms_make(branch: dict[str, Any], seed: int, colour: bool) -> None:
    rng = np.random.default_rng(seed)
    channels = 3 if colour else 1
    image = rng.random((25, 31, channels)).astype(np.float32)
    try:
        program = program_of({"b": branch}, channels)
        maps = {ROOT: image, **dict(trace(program, image))}
    except PlanError:
        return
    for i, node in enumerate(program.nodes):
        rows, columns, features = maps[i].shape
        at, feature = (int(rng.integers(rows)), int(rng.integers(columns))), int(rng.integers(features))
        before = maps[node.parent]
        terms = explain(program, before, i, at, feature)
        wanted = value_from(node.op, terms, feature)
        if wanted is not None:
            weight = 1.0 if terms.weights is None else np.abs(terms.weights).sum()
            scale = float(np.abs(before).max() * weight * terms.gain)
            assert maps[i][(*at, feature)] == pytest.approx(wanted, rel=1e-4, abs=2e-6 * max(scale, 1e-3) + 1e-6)


@settings(max_examples=40)
@given(branches(), st.integers(0, 10**6))
def test_a_value_depends_on_the_pixels_that_it_sees_alone(branch: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((25, 31, 1)).astype(np.float32)
    try:
        program = program_of({"b": branch})
        maps = dict(trace(program, image))
    except PlanError:
        return
    node = len(program.nodes) - 1
    shapes = {ROOT: image.shape[:2], **{i: values.shape[:2] for i, values in maps.items()}}
    at = tuple(int(rng.integers(n)) for n in maps[node].shape[:2])
    y, x = seen(program, shapes, node, at)  # type: ignore[arg-type]
    if min(y.start, x.start) < 0 or y.stop > 25 or x.stop > 31:
        return  # mirrored padding brings other pixels in
    changed = rng.random(image.shape).astype(np.float32)
    changed[y.start : y.stop, x.start : x.stop] = image[y.start : y.stop, x.start : x.stop]
    again = dict(trace(program, changed))[node]
    np.testing.assert_array_equal(again[at], maps[node][at])


def test_a_trace_ends_in_what_extract_gives() -> None:
    layers = [{"convolve": {"bank": "gabor", "frequencies": [0.1, 0.2], "orientations": 3, "padding": "reflect"}},
              "modulus", {"pool": {"max": 2}}]  # fmt: skip
    data = {"features": {"b": {"scales": [1, 2], "layers": layers}}}
    image = np.random.default_rng(1).random((40, 50, 1)).astype(np.float32)
    program = program_of(data["features"])
    maps = dict(trace(program, image))
    assert sorted(maps) == list(range(len(program.nodes)))
    for output in program.outputs:
        np.testing.assert_array_equal(maps[output.node], featpipe.extract(image[None], data)[output.name][0])


@settings(max_examples=40)
@given(branches(), st.integers(0, 10**6))
def test_a_trace_goes_on_from_maps_that_are_known(branch: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((25, 31, 1)).astype(np.float32)
    try:
        program = program_of({"b": branch})
        maps = dict(trace(program, image))
    except PlanError:
        return
    first = int(rng.integers(len(maps) + 1))
    known = {node: maps[node] for node in range(first)}
    nothing = (
        np.full_like(image, np.nan) if all(program.nodes[i].parent != ROOT for i in range(first, len(maps))) else image
    )
    again = dict(trace(program, nothing, range(first, len(maps)), known))
    assert sorted(again) == list(range(first, len(maps)))
    for node, values in again.items():
        np.testing.assert_array_equal(values, maps[node])


def test_an_example_is_the_middle_of_a_large_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (90, 70), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = single(parse_pipeline({"images": {"path": str(tmp_path)}, "features": {"b": {"layers": [
        {"convolve": {"bank": "sobel"}}]}}}).images, tmp_path / "a.png")  # fmt: skip
    example = read_example(images, most=32)
    assert (example.name, example.origin, example.whole) == ("a.png", (29, 19), (90, 70))
    np.testing.assert_array_equal(example.pixels[..., 0], pixels[29:61, 19:51].astype(np.float32) / np.float32(255))
    assert read_example(images).pixels.shape == (90, 70, 1)


def test_an_example_is_the_first_image_that_can_be_read_or_the_one_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG no picture")
    for i, name in enumerate("bc"):
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / f"{name}.png")
    images = parse_pipeline({"images": {"path": str(tmp_path), "color": "gray", "size": 8}, "features": {"b": {
        "layers": [{"convolve": {"bank": "sobel"}}]}}}).images  # fmt: skip
    assert read_example(images).name == "b.png"
    assert read_example(images, 2).name == "c.png"
    with pytest.raises(ImageError, match=r"a\.png"):
        read_example(images, 0)
    with pytest.raises(SourceError, match=r"there is no image 3\. Use 0 to 2\."):
        read_example(images, 3)


def test_a_trace_computes_what_is_wanted_alone() -> None:
    program = program_of({"b": {"layers": [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": {"max": 2}}]}})
    image = np.random.default_rng(3).random((20, 20, 1)).astype(np.float32)
    everything = dict(trace(program, image))
    assert [node for node, _ in trace(program, image, {1})] == [1]
    np.testing.assert_array_equal(dict(trace(program, image, {2}))[2], everything[2])
