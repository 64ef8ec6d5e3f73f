"""Maps without a finite number, and with numbers at float32's ends, are drawn, with words and without a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from featpipe.explore.beginning import begin
from featpipe.explore.pictures import colour_range, plane, thumbnails
from featpipe.explore.session import Look, Session
from featpipe.pages.pictures import response, thumbnail
from featpipe.pages.pictures import scale as page_scale
from featpipe.preview.scales import share_scales
from tests.integration.commands import Done

MOST = float(np.finfo(np.float32).max)
RAMP = np.arange(1600, dtype=np.float32).reshape(40, 40)
IMAGES = {
    "no data": np.full((40, 40), -MOST, np.float32),
    "both ends": np.where(RAMP % 2 == 0, np.float32(MOST), np.float32(-MOST)),
    "one end": np.where(RAMP == 7, np.float32(-MOST), np.float32(0)),
    "denormal": RAMP * np.float32(1e-45),
    "zero": np.zeros((40, 40), np.float32),
}
GABOR = "{convolve: {bank: gabor, frequencies: [0.1, 0.2], orientations: 3}}"
MODULUS = f"{GABOR}, modulus"
LAYERS = {
    "square": "{convolve: {bank: box}}, {activate: square}",
    "modulus": MODULUS,
    "bars": f"{MODULUS}, {{pool: {{mean: {{grid: [1, 1]}}}}}}",
    "profile": "{convolve: {bank: {fit: random, kernels: 40, size: 3, seed: 0}}}, {activate: square}, "
    "{pool: {mean: {grid: [1, 1]}}}",
}


def layers_of(name: str) -> str:
    return f"images: {{path: a.tif}}\nfeatures: {{a: {{layers: [{LAYERS[name]}]}}}}\nstore: {{path: out.zarr}}\n"


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("image", IMAGES)
def test_a_preview_and_the_page_show_maps_that_are_not_finite(
    image: str, layers: str, tmp_path: Path, featpipe: Callable[..., Done]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGES[image])
    (tmp_path / "p.yaml").write_text(layers_of(layers))
    done = featpipe("preview", tmp_path / "p.yaml", "-o", tmp_path / "a.png", "--quiet")
    assert (done.code, done.err) == (0, "")
    with Image.open(tmp_path / "a.png") as drawn:
        assert min(drawn.size) > 100
    (tmp_path / "page").mkdir()
    start = begin(tmp_path / "p.yaml", tmp_path / "a.tif", tmp_path / "page")
    header, arrays = Session(start.subject, start.base, start.shelf).look(Look(start.text, branch="a"))
    assert not header["problems"]
    assert arrays


def test_a_report_of_features_that_are_not_finite_has_no_warning(tmp_path: Path, featpipe: Callable[..., Done]) -> None:
    for name, pixels in IMAGES.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", pixels)
    text = layers_of("modulus").replace("a.tif", "images")
    (tmp_path / "p.yaml").write_text(text)
    for words in (["run", tmp_path / "p.yaml", "--quiet"], ["report", tmp_path / "out.zarr", "--quiet"]):
        done = featpipe(*words)
        assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, MOST, -MOST, 1e-45, 0.0])
def test_every_scale_is_finite_and_has_a_width(value: float) -> None:
    values = np.full((30, 40, 2), value, np.float32)
    mixed = values.copy()
    mixed[::2] = -MOST
    for some in (values, mixed):
        span = colour_range(some)
        assert np.isfinite([span.low, span.high]).all()
        assert span.low < span.high
        assert thumbnails(some, span, 0).shape[0] == 2
        assert plane(some, 0).shape == (30, 40)
        mode, scales, _ = share_scales([some[..., 0], some[..., 1]], [0, 0])
        assert mode in ("all", "rows", "own")
        assert all(np.isfinite([one.low, one.high]).all() and one.low < one.high for one in scales)
        low, high = page_scale(some)
        assert np.isfinite([low, high]).all()
        assert response(some[..., 0], low, high).startswith("data:image/png")
        assert thumbnail(some).startswith("data:image/png")
