"""Sizes, counts and names that nobody means: refused in words before memory is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.commands import Done

pytestmark = pytest.mark.timeout(60)


def layers(*written: str) -> str:
    return f"features: {{a: {{layers: [{', '.join(written)}]}}}}"


def many(count: int) -> str:
    return ", ".join(f"{i / (3 * count):.9f}" for i in range(1, count + 1))


SOBEL = "{convolve: {bank: sobel}}"
GABOR = "{convolve: {bank: gabor, frequencies: [0.3], orientations: 12}}"
HUGE = {
    "box": (layers("{convolve: {bank: box, size: 1e9}}"), "MiB"),
    "gaussian": (layers("{convolve: {bank: gaussian, sigmas: 1e300}}"), "MiB"),
    "gabor": (layers("{convolve: {bank: gabor, frequencies: 1e-9}}"), "MiB"),
    "orientations": (layers("{convolve: {bank: gabor, frequencies: 0.1, orientations: 1e9}}"), "MiB"),
    "frequencies": (layers(f"{{convolve: {{bank: gabor, frequencies: [{many(20000)}]}}}}"), "may hold 10,000 items"),
    "sigmas": (layers(f"{{convolve: {{bank: gaussian, sigmas: [{many(20000)}]}}}}"), "may hold 10,000 items"),
    "values": (layers(f"{{convolve: {{kernels: [[[{'1, ' * 600_000}1]]]}}}}"), "more than 500,000 values"),
    "twice": (layers("{convolve: {bank: morlet, scales: 3, octaves: [" + "1, " * 100_000 + "1]}}"), "gives 1 twice"),
    "random kernels": (layers("{convolve: {bank: {fit: random, kernels: 1e9}}}"), "MiB"),
    "fitted kernels": (layers("{convolve: {bank: {fit: kmeans, kernels: 1e9}}}"), "features"),
    "fitted size": (layers("{convolve: {bank: {fit: kmeans, kernels: 10, size: 1e9}}}"), "GiB, and may take 1"),
    "patches": (layers("{convolve: {bank: {fit: kmeans, kernels: 10, patches: 1e12}}}"), "at most 2147483647"),
    "local kernels": (layers("{local: {kernels: {fit: random, kernels: 1e9}}}"), "1,000,000,000 features"),
    "features": (layers(*[GABOR] * 6), "331,776 features"),
    "padding": (layers("{convolve: {bank: sobel, padding: 1e9}}"), "at most 65536"),
    "paddings": (layers(*["{convolve: {bank: identity, padding: 65536}}"] * 20), "tasks an image"),
    "dilation": (layers("{convolve: {bank: sobel, dilation: 1e9}}"), "at most 1048576"),
    "stride": (layers("{convolve: {bank: sobel, stride: 1e9}}"), "at most 1048576"),
    "pool": (layers("{pool: {mean: 1e9, padding: reflect}}"), "at most 1048576"),
    "large pool": (layers("{pool: {mean: 1048576, padding: reflect}}"), "GiB"),
    "grid": (layers("{pool: {mean: {grid: [1e9, 1e9]}}}"), "at most 1048576"),
    "bins": (layers("{pool: {histogram: {grid: [1, 1]}, bins: 1e9}}"), "at most 65536"),
    "scale": ("features: {a: {scales: [1099511627776], layers: [{pool: {mean: 2}}]}}", "at most 2147483647"),
    "digits": (
        f"features: {{a: {{scales: [1{'0' * 400}], layers: [{{pool: {{mean: 2}}}}]}}}}",
        "must be a whole number",
    ),
    "layers": (layers(*[SOBEL] * 1001), "may hold 1,000 items"),
    "images.size": (f"{layers(SOBEL)}\nimages: {{path: ph, size: [1e9, 1e9]}}", "at most 1048576"),
    "size": (f"{layers(SOBEL)}\nimages: {{path: ph, size: [1048576, 1048576]}}", "tasks an image"),
    "region": (f"{layers(SOBEL)}\nimages: {{path: ph, region: {{y: [0, 1e12]}}}}", "at most 2147483647"),
    "batch": (f"{layers(SOBEL)}\nstore: {{path: s.zarr, batch: 1{'0' * 18}}}", "at most 2147483647"),
    "block": (f"{layers(SOBEL)}\nstore: {{path: s.zarr, block: [1e18, 1e18]}}", "at most 1048576"),
    "workers": (f"{layers(SOBEL)}\ncluster: {{local: {{workers: 1e9}}}}", "at most 1024"),
    "name": (f"features: {{{'a' * 300}: {{layers: [{SOBEL}]}}}}", "at most 255 letters"),
    "saved name": (layers(SOBEL, f"{{save: {'a' * 300}}}", "{pool: {mean: 2}}"), "at most 255 letters"),
    "reserved": (f"features: {{Fits: {{layers: [{SOBEL}]}}}}", "the name of something else in the store"),
    "receipts": (f"features: {{receipts: {{layers: [{SOBEL}]}}}}", "the name of something else in the store"),
    "device": (f"features: {{nul: {{layers: [{SOBEL}]}}}}", "the name of a device"),
    "saved device": (layers(SOBEL, "{save: COM1}", "{pool: {mean: 2}}"), "the name of a device"),
    "store": (f"{layers(SOBEL)}\nstore: {{path: {'x' * 300}.zarr}}", "255 bytes"),
    "store's folders": (f"{layers(SOBEL)}\nstore: {{path: {'x/' * 3000}s.zarr}}", "too long"),
    "images": (f"{layers(SOBEL)}\nimages: {{path: {'x' * 300}}}", "255 bytes"),
    "nesting": (layers(f"{{convolve: {{kernels: {'[' * 500}{']' * 500}}}}}"), "nested deeper"),
}


@pytest.mark.parametrize("name", HUGE)
def test_what_nobody_means_is_refused_in_words(
    name: str, tmp_path: Path, featpipe: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ph").mkdir()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("ph/a.png")
    text, words = HUGE[name]
    text += "" if "images:" in text else "\nimages: {path: ph}"
    (tmp_path / "p.yaml").write_text(text + ("" if "store:" in text else "\nstore: {path: s.zarr}"), encoding="utf-8")
    done = featpipe("run", "p.yaml", "--memory", "900MiB", "--threads", "1")
    assert done.code == 2, done
    assert words in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.yaml", "ph"]
