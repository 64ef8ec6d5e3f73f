"""The canonical texture banks equal SciPy's functions, published definitions, and values of Kymatio and pyrtools."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import TypeAdapter
from scipy import fft, linalg, ndimage, stats

import featpipe
from featpipe.errors import SpecError
from featpipe.kernels.bank import Bank, feature_name
from featpipe.kernels.catalog import build_bank
from featpipe.spec.banks import BankField, BankSpec
from featpipe.spec.base import FROM_FILE
from featpipe.spec.load import parse_pipeline
from featpipe.spec.textures import TEXTURES

Array = npt.NDArray[np.float64]
IMAGE = np.random.default_rng(3).random((41, 37))
IMAGE.flags.writeable = False
NAMES = {"laws", "dct", "haar", "schmid", "lm", "rfs", "morlet", "steerable", "gaussian-derivatives"}
GIVEN: dict[str, dict[str, Any]] = {"morlet": {"scales": 3}, "gaussian-derivatives": {"sigmas": [1, 2]}}


def bank_of(name: str, **parameters: Any) -> Bank:
    given = {"bank": name, **GIVEN.get(name, {}), **parameters}
    spec: BankSpec = TypeAdapter(BankField).validate_python(given, context=FROM_FILE)
    return build_bank(spec, channels=1)


def agree(found: Array, expected: Array, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def normalised(weights: Array) -> Array:
    centred: Array = weights - weights.mean()
    centred /= np.abs(centred).sum()
    return centred


# Textons


def vgg_oriented(sigma: float, degrees: float, order: int, size: int) -> Array:
    """VGG's edge or bar by the Gaussian's covariance: a derivative of a density along its short axis, y pointing up."""
    angle = np.deg2rad(degrees)
    long, short = np.array([np.cos(angle), -np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    covariance = 9 * sigma**2 * np.outer(long, long) + sigma**2 * np.outer(short, short)
    half = size // 2
    points = np.stack(np.meshgrid(np.arange(-half, half + 1), np.arange(half, -half - 1, -1)), axis=-1)
    density = stats.multivariate_normal(np.zeros(2), covariance).pdf(points)
    slope = points @ np.linalg.inv(covariance) @ short
    shape = -slope if order == 1 else slope**2 - short @ np.linalg.inv(covariance) @ short
    return normalised(shape * density)


def blob(kind: str, sigma: float, size: int) -> Array:
    """Matlab's fspecial, normalised: a Gaussian, or its Laplacian."""
    half = size // 2
    squares = sum(np.square(axis) for axis in np.mgrid[-half : half + 1, -half : half + 1])
    density = stats.norm(0, sigma).pdf(np.sqrt(squares))
    return normalised(density * ((squares - 2 * sigma**2) / sigma**4 if kind == "log" else 1))


@pytest.mark.parametrize("size", [49, 25])
@pytest.mark.parametrize(
    ("name", "parameters", "sigmas"),
    [
        ("lm", {"variant": "large"}, [2**0.5, 2, 2**1.5]),
        ("lm", {"variant": "small"}, [1, 2**0.5, 2]),
        ("rfs", {}, [1, 2, 4]),
        ("rfs", {"sigmas": [4]}, [4]),
    ],
)
def test_edges_and_bars_give_the_responses_of_vggs_convolution(
    name: str, parameters: dict[str, Any], sigmas: list[float], size: int
) -> None:
    bank = bank_of(name, size=size, **parameters)
    expected = [
        vgg_oriented(sigma, degrees, order, size)
        for order in (1, 2)
        for sigma in sigmas
        for degrees in range(0, 180, 30)
    ]
    for kernel, weights in zip(bank.kernels, expected, strict=False):
        agree(kernel.weights, weights[::-1, ::-1])


