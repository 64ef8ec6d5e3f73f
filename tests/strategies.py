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
def locals_(draw: st.DrawFn) -> dict[str, Any]:
    kernels = draw(st.integers(1, 3))
    drawn = {"fit": "random", "kernels": kernels, "size": draw(st.integers(1, 3)), "seed": draw(st.integers(0, 9))}
    bias = draw(st.sampled_from([0.5, [0.25, -1, 2][:kernels]]))
    return {"local": {"kernels": drawn, "stride": draw(pairs), "padding": draw(paddings(3)), "bias": bias}}


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
layers = st.one_of(convolutions(), banks(), locals_(), pools(), points, local)
smoothing: list[list[Any]] = [
    [],
    [{"convolve": {"bank": "box", "size": 2, "padding": "edge"}}],
    [{"pool": {"mean": 2}}],
    [{"save": "tensor"}],
]
second = {"bank": "gaussian-derivatives", "sigmas": [0.6, 1], "orders": [0, 1, 2], "padding": "reflect"}
combined = st.one_of(
    st.builds(
        lambda bank, between, then: [{"convolve": bank}, "products", *between, *then],
        st.sampled_from([{"bank": "scharr", "padding": "wrap"}, {"bank": "gaussian-gradient", "sigmas": 0.5}]),
        st.sampled_from(smoothing),
        st.sampled_from([[], ["eigenvalues"], ["eigenvalues", {"activate": "abs"}]]),
    ),
    st.builds(lambda then: [{"convolve": second}, then], st.sampled_from(["eigenvalues", {"bif": {"epsilon": 0.1}}])),
)
"""Layers that combine features which must have come from others."""


@st.composite
def histograms(draw: st.DrawFn, *, grid: bool | None = None) -> dict[str, Any]:
    layer = draw(pools() if grid is False else grids if grid else st.one_of(pools(), grids))["pool"]
    (by,) = [key for key in layer if key in STATISTICS]
    if "padding" in layer and draw(st.booleans()):
        layer["padding"]["mode"] = "zero"  # whose samples are in no bin
    return {"pool": {"histogram": layer.pop(by), "bins": draw(st.integers(1, 5)), **layer}}


@st.composite
def codes(draw: st.DrawFn) -> list[Any]:
    by = draw(st.sampled_from(["sign", "argmax", "digits"]))
    first = draw(convolutions())
    each = first["convolve"]["channels"] == "each"
    code: dict[str, Any] = {"over": draw(st.sampled_from(["kernel", "channel"] if each else ["kernel"])), "by": by}
    if by == "digits":
        code["base"] = draw(st.integers(2, 3))
    return [first, {"code": code}, *draw(st.lists(histograms(grid=False), max_size=1))]


@st.composite
def branches(draw: st.DrawFn, *, grid: bool | None = None, smooth: bool = False) -> dict[str, Any]:
    """A branch of about five layers; ``grid`` asks for (True) or excludes (False) grid pooling, ``smooth`` excludes
    layers that make much of the last bit: codes and histograms."""
    several = combined if smooth else st.one_of(combined, codes(), histograms(grid=False).map(lambda one: [one]))
    part = st.one_of(layers.map(lambda one: [one]), layers.map(lambda one: [one]), several)
    chain: list[Any] = []
    for layer in (layer for one in draw(st.lists(part, min_size=1, max_size=3)) for layer in one):
        if "save" not in layer or layer not in chain:  # a name saves one map
            chain.append(layer)
    if "save" in chain[-1]:
        chain.pop()
    if len(chain) > 1 and draw(st.booleans()):
        chain.insert(draw(st.integers(1, len(chain) - 1)), {"save": "early"})
    if grid or (grid is None and draw(st.booleans())):
        chain.append(draw(grids if smooth else st.one_of(grids, grids, histograms(grid=True))))
        if draw(st.booleans()):
            chain.append(draw(st.sampled_from([{"activate": "abs"}, {"pool": {"sum": 1}}])))
    scales = draw(st.sampled_from([[1], [1, 2], [2], [1, 4]]))
    return {"scales": scales, "layers": chain}
