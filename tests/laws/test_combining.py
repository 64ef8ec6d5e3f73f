"""Codes and histograms of whole numbers, which float32 holds exactly, equal the NumPy reference to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from featpipe.chain.execute import run_whole
from featpipe.chain.stream import stream_image
from featpipe.geometry.grid import TILE
from featpipe.plan.check import shape_problems
from featpipe.plan.resolve import make_program
from featpipe.spec.load import parse_pipeline
from tests.oracle import reference
from tests.strategies import histograms, pairs

SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
KERNELS = np.random.default_rng(3).integers(-2, 3, (3, 2, 3)).tolist()
convolutions = st.builds(
    lambda stride, padding, channels: {
        "convolve": {"kernels": KERNELS, "stride": stride, "padding": padding, "channels": channels}
    },
    pairs,
    st.sampled_from(["valid", "same", "reflect", 2]),
    st.sampled_from(["each", "sum"]),
)
codes = st.builds(
    lambda over, by: {"code": {"over": over, "by": by, **({"base": 5} if by == "digits" else {})}},
    st.sampled_from(["kernel", "channel"]),
    st.sampled_from(["sign", "argmax", "digits"]),
)
chains = st.builds(
    lambda convolve, between, code, pool: [*convolve, *between, *code, *pool],
    st.lists(convolutions, max_size=1),
    st.sampled_from([[], [{"activate": "abs"}], [{"pool": {"max": 2}}]]),
    st.lists(codes, max_size=1),
    st.lists(histograms(), max_size=2),
).filter(bool)


def make_case(layers: list[Any], shape: tuple[int, int], seed: int) -> Any:
    pipeline = parse_pipeline({"features": {"a": {"layers": layers}}})
    has_kernels = "convolve" in layers[0]
    codes = [layer["code"] for layer in layers if "code" in layer]
    assume(has_kernels or not any(code["over"] == "kernel" for code in codes))
    convolved = has_kernels and layers[0]["convolve"]["channels"] == "sum"
    assume(not convolved or not any(code["over"] == "channel" for code in codes))
    program = make_program(pipeline.features, ("red", "green"))
    assume(not shape_problems(program, shape))
    image = np.random.default_rng(seed).integers(-1, 4, (*shape, 2)).astype(np.float32)
    image.flags.writeable = False
    return pipeline, program, image


@SETTINGS
@given(layers=chains, shape=st.tuples(st.integers(1, 80), st.integers(1, 80)), seed=st.integers(0, 99))
def test_codes_and_histograms_equal_the_numpy_reference(layers: list[Any], shape: tuple[int, int], seed: int) -> None:
    pipeline, program, image = make_case(layers, shape, seed)
    (want,) = reference(pipeline, image, ("red", "green")).values()
    np.testing.assert_array_equal(run_whole(program, image[None])[program.outputs[0].node][0], want)


@SETTINGS
@given(
    layers=chains,
    pool=histograms(grid=True),
    shape=st.tuples(st.integers(30, 120), st.integers(30, 120)),
    seed=st.integers(0, 99),
    tiles=st.integers(1, 4),
)
def test_histograms_of_cells_streamed_equal_the_numpy_reference(
    layers: list[Any], pool: dict[str, Any], shape: tuple[int, int], seed: int, tiles: int
) -> None:
    pipeline, program, image = make_case([*layers, pool], shape, seed)
    (want,) = reference(pipeline, image, ("red", "green")).values()
    node = program.outputs[0].node
    streamed = stream_image(
        program, shape, {node}, (TILE, tiles * TILE), lambda y, x: image[slice(*y), slice(*x)].copy()
    )
    ((_, got),) = streamed
    np.testing.assert_array_equal(got[0], want)
