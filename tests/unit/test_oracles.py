"""featpipe beside SciPy, scikit-image and PyTorch on the same images, to 1e-5 relative in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage as ndi
from scipy.signal import convolve2d

import featpipe

RNG = np.random.default_rng(0)
IMAGE = RNG.random((37, 45), np.float32)
SCIPY_MODE = {"zero": "constant", "edge": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "wrap"}


def features(image: npt.NDArray[Any], *layers: Any, scale: int = 1) -> npt.NDArray[np.float32]:
    """Return (y, x, k) of one (y, x) or (y, x, c) image."""
    maps = featpipe.extract(image[None], {"features": {"a": {"scales": [scale], "layers": list(layers)}}})
    values: npt.NDArray[np.float32] = maps[f"a/scale{scale}"][0]
    return values


def assert_close(got: npt.NDArray[Any], want: npt.NDArray[Any], tolerance: float = 1e-5) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * float(np.abs(want).max()))


@pytest.mark.parametrize("size", [(3, 3), (5, 3), (4, 4), (1, 6), (11, 11)])
def test_flip_with_symmetric_padding_is_scipys_convolve2d(size: tuple[int, int]) -> None:
    kernel = RNG.standard_normal(size)
    got = features(IMAGE, {"convolve": {"kernels": [kernel.tolist()], "flip": True, "padding": "symmetric"}})
    assert_close(got[..., 0], convolve2d(IMAGE.astype(np.float64), kernel, boundary="symm", mode="same"))


@pytest.mark.parametrize("mode", SCIPY_MODE)
@pytest.mark.parametrize("size", [(3, 3), (5, 2), (7, 7)])
def test_every_padding_mode_is_scipys_correlate(mode: str, size: tuple[int, int]) -> None:
    kernel = RNG.standard_normal(size)
    got = features(IMAGE, {"convolve": {"kernels": [kernel.tolist()], "padding": mode}})
    want = ndi.correlate(IMAGE.astype(np.float64), kernel, mode=SCIPY_MODE[mode])
    assert_close(got[..., 0], want)


@pytest.mark.parametrize("mode", SCIPY_MODE)
def test_gaussian_banks_are_scipys_gaussian_filters(mode: str) -> None:
    sigmas = [0.7, 1, 2.5]
    image, border = IMAGE.astype(np.float64), SCIPY_MODE[mode]
    smooth = features(IMAGE, {"convolve": {"bank": "gaussian", "sigmas": sigmas, "padding": mode}})
    laplace = features(IMAGE, {"convolve": {"bank": "log", "sigmas": sigmas, "padding": mode}})
    gradient = features(
        IMAGE, {"convolve": {"bank": "gaussian-gradient", "sigmas": sigmas, "padding": mode}}, "modulus"
    )
    for i, sigma in enumerate(sigmas):
        assert_close(smooth[..., i], ndi.gaussian_filter(image, sigma, mode=border))
        assert_close(laplace[..., i], ndi.gaussian_laplace(image, sigma, mode=border))
        assert_close(gradient[..., i], ndi.gaussian_gradient_magnitude(image, sigma, mode=border))


def test_gabor_is_scikit_images() -> None:
    filters = pytest.importorskip("skimage.filters")
    got = features(
        IMAGE,
        {"convolve": {"bank": "gabor", "frequencies": [0.15, 0.3], "orientations": 3, "padding": "symmetric"}},
        "modulus",
    )
    for k, (frequency, degrees) in enumerate((f, d) for f in (0.15, 0.3) for d in (0, 60, 120)):
        real, imaginary = filters.gabor(
            IMAGE.astype(np.float64), frequency, theta=np.deg2rad(degrees), mode="reflect", n_stds=3
        )
        assert_close(got[..., k], np.hypot(real, imaginary))


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (2, 1, 1), (3, 2, 4), (1, 3, 2)])
def test_stride_and_dilation_are_pytorchs(stride: int, dilation: int, padding: int) -> None:
    torch = pytest.importorskip("torch")
    image, weights, bias = RNG.random((40, 33, 3), np.float32), RNG.standard_normal((7, 3, 3, 3)), list(range(7))
    layer = {
        "kernels": weights.tolist(),
        "bias": bias,
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
    }
    got = features(image, {"convolve": layer})
    want = torch.nn.functional.conv2d(
        torch.tensor(image.transpose(2, 0, 1)[None], dtype=torch.float64),
        torch.tensor(weights.transpose(0, 3, 1, 2)),
        torch.tensor(bias, dtype=torch.float64),
        stride=stride,
        dilation=dilation,
        padding=padding,
    )
    assert_close(got, want[0].numpy().transpose(1, 2, 0))


def test_five_blocks_of_a_cnn_are_pytorchs(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    image = RNG.random((96, 64, 3), np.float32)
    layers: list[Any] = []
    x = torch.tensor(image.transpose(2, 0, 1)[None], dtype=torch.float64)
    functional = torch.nn.functional
    for block, (inputs, outputs) in enumerate([(3, 16), (16, 32), (32, 32), (32, 64), (64, 64)]):
        weights = RNG.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        np.save(tmp_path / f"{block}.npy", weights.transpose(0, 2, 3, 1))
        convolve = {"kernels": str(tmp_path / f"{block}.npy"), "padding": "zero", "channels": "sum"}
        layers += [{"convolve": convolve}, {"activate": "relu"}, {"pool": {"max": 2}}]
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, torch.tensor(weights), padding=1)), 2)
    assert_close(features(image, *layers), x[0].numpy().transpose(1, 2, 0))


@pytest.mark.parametrize("by", ["max", "mean"])
def test_padded_pooling_is_pytorchs(by: str) -> None:
    torch = pytest.importorskip("torch")
    pool = {"max": torch.nn.functional.max_pool2d, "mean": torch.nn.functional.avg_pool2d}[by]
    image = RNG.standard_normal((21, 26)).astype(np.float32)
    got = features(image, {"pool": {by: 3, "stride": 2, "padding": 1}})
    want = pool(torch.tensor(image[None, None]), 3, 2, 1)
    assert_close(got[..., 0], want[0, 0].numpy())


def test_a_kernel_drawn_as_a_curve_answers_6600_where_it_matches_and_0_where_it_does_not() -> None:
    kernel = np.zeros((7, 7))
    kernel[1, 5] = kernel[2, 4] = kernel[3:6, 3] = kernel[2, 4] = 30
    matching = np.zeros((7, 7))
    matching[1, 5], matching[2, 4], matching[3, 3], matching[4, 3], matching[5, 3] = 50, 20, 50, 50, 50
    elsewhere = np.zeros((7, 7))
    elsewhere[5:, :2] = 50
    raw = {"values": "raw", "path": "nowhere"}
    curve = {"features": {"a": {"layers": [{"convolve": {"kernels": [kernel.tolist()]}}]}}, "images": raw}
    assert featpipe.extract(matching[None], curve)["a/scale1"].item() == 30 * 50 + 30 * 20 + 30 * 50 + 30 * 50 + 30 * 50
    assert featpipe.extract(matching[None], curve)["a/scale1"].item() == 6600
    assert featpipe.extract(elsewhere[None], curve)["a/scale1"].item() == 0


def test_the_pyramid_halves_as_burt_and_adelson_do() -> None:
    row = np.array([1, 4, 6, 4, 1]) / 16
    want = ndi.correlate(IMAGE.astype(np.float64), np.outer(row, row), mode="mirror")[::2, ::2]
    want = ndi.correlate(want, np.outer(row, row), mode="mirror")[::2, ::2]
    assert_close(features(IMAGE, {"convolve": {"bank": "identity", "padding": "reflect"}}, scale=4)[..., 0], want)