@pytest.mark.parametrize(("variant", "first"), [("large", 1), ("small", 0)])
def test_lm_ends_with_a_gaussian_and_two_laplacians_a_scale(variant: str, first: int) -> None:
    blobs = bank_of("lm", variant=variant).kernels[36:]
    sigmas = 2 ** (np.arange(first, first + 4) / 2)
    expected = [(kind, factor * s) for s in sigmas for kind, factor in (("gaussian", 1), ("log", 1), ("log", 3))]
    assert [k.labels["kind"] for k in blobs] == [kind for kind, _ in expected]
    agree(np.array([k.labels["sigma"] for k in blobs], float), np.array([sigma for _, sigma in expected]))
    for kernel, (kind, sigma) in zip(blobs, expected, strict=True):
        agree(kernel.weights, blob(kind, sigma, 49))


def test_rfs_ends_with_a_gaussian_and_a_laplacian_of_sigma_ten() -> None:
    for kernel, kind in zip(bank_of("rfs").kernels[36:], ("gaussian", "log"), strict=True):
        assert kernel.labels == {"bank": "rfs", "kind": kind, "sigma": 10.0}
        agree(kernel.weights, blob(kind, 10, 49))


def test_schmids_filters_are_ripples_under_a_gaussian() -> None:
    bank = bank_of("schmid")
    y, x = np.mgrid[-24:25, -24:25]
    expected = [(2, 1), (4, 1), (4, 2), *((6, t) for t in (1, 2, 3)), *((8, t) for t in (1, 2, 3))]
    expected += [(10, t) for t in (1, 2, 3, 4)]
    assert [(k.labels["sigma"], k.labels["tau"]) for k in bank.kernels] == expected
    for kernel, (sigma, tau) in zip(bank.kernels, expected, strict=True):
        wave = np.exp(1j * np.pi * tau * abs(x + 1j * y) / sigma).real
        agree(kernel.weights, normalised(wave * stats.norm(0, sigma).pdf(abs(x + 1j * y))))


@pytest.mark.parametrize("name", ["lm", "schmid", "rfs"])
def test_texton_filters_have_mean_zero_and_one_norm(name: str) -> None:
    for kernel in bank_of(name).kernels:
        assert kernel.weights.shape == (49, 49)
        assert abs(kernel.weights.mean()) < 1e-16
        assert np.abs(kernel.weights).sum() == pytest.approx(1)


def test_orientations_mean_the_same_in_every_bank() -> None:
    """A slope or wave to the lower right is answered most at 45°, by every bank that has that orientation."""
    y, x = np.mgrid[:65, :65]
    along = (x + y) / np.sqrt(2)
    for name, given, wave in (
        ("rfs", {"sigmas": [2], "size": 25}, 0.09),
        ("morlet", {"scales": 2, "octaves": [1]}, 0.1875),
        ("steerable", {}, 0.25),
        ("gabor", {"frequencies": [0.2], "orientations": 4}, 0.2),
    ):
        image = np.cos(2 * np.pi * wave * along + 0.4)
        strength: dict[Any, float] = {}
        for kernel in bank_of(name, **given).kernels:
            if "orientation" in kernel.labels:
                response = ndimage.correlate(image, kernel.weights)[20:45, 20:45]
                at = kernel.labels["orientation"]
                strength[at] = max(strength.get(at, 0), float(np.abs(response).max()))
        best = max(strength, key=lambda angle: strength[angle])
        assert best in ((30.0, 60.0) if name == "rfs" else (45.0,)), name


# Maximum responses


REDUCED = [
    ("MR8", [1, 2, 4], ["orientation"], 8),
    ("MR4", [4], ["orientation"], 4),
    ("MRS4", [1, 2, 4], ["orientation", "sigma"], 4),
]


