"""Products, eigenvalues, basic image features, codes and histograms, beside scikit-image, SciPy and NumPy."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage as ndi

import featpipe
from featpipe.chain.execute import run_whole
from featpipe.errors import PlanError
from featpipe.images.scan import scan
from featpipe.kernels.combining import combine
from featpipe.plan.budget import Resources
from featpipe.plan.build import make_plan
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import make_schedule, node_shapes, peak_bytes, whole
from featpipe.spec.load import parse_pipeline

RNG = np.random.default_rng(0)
IMAGE = RNG.random((37, 45), np.float32)
DERIVATIVES = {"bank": "gaussian-derivatives", "orders": [0, 1, 2], "padding": "edge"}
KINDS = ["flat", "slope", "dark-blob", "light-blob", "dark-line", "light-line", "saddle"]


def features(image: npt.NDArray[Any], *layers: Any) -> npt.NDArray[np.float32]:
    """Return (y, x, k) of one (y, x) or (y, x, c) image, its values as they are."""
    pipeline = {"images": {"path": "nowhere", "values": "raw"}, "features": {"a": {"layers": list(layers)}}}
    values: npt.NDArray[np.float32] = featpipe.extract(image[None], pipeline)["a/scale1"][0]
    return values


def labels_of(*layers: Any, channels: tuple[str, ...] = ("gray",)) -> list[dict[str, Any]]:
    program = make_program(parse_pipeline({"features": {"a": {"layers": list(layers)}}}).features, channels)
    return list(program.features(program.outputs[0].node))


def refusal(*layers: Any, channels: tuple[str, ...] = ("gray",)) -> str:
    with pytest.raises(PlanError) as caught:
        labels_of(*layers, channels=channels)
    (problem,) = caught.value.problems
    return str(problem).removeprefix("features.a.layers")


def assert_close(got: npt.NDArray[Any], want: npt.NDArray[Any], tolerance: float = 1e-5) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * float(np.abs(want).max()))


# Products and eigenvalues


def test_smoothed_products_are_scikit_images_structure_tensor() -> None:
    feature = pytest.importorskip("skimage.feature")
    layers: list[Any] = [
        {"convolve": {"bank": "sobel", "padding": "edge"}},
        "products",
        {"convolve": {"bank": "gaussian", "sigmas": 1.5, "padding": "edge"}},
    ]
    tensor = feature.structure_tensor(IMAGE.astype(np.float64), sigma=1.5, mode="nearest", order="rc")
    ramp = features(np.tile(np.arange(9, dtype=np.float32), (9, 1)), layers[0])[4, 4, 1]
    scale = (ramp / 8) ** 2  # scikit-image's derivatives here are of [1 2 1] and [-1 0 1], 8 on a slope of 1
    assert_close(features(IMAGE, *layers), scale * np.stack(tensor, axis=-1))
    eigenvalues = np.moveaxis(feature.structure_tensor_eigenvalues(tensor), 0, -1)
    assert_close(features(IMAGE, *layers, "eigenvalues"), scale * eigenvalues)


def test_eigenvalues_of_second_derivatives_are_scikit_images() -> None:
    feature = pytest.importorskip("skimage.feature")
    image = IMAGE.astype(np.float64)
    hessian = [ndi.gaussian_filter(image, 1.5, order, mode="nearest") for order in ((2, 0), (1, 1), (0, 2))]
    got = features(IMAGE, {"convolve": {**DERIVATIVES, "sigmas": 1.5}}, "eigenvalues")
    assert_close(got, np.moveaxis(feature.hessian_matrix_eigvals(hessian), 0, -1))


def eigenvalues(matrices: list[tuple[float, float, float]]) -> npt.NDArray[np.float32]:
    block = np.array(matrices, np.float32)[None, None]
    starts, members = np.array([0, 3]), np.array([0, 1, 2])
    found: npt.NDArray[np.float32] = combine(block, "eigenvalues", starts, members, np.zeros(0))[0, 0]
    return found


def test_a_small_eigenvalue_beside_a_large_one_keeps_its_digits() -> None:
    matrices = [(1.0, 1e-4, 2e-8), (1e4, -1.0, 1e-4 + 1e-10), (-1.0, 1e-4, -2e-8), (3e30, 1e20, 1e12), (2.0, 0.0, 2.0)]
    exact = []
    with localcontext() as context:
        context.prec = 60
        for row in np.array(matrices, np.float32):
            yy, xy, xx = (Decimal(float(value)) for value in row)
            middle, radius = (yy + xx) / 2, (((yy - xx) / 2) ** 2 + xy**2).sqrt()
            exact.append([float(middle + radius), float(middle - radius)])
    np.testing.assert_allclose(eigenvalues(matrices), exact, rtol=2e-7)


def test_eigenvalues_of_nothing_are_nothing() -> None:
    np.testing.assert_array_equal(eigenvalues([(0, 0, 0), (0, -1, 0), (np.nan, 0, 0)])[:2], [[0, 0], [1, -1]])
    assert np.isnan(eigenvalues([(np.nan, 0, 0)])).all()


def test_products_and_eigenvalues_tell_their_labels() -> None:
    sobel = {"convolve": {"bank": "sobel"}}
    assert labels_of(sobel, "products", channels=("red", "green")) == [
        {"bank": "sobel", "component": part, "channel": channel}
        for channel in ("red", "green")
        for part in ("yy", "xy", "xx")
    ]
    assert labels_of(sobel, "products", "eigenvalues") == [
        {"bank": "sobel", "channel": "gray", "eigenvalue": one} for one in ("largest", "smallest")
    ]


def test_products_and_eigenvalues_of_all_derivatives_take_what_they_need() -> None:
    derivatives = {"convolve": {**DERIVATIVES, "sigmas": [1, 2]}}
    alone = {"convolve": {"bank": "gaussian-derivatives", "sigmas": [1, 2], "orders": [1], "padding": "edge"}}
    np.testing.assert_array_equal(features(IMAGE, derivatives, "products"), features(IMAGE, alone, "products"))
    assert [one["sigma"] for one in labels_of(derivatives, "eigenvalues")] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["products"], "[0].products: needs features with component y and x that share all other labels; no feature"),
        (
            [{"convolve": {"bank": "gabor", "frequencies": 0.2, "orientations": 1}}, "products"],
            "[1].products: needs features with component y and x that share all other labels; 'gabor frequency=0.2",
        ),
        (
            [{"convolve": {"bank": "sobel"}}, "eigenvalues"],
            "[1].eigenvalues: needs features with component yy, xy and xx that share all other labels; 'sobel channel",
        ),
        (
            [{"convolve": {"bank": "sobel"}}, "products", {"bif": {"epsilon": 0}}],
            "[2].bif: needs features with component value, y, x, yy, xy and xx that share all other labels; 'sobel",
        ),
        (
            [{"convolve": {**DERIVATIVES, "sigmas": 1}}, {"convolve": {"bank": "box"}}, {"bif": {"epsilon": 0}}],
            "[2].bif: needs the derivatives themselves and their sigma, and 'box size=3",
        ),
    ],
)
def test_features_that_are_not_derivatives_are_refused(layers: list[Any], words: str) -> None:
    assert refusal(*layers).startswith(words)


def test_a_refusal_says_what_there_is_and_where_the_layer_belongs() -> None:
    assert refusal({"convolve": {"bank": "sobel"}}, "eigenvalues").endswith(
        "'sobel channel=gray' has y, x. "
        "Put it after second derivatives, bank gaussian-derivatives with orders: [2], or after products."
    )


# Basic image features


def test_bif_scores_are_griffins_of_scipys_derivatives() -> None:
    orders = {"value": (0, 0), "y": (1, 0), "x": (0, 1), "yy": (2, 0), "xy": (1, 1), "xx": (0, 2)}
    sigmas, epsilon = [1.0, 2.5], 0.03
    got = features(IMAGE, {"convolve": {**DERIVATIVES, "sigmas": sigmas, "truncate": 6}}, {"bif": {"epsilon": epsilon}})
    want = []
    for sigma in sigmas:
        s = {
            name: sigma ** sum(order)
            * ndi.gaussian_filter(IMAGE.astype(np.float64), sigma, order, mode="nearest", truncate=6)
            for name, order in orders.items()
        }
        trace = s["yy"] + s["xx"]
        spread = np.hypot(s["yy"] - s["xx"], 2 * s["xy"])
        want += [epsilon * s["value"], 2 * np.hypot(s["y"], s["x"]), trace, -trace]
        want += [(spread + trace) * 2**-0.5, (spread - trace) * 2**-0.5, spread]
    assert_close(got, np.stack(want, axis=-1))


def test_each_kind_of_place_is_told() -> None:
    y, x = (np.indices((41, 41)) - 20).astype(np.float32)
    hill, ridge = np.exp(-(x**2 + y**2) / 50), np.exp(-((x - y) ** 2) / 100)
    pictures: dict[str, npt.NDArray[Any]] = {
        "flat": np.ones_like(x), "slope": 1 + y / 40 + x / 80, "dark-blob": 1 - hill, "light-blob": hill,
        "dark-line": 1 - ridge, "light-line": ridge, "saddle": x * y / 400 + 1,
    }  # fmt: skip
    layers = [
        {"convolve": {**DERIVATIVES, "sigmas": 4, "truncate": 6}},
        {"bif": {"epsilon": 1e-3}},
        {"code": {"over": "kind", "by": "argmax"}},
    ]
    told = {name: KINDS[int(features(picture, *layers)[20, 20, 0])] for name, picture in pictures.items()}
    assert told == {name: name for name in pictures}
    assert [one["kind"] for one in labels_of(*layers[:2])] == KINDS


# Codes


def test_the_code_of_signs_is_the_bits_of_numpys_packbits() -> None:
    image = RNG.normal(size=(11, 9, 8)).astype(np.float32)
    image[0, 0] = 0
    got = features(image, {"code": {"over": "channel", "by": "sign"}})
    np.testing.assert_array_equal(got, np.packbits(image > 0, axis=-1, bitorder="little"))


def test_argmax_and_digits_are_numpys() -> None:
    image = RNG.integers(0, 7, (11, 9, 5)).astype(np.float32)
    best = features(image, {"code": {"over": "channel", "by": "argmax"}})
    np.testing.assert_array_equal(best[..., 0], image.argmax(axis=-1))
    number = features(image, {"code": {"over": "channel", "by": "digits", "base": 7}})
    digits = tuple(np.moveaxis(image.astype(int), -1, 0))
    np.testing.assert_array_equal(number[..., 0], np.ravel_multi_index(digits, (7,) * 5, order="F"))


def test_codes_combine_what_shares_all_other_labels() -> None:
    bank = {"convolve": {"bank": "gaussian", "sigmas": [1, 2]}}
    channels = ("red", "green", "blue")
    assert labels_of(bank, {"code": {"over": "sigma", "by": "sign"}}, channels=channels) == [
        {"bank": "gaussian", "channel": channel} for channel in channels
    ]
    assert labels_of(bank, {"code": {"over": "channel", "by": "argmax"}}, channels=channels) == [
        {"bank": "gaussian", "sigma": sigma} for sigma in (1.0, 2.0)
    ]


def test_codes_that_float32_cannot_hold_are_refused() -> None:
    def bank(kernels: int) -> dict[str, Any]:
        return {"convolve": {"bank": {"fit": "random", "kernels": kernels, "size": 1}}}

    assert len(labels_of(bank(24), {"code": {"over": "kernel", "by": "sign"}})) == 1
    assert refusal(bank(25), {"code": {"over": "kernel", "by": "sign"}}) == (
        "[1].code.over: 25 features of base 2 make numbers up to 2^25; float32 is exact to 2^24. "
        "Use at most 24 features."
    )
    assert "Use at most 8 features." in refusal(bank(9), {"code": {"over": "kernel", "by": "digits", "base": 7}})
    assert len(labels_of(bank(30), {"code": {"over": "kernel", "by": "argmax"}})) == 1
    assert "no feature carries the label 'sigma'. Use one of" in refusal({"code": {"over": "sigma", "by": "sign"}})


# Histograms


def test_histograms_of_windows_and_cells_are_numpys_bincounts() -> None:
    image = RNG.integers(0, 6, (23, 31, 2)).astype(np.float32)

    def count(part: npt.NDArray[Any]) -> list[int]:
        return [int(n) for k in (0, 1) for n in np.bincount(part[..., k].astype(int).ravel(), minlength=6)[:4]]

    windows = features(image, {"pool": {"histogram": [5, 3], "stride": [4, 2], "bins": 4}})
    assert windows.shape == (5, 15, 8)
    for i in range(5):
        for j in range(15):
            assert windows[i, j].tolist() == count(image[4 * i : 4 * i + 5, 2 * j : 2 * j + 3])
    cells = features(image, {"pool": {"histogram": {"grid": [2, 3]}, "bins": 4}})
    for i, band in enumerate(np.array_split(image, 2, axis=0)):
        for j, cell in enumerate(np.array_split(band, 3, axis=1)):
            assert cells[i, j].tolist() == count(cell)
    assert features(image, {"pool": {"histogram": "global", "bins": 4}})[0, 0].tolist() == count(image)


def test_histograms_of_a_map_that_is_made_strip_by_strip_are_numpys() -> None:
    image = RNG.integers(-1, 3, (700, 300, 8)).astype(np.float32)
    got = features(image, {"activate": "abs"}, {"pool": {"histogram": 7, "stride": 5, "bins": 3, "padding": 3}})
    padded = np.pad(np.abs(image), ((3, 3), (3, 3), (0, 0)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(0, 1))[::5, ::5]
    want = np.stack([np.count_nonzero(windows == b, axis=(-2, -1)) for b in range(3)], axis=-1)
    np.testing.assert_array_equal(got, want.reshape(*got.shape))


def test_only_whole_numbers_from_0_to_the_last_bin_are_counted() -> None:
    image = np.array([[0, 1, 2, 3, -1, 0.5, 1.999, np.nan, np.inf, -np.inf, -0.0, 3e38]], np.float32)
    for over in ([1, 12], "global"):
        layers = [{"pool": {"histogram": over, "bins": 3}}]
        program = make_program(parse_pipeline({"features": {"a": {"layers": layers}}}).features, ("gray",))
        ((_, counts),) = run_whole(program, image[None, ..., None]).items()
        assert counts.ravel().tolist() == [2, 1, 1]


def test_zeros_of_padding_are_in_no_bin_and_mirrored_samples_are() -> None:
    image = np.zeros((3, 3), np.float32)
    for padding, corner in ((1, 4), ({"mode": "reflect", "widths": 1}, 9)):
        counts = features(image, {"pool": {"histogram": 3, "stride": 1, "bins": 2, "padding": padding}})
        assert counts[0, 0].tolist() == [corner, 0]
        assert counts[1, 1].tolist() == [9, 0]


def test_bins_are_the_last_label_feature_by_feature() -> None:
    layers = [{"pool": {"histogram": "global", "bins": 2}}]
    assert labels_of(*layers, channels=("red", "green")) == [
        {"channel": channel, "bin": b} for channel in ("red", "green") for b in (0, 1)
    ]
    assert labels_of(*layers, {"pool": {"histogram": 1, "bins": 1}})[1] == {"channel": "gray", "input_bin": 1, "bin": 0}
    many = {"convolve": {"bank": {"fit": "random", "kernels": 5, "size": 1}}}
    assert "5 features of 65536 bins each would be 327680 features. Use fewer;" in refusal(
        many, {"pool": {"histogram": 4, "bins": 65536}}
    )


@pytest.mark.parametrize("over", ["global", {"grid": [16, 16]}, 32])
@pytest.mark.parametrize("then", [[], [{"activate": "sqrt"}]])
def test_a_histogram_holds_no_map_of_its_bins_and_what_it_holds_is_planned(over: Any, then: list[Any]) -> None:
    layers = [{"code": {"over": "channel", "by": "sign"}}, {"pool": {"histogram": over, "bins": 4096}}, *then]
    program = make_program(parse_pipeline({"features": {"a": {"layers": layers}}}).features, tuple("abcdefghijkl"))
    image = RNG.normal(size=(1, 256, 192, 12)).astype(np.float32)
    node, shapes = program.outputs[0].node, node_shapes(program, (256, 192))
    planned = peak_bytes(program, make_schedule(program, (256, 192), {node: whole(shapes[node])}), 1)
    run_whole(program, image)
    tracemalloc.start()
    run_whole(program, image)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held + image.nbytes <= sum(planned.values()) < 40 << 20  # one number a bin and pixel would be 768 MiB


def test_a_plan_shows_what_histograms_cost(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((6, 64, 48), np.uint8))

    def plan(size: int, bins: int) -> Any:
        pool = {"histogram": size, "stride": 4, "bins": bins, "padding": {"widths": size // 2}}
        layers = [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": pool}]
        data = {"images": {"path": str(tmp_path / "images.npy")}, "features": {"a": {"layers": layers}}}
        pipeline = parse_pipeline(data)
        return make_plan(pipeline, scan(pipeline.images), Resources(1 << 30, 1, 100 << 20))

    small, wide, deep = plan(4, 8), plan(8, 8), plan(4, 800)
    assert wide.flops > small.flops == deep.flops
    assert small.seconds < wide.seconds
    assert small.seconds < deep.seconds
    assert deep.output_bytes == 100 * small.output_bytes
    assert deep.memory.task > small.memory.task
