"""``featpipe export`` as it is typed, and the pyramids that real runs make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featpipe.exports import omezarr
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.spec.load import parse_pipeline
from featpipe.stack import Stack, open_stack

GABOR = {"convolve": {"bank": "gabor", "frequencies": [0.1, 0.3], "orientations": 2, "padding": "reflect"}}
BRANCHES: dict[str, Any] = {
    "texture": {"scales": [1, 2, 4], "layers": [GABOR, "modulus", {"pool": {"mean": 2}}]},
    "valid": {"scales": [1, 4], "layers": [{"convolve": {"bank": "box", "size": 15}}]},
    "cells": {"layers": [GABOR, "modulus", {"pool": {"mean": {"grid": [2, 2]}}}]},
}


def extract(folder: Path, shape: tuple[int, ...], branches: dict[str, Any], **images: Any) -> Stack:
    """Return the features of images of noise."""
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    store = str(folder / f"{'-'.join(branches)}.zarr")
    data = {"images": {"path": str(folder / "images.npy"), **images}, "features": branches, "store": {"path": store}}
    run_plan(plan_run(parse_pipeline(data), default_resources(1 << 30, 1)))
    return open_stack(store)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return extract(tmp_path_factory.mktemp("large"), (1, 121, 164), BRANCHES)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return extract(tmp_path_factory.mktemp("several"), (5, 20, 24), {"texture": BRANCHES["texture"]})


def read(path: Path) -> tuple[list[Any], dict[str, Any]]:
    """Return the levels of an OME-Zarr, and its metadata."""
    group = zarr.open_group(path, mode="r")
    facts: Any = group.attrs["ome"]
    levels: list[Any] = [group[one["path"]] for one in facts["multiscales"][0]["datasets"]]
    return [np.asarray(one[...]) for one in levels], dict(facts)


def test_the_scales_of_a_branch_become_the_levels_of_a_pyramid(large: Stack, tmp_path: Path, featpipe: Any) -> None:
    file = tmp_path / "texture.ome.zarr"
    done = featpipe("export", large.path, "-o", file, "--select", "branch=texture", "--select", "frequency=0.3")
    assert done.code == 0, done.err
    assert "image 0, 60 × 82 × 2 features, 3 levels of texture/scale1, texture/scale2, texture/scale4" in done.out
    levels, facts = read(file)
    chosen = large.select(branch="texture", frequency=0.3)
    datasets = facts["multiscales"][0]["datasets"]
    for name, level, dataset in zip(chosen.maps, levels, datasets, strict=True):
        np.testing.assert_array_equal(level, np.moveaxis(chosen[name][0], -1, 0))
        y, x = chosen[name].y, chosen[name].x
        scale, translation = (one[one["type"]] for one in dataset["coordinateTransformations"])
        for axis, centres in enumerate((y, x), 1):
            at = translation[axis] + scale[axis] * np.arange(level.shape[axis])
            np.testing.assert_array_equal(at, centres)
    assert facts["multiscales"][0]["type"] == "scales"
    assert [channel["label"] for channel in facts["omero"]["channels"]] == [
        f"gabor frequency=0.3 orientation={angle} channel=gray" for angle in (0, 90)
    ]


def test_scales_that_cover_another_field_are_left_out_and_told(large: Stack, tmp_path: Path, featpipe: Any) -> None:
    done = featpipe("export", large.path, "-o", tmp_path / "a.ome.zarr", "--select", "branch=valid")
    assert "left out valid/scale4: it covers 26 to 94 px of y, valid/scale1 6.5 to 113.5 px" in done.out
    assert len(read(tmp_path / "a.ome.zarr")[0]) == 1


def test_one_map_gets_levels_of_its_means(
    large: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, featpipe: Any
) -> None:
    for name, value in (("SMALLEST", 32), ("CHUNK", 16), ("BLOCK_BYTES", 1 << 14)):
        monkeypatch.setattr(omezarr, name, value)
    featpipe("export", large.path, "-o", tmp_path / "a.ome.zarr", "--map", "texture/scale1")
    levels, facts = read(tmp_path / "a.ome.zarr")
    one = large["texture/scale1"]
    expected = np.moveaxis(one[0], -1, 0)
    np.testing.assert_array_equal(levels[0], expected)
    assert [level.shape[1:] for level in levels] == [(60, 82), (30, 41), (15, 20)]
    for number, level in enumerate(levels[1:], 1):
        height, width = level.shape[1:]
        quarters = [expected[:, i : 2 * height : 2, j : 2 * width : 2] for i in (0, 1) for j in (0, 1)]
        expected = np.mean(quarters, axis=0)
        np.testing.assert_allclose(level, expected, rtol=1e-5)
        scale, translation = facts["multiscales"][0]["datasets"][number]["coordinateTransformations"]
        assert scale["scale"] == [1.0, 2.0 * 2**number, 2.0 * 2**number]
        centre = one.y[: 2**number].mean()
        assert translation["translation"] == [0.0, centre, centre]


def test_the_field_of_a_region_lies_where_it_lies_in_the_image(tmp_path: Path, featpipe: Any) -> None:
    stack = extract(
        tmp_path, (1, 60, 70), {"b": BRANCHES["valid"] | {"scales": [1]}}, region={"y": [8, 48], "x": [30, 70]}
    )
    featpipe("export", stack.path, "-o", tmp_path / "a.ome.zarr")
    (_, translation) = read(tmp_path / "a.ome.zarr")[1]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert translation["translation"] == [0.0, stack["b/scale1"].y[0], stack["b/scale1"].x[0]]
    assert translation["translation"][1:] != [7.0, 7.0]


def test_a_table_is_exported_from_the_command_line(several: Stack, tmp_path: Path, featpipe: Any) -> None:
    file = tmp_path / "a.npz"
    done = featpipe("export", several.path, "-o", file, "--map", "texture/scale2", "--map", "texture/scale1")
    chosen = several.select(map=["texture/scale1", "texture/scale2"])
    X, _ = chosen.xy()
    assert done.out.startswith(f"wrote {file}: 5 images × {X.shape[1]} features of texture/scale1, texture/scale2 (")
    with np.load(file) as found:
        np.testing.assert_array_equal(found["X"], X)
    again = featpipe("export", several.path, "-o", file)
    assert (again.code, "exists already" in again.err) == (2, True)
    options = ("--overwrite", "--json", "--quiet", "--select", "scale=[2, 4]", "--select", "orientation=0")
    facts = json.loads(featpipe("export", several.path, "-o", file, *options).out)
    assert facts["maps"] == ["texture/scale2", "texture/scale4"]
    assert facts["features"] == several.select(scale=[2, 4], orientation=0).xy()[0].shape[1]
    assert facts["left_out"] == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--select", "frequency"), "is not of the form label=value. Write it as --select frequency=0.2"),
        (("--select", "frequenzy=0.1"), "Did you mean frequency?"),
        (("--select", "frequency=[0.1"), "--select frequency:"),
        (("--map", "texture/scale3"), "Did you mean texture/scale"),
        (("--split", "train"), "Its images are not split"),
        (("--format", "csv"), "There are npz, parquet, anndata, ome-zarr"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    several: Stack, tmp_path: Path, featpipe: Any, options: tuple[str, ...], words: str
) -> None:
    done = featpipe("export", several.path, "-o", tmp_path / "a.npz", *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.argv[0] = "featpipe"
from featpipe.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows does not limit the size of files")
@pytest.mark.parametrize("name", ["a.npz", "a.parquet", "a.ome.zarr"])  # HDF5 crashes then; so its room is looked for
def test_a_disk_that_takes_no_more_is_told_and_left_clean(several: Stack, tmp_path: Path, name: str) -> None:
    choice = ("--image", "2", "--map", "texture/scale1") if name == "a.ome.zarr" else ()
    command = [sys.executable, "-c", LIMITED, "export", several.path, "-o", str(tmp_path / name), "--quiet", *choice]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert f"{name}: cannot be written: " in done.stderr
    assert "File too large" in done.stderr
    assert not list(tmp_path.iterdir())