@pytest.mark.parametrize(("name", "sigmas", "over", "count"), REDUCED, ids=[case[0] for case in REDUCED])
def test_reducing_the_root_filter_set_gives_maximum_responses(
    name: str, sigmas: list[float], over: list[str], count: int
) -> None:
    layers: list[Any] = [{"convolve": {"bank": "rfs", "sigmas": sigmas, "padding": "symmetric"}}]
    layers += [{"reduce": {"over": label, "by": "max"}} for label in over]
    image = np.random.default_rng(5).random((1, 60, 52)).astype(np.float32)
    found = np.asarray(featpipe.extract(image, {"features": {"t": {"layers": layers}}})["t/scale1"])[0]
    kernels = [kernel.weights for kernel in bank_of("rfs", sigmas=sigmas).kernels]
    responses = np.stack([ndimage.correlate(image[0].astype(float), k, mode="reflect") for k in kernels], axis=-1)
    oriented = responses[..., :-2].reshape(*image.shape[1:], 2, len(sigmas), 6).max(axis=-1)
    if name == "MRS4":
        oriented = oriented.max(axis=-1, keepdims=True)
    expected = np.concatenate([oriented.reshape(*image.shape[1:], -1), responses[..., -2:]], axis=-1)
    assert found.shape == (60, 52, count)
    agree(found, expected, 1e-5)


# Wavelets


KYMATIO = np.array(
    [
        [-0.0075006, -0.0122168, -0.0050432, 0.0113931, 0.0174743],
        [-0.0122168, -0.0055606, 0.0138505, 0.0234226, 0.0113931],
        [-0.0050432, 0.0138505, 0.0258254, 0.0138505, -0.0050432],
        [0.0113931, 0.0234226, 0.0138505, -0.0055606, -0.0122168],
        [0.0174743, 0.0113931, -0.0050432, -0.0122168, -0.0075006],
    ]
) + 1j * np.array(
    [
        [0.0012342, -0.0075476, -0.0189902, -0.0167473, 0.0],
        [-0.0075476, -0.0209383, -0.0203596, 0.0, 0.0167473],
        [-0.0189902, -0.0203596, 0.0, 0.0203596, 0.0189902],
        [-0.0167473, 0.0, 0.0203596, 0.0209383, 0.0075476],
        [0.0, 0.0167473, 0.0189902, 0.0075476, -0.0012342],
    ]
)
"""The middle of kymatio 0.3.0's filter_bank(64, 64, 3, 8)["psi"][9], back in space: j = 1, theta = 1."""


def test_morlets_are_kymatios_turned_by_half_a_turn() -> None:
    even, odd = (
        kernel.weights
        for kernel in bank_of("morlet").kernels
        if (kernel.labels["octave"], kernel.labels["orientation"]) == (1, 45.0)
    )
    middle = slice(16 - 2, 16 + 3)
    agree(even[middle, middle], KYMATIO.real[::-1, ::-1], 1e-6)
    agree(odd[middle, middle], KYMATIO.imag[::-1, ::-1], 1e-6)


@pytest.mark.parametrize("turns", [3, 4, 8])
def test_morlets_follow_their_formula_and_sum_to_zero(turns: int) -> None:
    bank = bank_of("morlet", orientations=turns)
    assert len(bank.kernels) == 3 * turns * 2
    pairs = zip(bank.kernels[::2], bank.kernels[1::2], strict=True)
    for (octave, turn), (even, odd) in zip(itertools.product(range(3), range(turns)), pairs, strict=True):
        shared = {"bank": "morlet", "octave": octave, "orientation": 180 * turn / turns}
        assert even.labels == {**shared, "component": "even"}
        assert odd.labels == {**shared, "component": "odd"}
        sigma, angle = 0.8 * 2**octave, np.pi * turn / turns
        axes = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
        precision = axes.T @ np.diag([1, (4 / turns) ** 2]) @ axes / sigma**2
        half = len(even.weights) // 2
        u = np.moveaxis(np.mgrid[-half : half + 1, -half : half + 1], 0, -1)
        envelope = stats.multivariate_normal(np.zeros(2), np.linalg.inv(precision)).pdf(u)
        wave = np.exp(-1j * 0.75 * np.pi / 2**octave * (u @ axes[0]))
        expected = envelope * (wave - (envelope * wave).sum() / envelope.sum())
        agree(even.weights, expected.real)
        agree(odd.weights, expected.imag)
        assert max(abs(even.weights.sum()), abs(odd.weights.sum())) < 1e-15


