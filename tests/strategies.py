"""Random pipelines that cover every op, padding, stride, dilation, scale and grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

MODES = ["zero", "edge", "reflect", "symmetric", "wrap"]
STATISTICS = ["max", "mean", "min", "sum", "l2", "std"]
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3)).map(list)


@st.composite
def paddings(draw: st.DrawFn, most: int = 7) -> Any:
    kind = draw(st.sampled_from(["valid", "same", "widths", "explicit"]))
    if kind == "valid":
        return "valid"
    if kind == "same":
        return draw(st.sampled_from(["same", *MODES]))
    widths = [[draw(st.integers(0, most)) for _ in range(2)] for _ in range(2)]
    return widths[0][0] if kind == "widths" else {"mode": draw(st.sampled_from(MODES)), "widths": widths}


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kernels = rng.integers(-8, 9, (draw(st.integers(1, 2)), rows, cols)) / 8
    if draw(st.booleans()):  # of low rank, so that two passes are cheaper than one
        rows, cols, rank = rows + 4, cols + 4, draw(st.integers(1, 2))
        down = rng.integers(-4, 5, (draw(st.integers(1, 3)), rows, rank))
        kernels = down @ rng.integers(-4, 5, (rank, cols)) / 32
    layer: dict[str, Any] = {
        "kernels": kernels.tolist(),
        "stride": draw(pairs),
        "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2)).map(list)),
        "padding": draw(paddings()),
        "flip": draw(st.booleans()),
        "bias": draw(st.sampled_from([0.0, 0.5])),
        "channels": draw(st.sampled_from(["each", "sum"])),
    }
    if draw(st.integers(0, 4)) == 0:
        layer["contrast"] = {"epsilon": 0.1}
    return {"convolve": layer}


@st.composite
def banks(draw: st.DrawFn) -> dict[str, Any]:
    bank: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"bank": "sobel"},
                {"bank": "gaussian", "sigmas": [0.6, 1.2]},
                {"bank": "log", "sigmas": [0.5, 1]},
                {"bank": {"fit": "random", "kernels": 6, "size": 3, "seed": 1}},
                {"bank": {"fit": "random", "kernels": 19, "size": 2, "seed": 2}},
            ]
        )
    )
    return {"convolve": {**bank, "padding": draw(paddings(3)), "stride": draw(pairs)}}


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(pairs)
    pool: dict[str, Any] = {draw(st.sampled_from(STATISTICS)): size}
    if draw(st.booleans()):
        pool["stride"] = draw(pairs)
    if min(size) > 1 and draw(st.booleans()):
        pool["padding"] = {"mode": draw(st.sampled_from(MODES)), "widths": draw(st.integers(0, min(size) - 1))}
    return {"pool": pool}


grids = st.builds(
    lambda by, grid: {"pool": {by: grid}},
    st.sampled_from(STATISTICS),
    st.one_of(st.just("global"), pairs.map(lambda pair: {"grid": pair})),
)
points = st.sampled_from(
    [
        {"activate": "relu"},
        {"activate": "abs"},
        {"activate": "square"},
        {"activate": "sqrt"},
        {"activate": "tanh"},
        {"activate": "sigmoid"},
        {"activate": "triangle"},
        {"activate": {"split": {"threshold": 0.1}}},
        {"activate": {"soft-threshold": {"threshold": 0.2}}},
        {"normalize": {"mean": 0.25, "std": 2}},
        {"reduce": {"over": "channel", "by": "max"}},
        {"reduce": {"over": "kernel", "by": "std"}},
        "modulus",
    ]
)
local = st.builds(
    lambda size, padding: {"normalize": {"local": {"size": size, "epsilon": 0.05, "padding": padding}}},
    st.sampled_from([1, 3, [3, 5]]),
    st.sampled_from(["valid", *MODES]),
)
layers = st.one_of(convolutions(), banks(), pools(), points, local)


@st.composite
def branches(draw: st.DrawFn, *, grid: bool | None = None) -> dict[str, Any]:
    """A branch of up to five layers; ``grid`` asks for (True) or excludes (False) grid pooling."""
    chain = draw(st.lists(layers, min_size=1, max_size=3))
    if len(chain) > 1 and draw(st.booleans()):
        chain.insert(draw(st.integers(1, len(chain) - 1)), {"save": "early"})
    if grid or (grid is None and draw(st.booleans())):
        chain.append(draw(grids))
        if draw(st.booleans()):
            chain.append(draw(st.sampled_from([{"activate": "abs"}, {"pool": {"sum": 1}}])))
    scales = draw(st.sampled_from([[1], [1, 2], [2], [1, 4]]))
    return {"scales": scales, "layers": chain}
