"""Every bank answers as scikit-image's or SciPy's filter does, under every boundary mode, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import TypeAdapter
from scipy import ndimage, stats
from skimage import filters

from featpipe.kernels.bank import Bank, feature_name
from featpipe.kernels.catalog import build_bank
from featpipe.spec.banks import BankField, BankSpec
from featpipe.spec.base import FROM_FILE

Array = npt.NDArray[np.float64]
MODES = ["constant", "nearest", "mirror", "reflect", "wrap"]
RISING = np.arange(7.0)
IMAGE = np.random.default_rng(7).random((23, 19))
IMAGE.flags.writeable = False


def spec_of(**bank: Any) -> BankSpec:
    """Read a bank as the pipeline file gives it."""
    spec: BankSpec = TypeAdapter(BankField).validate_python(bank, context=FROM_FILE)
    return spec


def bank_of(**bank: Any) -> Bank:
    return build_bank(spec_of(**bank), channels=1)


def weights_of(**bank: Any) -> list[Array]:
    return [kernel.weights for kernel in bank_of(**bank).kernels]


def answers(mode: str, **bank: Any) -> list[Array]:
    return [ndimage.correlate(IMAGE, weights, mode=mode) for weights in weights_of(**bank)]


def agree(found: list[Array], expected: list[Array]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * max(1.0, float(np.abs(other).max())))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt"])
def test_derivative_pairs_equal_scikit_image_sign_and_scale(name: str, mode: str) -> None:
    operator = getattr(filters, name)
    agree(answers(mode, bank=name), [operator(IMAGE, axis=axis, mode=mode) for axis in (0, 1)])


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt"])
def test_derivative_pairs_equal_the_named_functions_for_horizontal_and_vertical_edges(name: str) -> None:
    expected = [getattr(filters, f"{name}_{axis}")(IMAGE) for axis in "hv"]
    agree(answers("reflect", bank=name), expected)


def test_the_modulus_of_sobel_is_root_two_times_scikit_images() -> None:
    along_y, along_x = answers("reflect", bank="sobel")
    agree([np.hypot(along_y, along_x)], [np.sqrt(2) * filters.sobel(IMAGE)])


@pytest.mark.parametrize(("name", "factor"), [("sobel", 4), ("prewitt", 3)])
def test_derivative_pairs_are_scipys_but_for_a_factor(name: str, factor: int) -> None:
    operator = getattr(ndimage, name)
    agree(
        [factor * found for found in answers("mirror", bank=name)],
        [operator(IMAGE, axis, mode="mirror") for axis in (0, 1)],
    )


@pytest.mark.parametrize("mode", MODES)
def test_laplacian_equals_scipy(mode: str) -> None:
    agree(answers(mode, bank="laplacian"), [ndimage.laplace(IMAGE, mode=mode)])


def test_identity_sharpen_and_outline_are_made_of_the_image_its_laplacian_and_its_mean() -> None:
    agree(answers("wrap", bank="identity"), [IMAGE])
    agree(answers("wrap", bank="sharpen"), [IMAGE - ndimage.laplace(IMAGE, mode="wrap")])
    agree(answers("wrap", bank="outline"), [9 * (IMAGE - ndimage.uniform_filter(IMAGE, 3, mode="wrap"))])


def test_emboss_adds_the_slope_towards_the_lower_right_to_the_image() -> None:
    y, x = np.mgrid[:7, :7].astype(float)
    (weights,) = weights_of(bank="emboss")
    expected = 2 + 3 * y + 5 * x + 6 * 3 + 6 * 5
    agree([ndimage.correlate(2 + 3 * y + 5 * x, weights)[1:-1, 1:-1]], [expected[1:-1, 1:-1]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_box_equals_the_uniform_filter_of_odd_and_even_sizes(size: int, mode: str) -> None:
    agree(answers(mode, bank="box", size=size), [ndimage.uniform_filter(IMAGE, size, mode=mode)])


@pytest.mark.parametrize("size", [1, 2, 5, 8, 40])
def test_binomial_is_the_distribution_of_fair_coins(size: int) -> None:
    row = stats.binom.pmf(np.arange(size), size - 1, 0.5)
    agree(weights_of(bank="binomial", size=size), [np.outer(row, row)])


def test_binomial_of_five_is_burt_and_adelsons() -> None:
    row = np.array([1, 4, 6, 4, 1]) / 16
    assert np.array_equal(weights_of(bank="binomial")[0], np.outer(row, row))


SCALES = [(0.3, 4.0), (1.14, 4.0), (0.7, 4.0), (1.0, 4.0), (1.6, 2.5), (3.0, 3.0), (5.0, 4.0), (2.5, 0.7)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("sigma", "truncate"), SCALES)
def test_gaussians_equal_scipy(sigma: float, truncate: float, mode: str) -> None:
    """Also with kernels larger than the image, 41 taps over 23 × 19 samples."""
    given = {"sigmas": sigma, "truncate": truncate}
    how: dict[str, Any] = {"mode": mode, "truncate": truncate}
    gradient = answers(mode, bank="gaussian-gradient", **given)
    agree(answers(mode, bank="gaussian", **given), [ndimage.gaussian_filter(IMAGE, sigma, **how)])
    agree(gradient, [ndimage.gaussian_filter(IMAGE, sigma, order, **how) for order in [(1, 0), (0, 1)]])
    agree([np.hypot(*gradient)], [ndimage.gaussian_gradient_magnitude(IMAGE, sigma, **how)])
    agree(answers(mode, bank="log", **given), [ndimage.gaussian_laplace(IMAGE, sigma, **how)])
    wide = ndimage.gaussian_filter(IMAGE, 1.6 * sigma, **how)
    agree(answers(mode, bank="dog", **given), [ndimage.gaussian_filter(IMAGE, sigma, **how) - wide])


def test_dog_equals_scikit_image() -> None:
    expected = filters.difference_of_gaussians(IMAGE, 1.2, 2.4, mode="nearest")
    agree(answers("nearest", bank="dog", sigmas=1.2, ratio=2), [expected])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", [0, 22.5, 45, 90, 135, 200, -30])
@pytest.mark.parametrize(("frequency", "bandwidth", "n_stds"), [(0.12, 1, 3), (0.25, 1.5, 2.5), (0.5, 0.7, 3)])
def test_gabors_equal_scikit_image_in_size_sign_and_value(
    frequency: float, bandwidth: float, n_stds: float, orientation: float, mode: str
) -> None:
    given = {"bank": "gabor", "frequencies": frequency, "bandwidth": bandwidth, "n_stds": n_stds}
    how = {"theta": np.deg2rad(orientation), "bandwidth": bandwidth, "n_stds": n_stds}
    kernel = filters.gabor_kernel(frequency, **how)
    agree(weights_of(**given, orientations=[orientation]), [kernel.real, kernel.imag[::-1, ::-1]])
    expected = filters.gabor(IMAGE, frequency, mode=mode, **how)
    agree(answers(mode, **given, orientations=[orientation]), list(expected))


def test_a_gabor_answers_most_to_a_wave_of_its_orientation() -> None:
    """Orientation turns from +x towards +y, down: at 45° the wave rises to the lower right."""
    y, x = np.mgrid[:64, :64]
    wave = np.cos(2 * np.pi * 0.2 * (x + y) / np.sqrt(2))
    bank = bank_of(bank="gabor", frequencies=0.2, orientations=4)
    parts = [ndimage.correlate(wave, kernel.weights)[32, 32] for kernel in bank.kernels]
    strength = np.hypot(parts[0::2], parts[1::2])
    assert bank.kernels[2 * int(np.argmax(strength))].labels["orientation"] == 45


def test_the_modulus_of_a_gabor_does_not_see_the_phase() -> None:
    x = np.arange(80)
    even, odd = weights_of(bank="gabor", frequencies=0.25, orientations=[0])
    modulus = []
    for phase in (0.0, 1.0, 2.0):
        wave = np.broadcast_to(np.cos(2 * np.pi * 0.25 * x + phase), (80, 80))
        modulus.append(np.hypot(ndimage.correlate(wave, even)[40, 40], ndimage.correlate(wave, odd)[40, 40]))
    np.testing.assert_allclose(modulus, modulus[0], rtol=0.01)


SMOOTHING = [
    {"bank": "identity"},
    {"bank": "sharpen"},
    {"bank": "emboss"},
    {"bank": "box", "size": 6},
    {"bank": "binomial", "size": 9},
    {"bank": "gaussian", "sigmas": [0.4, 1, 6]},
]
DERIVING = [
    {"bank": "sobel"},
    {"bank": "scharr"},
    {"bank": "prewitt"},
    {"bank": "laplacian"},
    {"bank": "outline"},
    {"bank": "gaussian-gradient", "sigmas": [0.4, 1, 6]},
    {"bank": "dog", "sigmas": [0.4, 1, 6]},
]


@pytest.mark.parametrize("bank", SMOOTHING)
def test_smoothing_keeps_a_constant_image(bank: dict[str, Any]) -> None:
    for weights in weights_of(**bank):
        assert weights.sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("bank", DERIVING)
def test_derivatives_of_a_constant_image_are_zero(bank: dict[str, Any]) -> None:
    for weights in weights_of(**bank):
        assert weights.sum() == pytest.approx(0, abs=1e-14)


def test_log_of_a_constant_image_is_nearly_zero() -> None:
    """As SciPy's, which samples the second derivative without mending its sum."""
    for weights in weights_of(bank="log", sigmas=[1, 2, 6]):
        assert abs(weights.sum()) < 2e-3 * np.abs(weights).sum()