def test_octaves_of_morlets_can_be_chosen() -> None:
    every, chosen = bank_of("morlet"), bank_of("morlet", octaves=[2, 0])
    assert [k.labels["octave"] for k in chosen.kernels] == [2] * 16 + [0] * 16
    assert np.array_equal(chosen.kernels[0].weights, every.kernels[32].weights)


PYRTOOLS: dict[tuple[int, int, int, int], list[list[float]]] = {
    (2, 0, 1, 32): [
        [0.0084306, 0.0738402, 0.0718771, 0.0206987, 0.0062212],
        [0.0508168, 0.0860506, -0.0195162, -0.0532556, -0.0023247],
        [0.0152255, -0.083213, -0.1950873, -0.083213, 0.0152255],
        [-0.0023247, -0.0532556, -0.0195162, 0.0860506, 0.0508168],
        [0.0062212, 0.0206987, 0.0718771, 0.0738402, 0.0084306],
    ],
    (1, 0, 0, 32): [
        [0.0288137, 0.0099446, 0.0, -0.0099446, -0.0288137],
        [0.019806, -0.106986, 0.0, 0.106986, -0.019806],
        [-0.0138417, -0.2187763, 0.0, 0.2187763, 0.0138417],
        [0.019806, -0.106986, 0.0, 0.106986, -0.019806],
        [0.0288137, 0.0099446, 0.0, -0.0099446, -0.0288137],
    ],
    (3, 1, 1, 64): [
        [-0.0423031, -0.0305502, 0.0286519, 0.0191474, 0.0],
        [-0.0305502, 0.0777825, 0.1123198, 0.0, -0.0191474],
        [0.0286519, 0.1123198, 0.0, -0.1123198, -0.0286519],
        [0.0191474, 0.0, -0.1123198, -0.0777825, 0.0305502],
        [0.0, -0.0191474, -0.0286519, 0.0305502, 0.0423031],
    ],
}
"""Order, level, band, n: the middle of pyrtools 1.1.1's SteerablePyramidFreq coefficients of an n × n impulse."""


@pytest.mark.parametrize(("case", "expected"), PYRTOOLS.items())
def test_steerable_bands_of_an_impulse_are_pyrtools(
    case: tuple[int, int, int, int], expected: list[list[float]]
) -> None:
    order, level, band, edge = case
    impulse = np.zeros((edge, edge))
    impulse[edge // 2, edge // 2] = 1
    kernel = bank_of("steerable", order=order, levels=2).kernels[level * (order + 1) + band]
    assert kernel.labels == {"bank": "steerable", "level": level, "orientation": 180 * band / (order + 1)}
    response = ndimage.correlate(impulse, kernel.weights, mode="wrap")[:: 2**level, :: 2**level] * 4**level
    middle = slice(edge // 2 // 2**level - 2, edge // 2 // 2**level + 3)
    agree(response[middle, middle], np.array(expected), 1e-6)


@pytest.mark.parametrize("order", range(6))
def test_steerable_bands_of_all_levels_share_out_the_power_of_every_frequency(order: int) -> None:
    """Between the first band's upper slope and the last one's lower, the powers add up to 1, at every angle."""
    powers = np.zeros((128, 128))
    for kernel in bank_of("steerable", order=order, levels=3).kernels:
        assert abs(kernel.weights.sum()) < 1e-13
        grid = np.zeros((128, 128))
        edge = len(kernel.weights)
        grid[:edge, :edge] = kernel.weights
        powers += np.abs(np.fft.fft2(grid)) ** 2
    # The frequencies of the finest kernels' grid, where all levels are sampled.
    radius = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(32)]))
    between = (radius >= 1 / 8) & (radius <= 1 / 4)
    agree(powers[::4, ::4][between], np.ones(between.sum()), 1e-12)


# Products of vectors


