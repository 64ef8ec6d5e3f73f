"""What the window algebra says is what the chain does."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from featpipe.chain.execute import run_whole
from featpipe.errors import FeatpipeError
from featpipe.geometry.axis import Span, Sweep, sources
from featpipe.geometry.window import Window
from featpipe.plan.check import shape_problems
from featpipe.plan.layout import positions
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import node_shapes
from featpipe.spec.load import parse_pipeline

windows = st.builds(Window, st.integers(1, 9), st.integers(1, 4), st.integers(-5, 5))
modes = st.sampled_from(["zero", "edge", "reflect", "symmetric", "wrap"])
sweeps = st.builds(
    Sweep, st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9), st.integers(0, 9), modes
)
steps = st.one_of(
    st.builds(
        lambda size, stride, dilation, padding: {
            "convolve": {
                "kernels": np.ones((1, *size)).tolist(),
                "stride": list(stride),
                "dilation": list(dilation),
                "padding": padding,
            }
        },
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.tuples(st.integers(1, 2), st.integers(1, 2)),
        st.sampled_from(["valid", "zero", 2]),
    ),
    st.builds(lambda size, stride: {"pool": {"sum": size, "stride": stride}}, st.integers(1, 3), st.integers(1, 3)),
)


@given(windows, windows, windows)
def test_following_windows_is_associative(a: Window, b: Window, c: Window) -> None:
    assert a.then(b).then(c) == a.then(b.then(c))


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(chain=st.lists(steps, min_size=1, max_size=4), scale=st.sampled_from([1, 2]), pixel=st.data())
def test_a_pixel_changes_the_outputs_whose_window_holds_it_and_no_others(
    chain: list[dict[str, Any]], scale: int, pixel: st.DataObject
) -> None:
    shape = (23, 19)
    program = make_program(
        parse_pipeline({"features": {"a": {"scales": [scale], "layers": chain}}}).features, ("gray",)
    )
    assume(not shape_problems(program, shape))
    output = program.outputs[0].node
    y, x = pixel.draw(st.integers(0, shape[0] - 1)), pixel.draw(st.integers(0, shape[1] - 1))
    image = np.zeros((1, *shape, 1), np.float32)
    image[0, y, x] = 1
    changed = run_whole(program, image)[output][0, ..., 0] != 0
    found = program.nodes[output].windows
    assert found is not None
    inside = []
    for axis, at in ((0, y), (1, x)):
        first = found[axis].offset + np.arange(changed.shape[axis]) * found[axis].stride
        inside.append((first <= at) & (at < first + found[axis].size))
    may = inside[0][:, None] & inside[1][None, :]
    interior = 4 * scale <= y < shape[0] - 4 * scale and 4 * scale <= x < shape[1] - 4 * scale
    if interior or scale == 1:  # the pyramid mirrors its edges
        assert not (changed & ~may).any()
    for axis in (0, 1):
        centres = positions(program, output, shape, axis, relative=False)
        first = found[axis].offset + np.arange(len(centres)) * found[axis].stride
        np.testing.assert_array_equal(centres, first + (found[axis].size - 1) / 2)


@given(chain=st.lists(steps, max_size=2), rows=st.integers(1, 4), cols=st.integers(1, 4))
def test_the_cells_of_a_grid_lie_where_their_samples_do(chain: list[Any], rows: int, cols: int) -> None:
    shape = (41, 38)
    layers = [*chain, {"pool": {"mean": {"grid": [rows, cols]}}}]
    try:
        program = make_program(parse_pipeline({"features": {"a": {"layers": layers}}}).features, ("gray",))
    except FeatpipeError:
        assume(False)
    assume(not shape_problems(program, shape))
    node = program.outputs[0].node
    parent = program.nodes[node].parent
    for axis, parts in ((0, rows), (1, cols)):
        above = positions(program, parent, shape, axis, relative=False)
        assert len(above) == node_shapes(program, shape)[parent][axis]
        want = [cell.mean() for cell in np.array_split(above, parts)]
        np.testing.assert_allclose(positions(program, node, shape, axis, relative=False), want)
        middle = (np.arange(parts) + 0.5) / parts
        np.testing.assert_allclose(positions(program, node, shape, axis, relative=True), middle)


@given(sweeps, st.integers(1, 40), st.data())
def test_a_read_holds_every_sample_its_outputs_copy_and_is_as_short_as_can_be(
    sweep: Sweep, n: int, data: st.DataObject
) -> None:
    length = sweep.length(n)
    assume(length >= 1)
    start = data.draw(st.integers(0, length - 1))
    out = Span(start, data.draw(st.integers(start + 1, length)))
    wanted = sweep.wanted(out)
    needed = sources(wanted, n, sweep.mode)
    needed = needed[needed >= 0]
    read = sweep.read(out, n)
    assert 0 <= read.start < read.stop <= n
    if len(needed):
        assert read == (needed.min(), needed.max() + 1)


@given(st.integers(1, 30), st.integers(0, 70), st.integers(0, 70), modes)
def test_padding_copies_what_numpys_pad_copies(n: int, before: int, after: int, mode: Any) -> None:
    name = {"zero": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric", "wrap": "wrap"}[mode]
    any_pad: Any = np.pad
    options = {"constant_values": -1} if mode == "zero" else {}
    want = any_pad(np.arange(n), (before, after), name, **options)
    np.testing.assert_array_equal(sources(Span(-before, n + after), n, mode), want)
