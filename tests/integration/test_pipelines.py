"""Every pipeline that comes with featpipe, end to end, on the images it is for."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import zarr
from scipy import ndimage

import featpipe

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "quickstart": {"texture/scale1": (192, 2, 2, 18), "texture/scale2": (192, 2, 2, 18)},
    "edges": {
        "strength/full/scale1": (4, 256, 256, 1),
        "strength/scale1": (4, 64, 64, 1),
        "polarity/scale1": (4, 64, 64, 4),
    },
    "gabor-texture": {
        "mean/scale1": (192, 1, 1, 24),
        "std/scale1": (192, 1, 1, 24),
        "best/scale1": (192, 1, 1, 4),
    },
    "pixel-features": {
        f"images/{i}/{branch}/scale1": (*shape, 4)
        for i, shape in enumerate([(512, 512), (512, 512), (300, 451), (400, 600)])
        for branch in ("intensity", "gradient", "blobs")
    },
    "bif-columns": {"columns/scale1": (192, 1, 1, 2401)},
    "mr8": {"mean/scale1": (192, 1, 1, 8), "std/scale1": (192, 1, 1, 8)},
    "laws": {"energy/scale1": (192, 8, 8, 15)},
    "scattering": {
        "order0/scale1": (192, 16, 16, 1),
        "order1/scale1": (192, 16, 16, 16),
        "order2/scale1": (192, 16, 16, 64),
    },
    "pcanet": {"hashes/scale1": (192, 6, 6, 8 * 256)},
    "coates-ng": {"patches/scale1": (192, 2, 2, 48)},
    "random-patches": {"patches/scale1": (192, 2, 2, 96)},
    "mosaiks": {"patches/scale1": (192, 1, 1, 96)},
    "conv-blocks": {"blocks/block1/scale1": (4, 64, 64, 16), "blocks/scale1": (4, 32, 32, 32)},
}
LEARNED = "features.patches.layers[0].convolve.bank"
SMALLER = {
    name: [f"{LEARNED}.kernels=48", f"{LEARNED}.patches=4000"] for name in ("coates-ng", "random-patches", "mosaiks")
}
"""What is changed of pipelines that would take minutes."""
HISTOGRAMS = {"bif-columns": 64 * 64, "pcanet": 8 * 7 * 7}
"""Pipelines whose features are counts, and what those of a position add up to."""


@pytest.fixture(scope="session")
def make_store(workplace: Path) -> Callable[[str], Path]:
    """Return a function that runs a pipeline, once, and tells where its store lies."""

    def run(name: str) -> Path:
        store = workplace / f"{name}.zarr"
        if not store.exists():
            changes = [word for change in SMALLER.get(name, ()) for word in ("--set", change)]
            command = [
                sys.executable,
                "-W",
                "error",
                "-m",
                "featpipe",
                "run",
                str(workplace / f"{name}.yaml"),
                *changes,
            ]
            done = subprocess.run(command, cwd=workplace.parent, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert store.name in done.stdout
        return store

    return run


def test_every_pipeline_file_is_tried_here() -> None:
    assert {file.stem for file in PIPELINES.glob("*.yaml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_a_pipeline_runs_as_it_is(name: str, make_store: Callable[[str], Path]) -> None:
    root = zarr.open_group(make_store(name), mode="r")
    for group, shape in SHAPES[name].items():
        values = np.asarray(root[f"{group}/features"])
        assert values.shape == shape
        assert np.isfinite(values).all()
        if name in HISTOGRAMS:
            assert (values.sum(axis=-1, dtype=np.float64) == HISTOGRAMS[name]).all()
        else:
            assert (values.reshape(-1, shape[-1]).std(axis=0) > 0).all(), f"{group} has a constant feature"


@pytest.mark.parametrize("name", SHAPES)
def test_a_pipeline_opens_with_what_it_is_for_and_its_source(name: str) -> None:
    comment = [
        line.removeprefix("#").strip()
        for line in (PIPELINES / f"{name}.yaml").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    ]
    assert len(comment) >= 3
    assert any(year in " ".join(comment) for year in map(str, range(1960, 2030)))


def test_the_quickstart_tells_textures_apart(workplace: Path, make_store: Callable[[str], Path]) -> None:
    score = runpy.run_path(str(workplace / "classify.py"))["score"]
    accuracy, chance = score(str(make_store("quickstart")))
    assert chance == pytest.approx(1 / 3)
    assert accuracy > 0.9


def test_example_patches_for_training_and_testing_share_no_pixel(workplace: Path) -> None:
    from skimage import data

    for texture in ("brick", "grass", "gravel"):
        folders = [workplace / "images" / split / texture for split in ("train", "test")]
        halves = [[iio.imread(file) for file in sorted(folder.iterdir())] for folder in folders]
        picture = np.concatenate(
            [np.concatenate(patches[i : i + 8], axis=1) for patches in halves for i in range(0, 32, 8)]
        )
        np.testing.assert_array_equal(picture, getattr(data, texture)())


def test_the_quickstart_knows_labels_and_splits(make_store: Callable[[str], Path]) -> None:
    stack = featpipe.open(make_store("quickstart"))
    for split in ("train", "test"):
        X, y = stack.xy(split=split)
        assert X.shape == (96, 2 * 2 * 2 * 18)
        assert np.bincount(y).tolist() == [32, 32, 32]


def test_the_readme_reads_it_back(
    workplace: Path, make_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (PIPELINES.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    make_store("quickstart")
    monkeypatch.chdir(workplace.parent)
    array = iio.imread(workplace / "images" / "train" / "brick" / "00.png")[None]
    names: dict[str, Any] = {"array": array}
    exec(code, names)
    assert names["X"].shape == (96, 144)
    assert names["X"].dtype == np.float32
    assert names["y"].dtype == np.int64
    ours = featpipe.extract(array, workplace / "quickstart.yaml")["texture/scale2"]
    row = list(featpipe.open("pipelines/quickstart.zarr").paths).index("train/brick/00.png")
    np.testing.assert_array_equal(names["stack"]["texture/scale2"][row], ours[0])


def test_pixel_features_are_scipys(workplace: Path, make_store: Callable[[str], Path]) -> None:
    root = zarr.open_group(make_store("pixel-features"), mode="r")
    gray = iio.imread(workplace / "photos" / "camera.png") / 255
    for i, sigma in enumerate((1, 2, 4, 8)):
        for branch, function in (
            ("intensity", ndimage.gaussian_filter),
            ("gradient", ndimage.gaussian_gradient_magnitude),
            ("blobs", ndimage.gaussian_laplace),
        ):
            found = np.asarray(root[f"images/1/{branch}/scale1/features"])[..., i]
            np.testing.assert_allclose(found, function(gray, sigma, mode="mirror"), rtol=1e-3, atol=1e-4)