def test_laws_vectors_are_convolutions_of_the_three_short_ones() -> None:
    level, edge, spot = np.array([1, 2, 1]), np.array([-1, 0, 1]), np.array([-1, 2, -1])
    long = {
        "L5": np.convolve(level, level),
        "E5": np.convolve(level, edge),
        "S5": np.convolve(level, spot),
        "W5": -np.convolve(edge, spot),
        "R5": np.convolve(spot, spot),
    }
    for vectors in (long, {"L3": level, "E3": edge, "S3": spot}):
        bank = bank_of("laws", vectors=list(vectors))
        for kernel, (down, along) in zip(bank.kernels, itertools.product(vectors, repeat=2), strict=True):
            assert np.array_equal(kernel.weights, np.outer(vectors[down], vectors[along]))
            first, second = sorted((down, along))
            transposed = "no" if down == first else "yes"
            assert kernel.labels == {"bank": "laws", "pair": first + second, "transposed": transposed}
    assert len(bank_of("laws").kernels) == 25


def test_laws_masks_and_their_transposes_average_to_fifteen_energies() -> None:
    layers = [
        {"convolve": {"bank": "laws", "padding": "symmetric"}},
        {"activate": "abs"},
        {"reduce": {"over": "transposed", "by": "mean"}},
    ]
    image = IMAGE.astype(np.float32)[None]
    found = np.asarray(featpipe.extract(image, {"features": {"t": {"layers": layers}}})["t/scale1"])[0]
    energies: dict[Any, list[Array]] = {}
    for kernel in bank_of("laws").kernels:
        response = np.abs(ndimage.correlate(image[0].astype(float), kernel.weights, mode="reflect"))
        energies.setdefault(kernel.labels["pair"], []).append(response)
    assert sorted(map(len, energies.values())) == [1] * 5 + [2] * 10
    agree(found, np.stack([np.mean(pair, axis=0) for pair in energies.values()], axis=-1), 1e-4)


def test_haar_kernels_are_those_of_the_hadamard_matrix() -> None:
    kernels = bank_of("haar").kernels
    assert [kernel.labels["band"] for kernel in kernels] == ["ll", "lh", "hl", "hh"]
    agree(np.stack([kernel.weights.ravel() for kernel in kernels]), linalg.hadamard(4) / 2)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_dct_kernels_give_scipys_coefficients_but_the_first(size: int) -> None:
    bank = bank_of("dct", size=size)
    block = IMAGE[:size, :size]
    found = np.array([(kernel.weights * block).sum() for kernel in bank.kernels])
    agree(found, fft.dctn(block, norm="ortho").ravel()[1:])
    assert [(k.labels["half_cycles_y"], k.labels["half_cycles_x"]) for k in bank.kernels] == [
        (v, u) for v in range(size) for u in range(size) if (v, u) != (0, 0)
    ]


@pytest.mark.parametrize("mode", ["constant", "nearest", "mirror", "reflect", "wrap"])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.7, 4.0), (1.0, 3.0), (2.5, 4.0)])
def test_gaussian_derivatives_equal_scipy(sigma: float, truncate: float, mode: str) -> None:
    orders = {"value": (0, 0), "y": (1, 0), "x": (0, 1), "yy": (2, 0), "xy": (1, 1), "xx": (0, 2)}
    bank = bank_of("gaussian-derivatives", sigmas=sigma, orders=[0, 1, 2], truncate=truncate)
    assert [kernel.labels["component"] for kernel in bank.kernels] == list(orders)
    for kernel, order in zip(bank.kernels, orders.values(), strict=True):
        found = ndimage.correlate(IMAGE, kernel.weights, mode=mode)
        agree(found, ndimage.gaussian_filter(IMAGE, sigma, order, mode=mode, truncate=truncate))


def test_orders_of_derivatives_can_be_chosen() -> None:
    def components(**given: Any) -> list[Any]:
        return [kernel.labels["component"] for kernel in bank_of("gaussian-derivatives", sigmas=2, **given).kernels]

    assert components() == ["y", "x", "yy", "xy", "xx"]
    assert components(orders=2) == ["yy", "xy", "xx"]
    assert components(orders=[1, 0]) == ["y", "x", "value"]


# All of them