def test_derivatives_have_the_slope_of_a_ramp() -> None:
    ramp = np.broadcast_to(RISING, (7, 7))
    for name, slope in [("sobel", 2), ("scharr", 2), ("prewitt", 2)]:
        along_y, along_x = weights_of(bank=name)
        assert ndimage.correlate(ramp, along_x)[3, 3] == pytest.approx(slope)
        assert ndimage.correlate(ramp.T, along_y)[3, 3] == pytest.approx(slope)
        assert ndimage.correlate(ramp, along_y)[3, 3] == pytest.approx(0)


def test_kernels_keep_their_natural_sizes() -> None:
    edges = [len(weights) for weights in weights_of(bank="gaussian", sigmas=[1, 2, 4])]
    assert edges == [9, 17, 33]
    assert bank_of(bank="gaussian", sigmas=[1, 2, 4]).size == (33, 33)


def test_random_kernels_follow_he_and_their_seed() -> None:
    def draw(**options: Any) -> Bank:
        return build_bank(spec_of(bank={"fit": "random", "kernels": 400, "size": 5, **options}), channels=3)

    bank = draw(seed=3)
    every = np.stack([kernel.weights for kernel in bank.kernels])
    expected = np.random.default_rng(3).standard_normal((400, 5, 5, 3)) * np.sqrt(2 / 75)
    np.testing.assert_allclose(every, expected, rtol=1e-15)
    assert every.std() == pytest.approx(np.sqrt(2 / 75), rel=0.02)
    assert bank.spans_channels
    assert [kernel.labels for kernel in bank.kernels[:2]] == [{"bank": "random", "kernel": k} for k in (0, 1)]
    assert np.array_equal(draw(seed=3, kernels=7).kernels[6].weights, every[6])
    assert not np.array_equal(draw(seed=4).kernels[0].weights, every[0])


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (
            {"bank": "gabor", "frequency": 0.2, "orientation": 45.0, "channel": "red"},
            "gabor frequency=0.2 orientation=45 channel=red",
        ),
        ({"polarity": 1, "bank": "log", "sigma": 1e-05}, "log polarity=+1 sigma=1e-05"),
        (
            {"bank": "box", "size": 3, "input_bank": "dog", "input_polarity": -1},
            "box size=3 input_bank=dog input_polarity=-1",
        ),
        ({"channel": "gray"}, "channel=gray"),
        ({"bank": "gabor", "orientation": 180 / 7}, "gabor orientation=25.714285714285715"),
        ({"bank": "gabor", "frequency": 0.1 + 0.2}, "gabor frequency=0.30000000000000004"),
        ({"bank": "x", "sigma": np.float64(2.5)}, "x sigma=2.5"),
        ({}, ""),
    ],
)
def test_a_feature_is_named_by_its_bank_and_its_labels(labels: dict[str, Any], name: str) -> None:
    assert feature_name(labels) == name
