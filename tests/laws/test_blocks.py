"""Law 1: blockwise equals whole-image, bit for bit, for every op × padding × stride × dilation × scale × grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from featpipe.chain.execute import run_schedule, run_whole
from featpipe.chain.stream import stream_image
from featpipe.errors import FeatpipeError
from featpipe.geometry.axis import Span
from featpipe.geometry.grid import TILE
from featpipe.plan.check import shape_problems
from featpipe.plan.program import ROOT, Program
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import make_schedule, node_shapes
from featpipe.spec.load import parse_pipeline
from tests.oracle import reference
from tests.strategies import branches

SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def make_case(data: dict[str, Any], shape: tuple[int, int], channels: int, seed: int) -> tuple[Any, Program, Any]:
    """Return pipeline, program and a read-only image; gives up on chains that do not fit."""
    names = ("gray",) if channels == 1 else ("red", "green", "blue")
    try:
        pipeline = parse_pipeline({"features": data})
        program = make_program(pipeline.features, names)
    except FeatpipeError:
        assume(False)
    assume(not shape_problems(program, shape))
    assume(max(len(node.features) for node in program.nodes) < 200)
    image = np.random.default_rng(seed).random((*shape, channels), np.float32)
    image.flags.writeable = False
    return pipeline, program, image


cases = {
    "shape": st.tuples(st.integers(1, 40), st.integers(1, 40)),
    "channels": st.sampled_from([1, 3]),
    "seed": st.integers(0, 99),
}


@SETTINGS
@given(data=st.fixed_dictionaries({"a": branches(grid=False)}), draw=st.data(), **cases)
def test_any_block_of_any_chain_equals_the_same_part_of_the_whole(
    data: dict[str, Any], shape: tuple[int, int], channels: int, seed: int, draw: st.DataObject
) -> None:
    _, program, image = make_case(data, shape, channels, seed)
    whole = run_whole(program, image[None])
    shapes = node_shapes(program, shape)
    wants = {}
    for node in {output.node for output in program.outputs}:
        spans = []
        for axis in (0, 1):
            start = draw.draw(st.integers(0, shapes[node][axis] - 1))
            spans.append(Span(start, draw.draw(st.integers(start + 1, shapes[node][axis]))))
        wants[node] = (spans[0], spans[1])
    schedule = make_schedule(program, shape, wants)
    y, x = schedule.needs[ROOT]
    region = image[None, slice(*y), slice(*x)]
    for node, values in run_schedule(program, schedule, {ROOT: region}):
        y, x = wants[node]
        np.testing.assert_array_equal(values, whole[node][:, slice(*y), slice(*x)])


@SETTINGS
@given(data=st.fixed_dictionaries({"a": branches(smooth=True), "b": branches(smooth=True)}), **cases)
def test_every_chain_equals_the_numpy_reference(
    data: dict[str, Any], shape: tuple[int, int], channels: int, seed: int
) -> None:
    pipeline, program, image = make_case(data, shape, channels, seed)
    names = ("gray",) if channels == 1 else ("red", "green", "blue")
    expected = reference(pipeline, image, names)
    maps = run_whole(program, image[None])
    assert {output.name for output in program.outputs} == set(expected)
    for output in program.outputs:
        got, want = maps[output.node][0], expected[output.name]
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5 * max(1.0, float(np.abs(want).max())))


@SETTINGS
@given(
    data=st.fixed_dictionaries({"a": branches(grid=True)}),
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
    tiles=st.integers(1, 4),
    ahead=st.integers(0, 150),
)
def test_grid_pooling_streamed_in_any_pieces_equals_the_whole(
    data: dict[str, Any], shape: tuple[int, int], channels: int, seed: int, tiles: int, ahead: int
) -> None:
    for layer in list(data["a"]["layers"]):
        if isinstance(layer, dict) and "save" in layer:
            data["a"]["layers"].remove(layer)
    _, program, image = make_case(data, shape, channels, seed)
    nodes = {output.node for output in program.outputs}
    whole = run_whole(program, image[None])
    pieces = (TILE, tiles * TILE)

    def read(y: Span, x: Span) -> Any:
        return image[slice(*y), slice(*x)].copy()

    for node, values in stream_image(program, shape, nodes, pieces, read, ahead):
        np.testing.assert_array_equal(values, whole[node])


@pytest.mark.parametrize("by", ["mean", "sum", "l2", "std", "max", "min"])
@example(tiles=1)
@example(tiles=3)
@given(tiles=st.integers(1, 5))
@settings(max_examples=5)
def test_global_pooling_of_several_tiles_equals_the_whole_and_numpy(by: str, tiles: int) -> None:
    data = {"a": {"layers": [{"convolve": {"bank": "sobel", "padding": "reflect"}}, {"pool": {by: {"grid": [3, 2]}}}]}}
    pipeline, program, image = make_case(data, (150, 131), 1, 0)
    whole = run_whole(program, image[None])
    node = program.outputs[0].node
    streamed = dict(
        stream_image(program, (150, 131), {node}, (TILE, tiles * TILE), lambda y, x: image[slice(*y), slice(*x)])
    )
    np.testing.assert_array_equal(streamed[node], whole[node])
    want = reference(pipeline, image, ("gray",))["a/scale1"]
    np.testing.assert_allclose(whole[node][0], want, rtol=1e-5, atol=1e-6)


@SETTINGS
@given(data=st.fixed_dictionaries({"a": branches()}), images=st.integers(2, 40), **cases)
def test_a_batch_of_images_equals_its_images_one_by_one(
    data: dict[str, Any], shape: tuple[int, int], channels: int, seed: int, images: int
) -> None:
    _, program, _ = make_case(data, shape, channels, seed)
    assume(images * shape[0] * shape[1] < 20_000)
    batch = np.random.default_rng(seed).random((images, *shape, channels), np.float32)
    together = run_whole(program, batch)
    for n in (0, images - 1):
        for node, values in run_whole(program, batch[n : n + 1]).items():
            np.testing.assert_array_equal(values[0], together[node][n])