def test_every_texture_bank_is_tried_here() -> None:
    assert set(TEXTURES) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_features_of_a_bank_have_names_of_their_own(name: str) -> None:
    bank = bank_of(name)
    counts = {"lm": 48, "schmid": 13, "rfs": 38, "laws": 25, "haar": 4, "dct": 63, "steerable": 4, "morlet": 48}
    assert len(bank.kernels) == counts.get(name, 10)
    assert len({feature_name(kernel.labels) for kernel in bank.kernels}) == len(bank.kernels)
    for kernel in bank.kernels:
        assert kernel.labels["bank"] == name
        assert np.isfinite(kernel.weights).all()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bank": "lm", "variant": "huge"}, "variant"),
    ({"bank": "lm", "size": 48}, "size: must be odd and at least 3, so that the kernels have a centre, got 48."),
    ({"bank": "schmid", "size": 1}, "size: must be odd and at least 3, so that the kernels have a centre, got 1."),
    ({"bank": "rfs", "sigmas": [1, 60]}, "sigmas: must be from 0.3 to size (49) samples, got 60."),
    ({"bank": "rfs", "sigmas": [0.1]}, "sigmas: must be from 0.3 to size (49) samples, got 0.1."),
    ({"bank": "morlet"}, "scales"),
    ({"bank": "morlet", "scales": 17}, "scales: must be at most 16, got 17."),
    ({"bank": "morlet", "scales": 2, "octaves": [2]}, "octaves: must be below scales (2), got 2."),
    ({"bank": "morlet", "scales": 2, "octaves": [1, 1]}, "octaves: gives 1 twice. Give each value once."),
    ({"bank": "laws", "vectors": ["L5", "E3"]}, "vectors: mixes vectors of 3 and of 5 samples. Use one length, or"),
    ({"bank": "laws", "vectors": ["L5", "L5"]}, "vectors: gives L5 twice. Give each value once."),
    ({"bank": "laws", "vectors": ["X5"]}, "vectors[0]"),
    ({"bank": "dct", "size": 1}, "size: must be at least 2, got 1."),
    ({"bank": "steerable", "order": 16}, "order: must be at most 15, got 16."),
    ({"bank": "steerable", "size": 33}, "size: must be even and at least 8, got 33."),
    ({"bank": "gaussian-derivatives"}, "sigmas"),
    ({"bank": "gaussian-derivatives", "sigmas": [1], "orders": [3]}, "orders[0]: must be at most 2, got 3."),
    ({"bank": "haar", "size": 4}, "size: unknown key"),
]


@pytest.mark.parametrize(("bank", "message"), WRONG)
def test_a_wrong_parameter_is_named_with_its_bounds(bank: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline({"images": {"path": "x"}, "features": {"t": {"layers": [{"convolve": bank}]}}})
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"features.t.layers[0].convolve.{message}")


@pytest.mark.parametrize(
    "bank",
    [
        {"name": "lm", "size": 2**31 - 1},
        {"name": "schmid", "size": 2**31 - 1},
        {"name": "rfs", "size": 2**31 - 1, "sigmas": [float(s) for s in range(1, 99)]},
        {"name": "morlet", "scales": 16},
        {"name": "morlet", "scales": 1, "orientations": 2**31 - 1},
        {"name": "morlet", "scales": 1, "truncate": 1e300},
        {"name": "dct", "size": 2**31 - 1},
        {"name": "steerable", "levels": 16},
        {"name": "steerable", "size": 2**31 - 2},
        {"name": "gaussian-derivatives", "sigmas": [1e300]},
        {"name": "gaussian-derivatives", "sigmas": [1e-3]},
    ],
    ids=str,
)
def test_no_texture_bank_takes_more_memory_than_it_may_or_is_zero(bank: dict[str, Any]) -> None:
    spec: BankSpec = TypeAdapter(BankField).validate_python({"bank": bank.pop("name"), **bank}, context=FROM_FILE)
    with pytest.raises(SpecError, match=r"and may take 256\.|the kernel is 0 everywhere"):
        build_bank(spec, channels=1)
