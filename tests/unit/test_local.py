"""Locally connected layers: kernels of their own at every position."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from safetensors.numpy import save_file

import featpipe
from featpipe.chain.execute import run_schedule, run_whole
from featpipe.errors import FeatpipeError
from featpipe.geometry.axis import Span
from featpipe.kernels.positions import LARGEST_LOCAL, LocalShape, SeededKernels
from featpipe.plan.budget import Resources
from featpipe.plan.program import ROOT
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import make_schedule
from featpipe.report.plan import plan_facts
from featpipe.run import plan_run, run_plan
from featpipe.spec.defaults import resolved
from featpipe.spec.load import load_pipeline, parse_pipeline

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)


def spec(*layers: Any) -> dict[str, Any]:
    return {"features": {"a": {"layers": list(layers)}}}


def extract(images: Array, *layers: Any) -> Array:
    found: Array = featpipe.extract(images, spec(*layers))["a/scale1"]
    return found


def refusal(images: Array, *layers: Any) -> str:
    with pytest.raises(FeatpipeError) as caught:
        featpipe.extract(images, spec(*layers))
    return str(caught.value)


def reference(image: Array, weights: Array, stride: int = 1, bias: Array | float = 0.0) -> Array:
    """Correlate window (i, j) with weights[i, j], in float64."""
    windows = sliding_window_view(image.astype(np.float64), weights.shape[3:5], axis=(0, 1))[::stride, ::stride]
    answer: Array = np.einsum("yxcuv,yxkuvc->yxk", windows, weights.astype(np.float64)) + bias
    return answer


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
@pytest.mark.parametrize(("stride", "channels"), [(1, 3), (2, 1)])
def test_weights_of_a_file_act_where_they_belong(suffix: str, stride: int, channels: int, tmp_path: Path) -> None:
    images = RNG.random((3, 11, 9, channels), np.float32)
    rows, cols = len(range(0, 9, stride)), len(range(0, 6, stride))
    weights, bias = RNG.standard_normal((rows, cols, 5, 3, 4, channels)), RNG.standard_normal((rows, cols, 5))
    place = str(tmp_path / f"w.{suffix}")
    if suffix == "npy":
        np.save(place, weights)
    elif suffix == "npz":
        np.savez(place, weights=weights)
    else:
        save_file({"weights": weights}, place)
    np.save(tmp_path / "bias.npy", bias)
    kernels = place if suffix == "npy" else f"{place}:weights"
    layer = {"local": {"kernels": kernels, "stride": stride, "bias": str(tmp_path / "bias.npy")}}
    got = extract(images, layer)
    for n in range(3):
        np.testing.assert_allclose(got[n], reference(images[n], weights, stride, bias), rtol=1e-5, atol=1e-5)


def test_equal_kernels_everywhere_are_a_convolution(tmp_path: Path) -> None:
    images = RNG.random((2, 12, 10, 3), np.float32)
    kernels = RNG.standard_normal((4, 3, 3, 3))
    np.save(tmp_path / "w.npy", np.broadcast_to(kernels, (12, 10, *kernels.shape)))
    layer = {"kernels": str(tmp_path / "w.npy"), "padding": "reflect", "bias": [1, 2, 3, 4]}
    want = extract(images, {"convolve": {**layer, "kernels": kernels.tolist()}})
    np.testing.assert_allclose(extract(images, {"local": layer}), want, rtol=1e-5, atol=1e-5)


def test_random_kernels_depend_on_seed_and_position_alone() -> None:
    shape = LocalShape(3, (2, 2), 4)
    large, small = SeededKernels(shape, 5).over((6, 7)), SeededKernels(shape, 5).over((2, 3))
    np.testing.assert_array_equal(large[:2, :3], small)
    assert not np.array_equal(small, SeededKernels(shape, 6).over((2, 3)))
    assert len(np.unique(large)) == large.size
    many = SeededKernels(LocalShape(8, (3, 3), 2), 0).over((30, 30))
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - np.sqrt(2 / 18)) < 0.01


def test_drawn_kernels_do_not_travel() -> None:
    kernels = SeededKernels(LocalShape(8, (3, 3), 3), 7)
    drawn = kernels.over((40, 40))
    sent = pickle.dumps(kernels)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).over((40, 40)), drawn)


@pytest.mark.parametrize("given", [False, True])
def test_a_block_takes_its_own_slice_of_the_weights(given: bool, tmp_path: Path) -> None:
    image = RNG.random((1, 40, 33, 2), np.float32)
    kernels: Any = {"fit": "random", "kernels": 5, "size": 3, "seed": 1}
    if given:
        kernels = str(tmp_path / "w.npy")
        np.save(kernels, RNG.standard_normal((20, 17, 5, 3, 3, 2)))
    layers = [
        {"local": {"kernels": kernels, "stride": 2, "padding": "same"}},
        {"activate": "relu"},
        {"pool": {"max": 2}},
    ]
    program = make_program(parse_pipeline(spec(*layers)).features, ("a", "b"))
    node = program.outputs[0].node
    whole = run_whole(program, image)[node]
    for y in (Span(0, 3), Span(4, 9), Span(9, 10)):
        for x in (Span(0, 8), Span(5, 6)):
            schedule = make_schedule(program, (40, 33), {node: (y, x)})
            need = schedule.needs[ROOT]
            region = image[:, slice(*need[0]), slice(*need[1])]
            ((_, values),) = run_schedule(program, schedule, {ROOT: region})
            np.testing.assert_array_equal(values, whole[:, slice(*y), slice(*x)])


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"kernels": "{}/w.npy"}, "has kernels for 9×7 positions, but its 12×9 input has 10×7. Set images.size"),
        ({"kernels": "{}/c.npy"}, "local.kernels: the kernels span 2 channels, but 1 features come in"),
        ({"kernels": "{}/k.npy"}, "has 3 dimensions. Save (oy, ox, k, y, x, c)"),
        ({"kernels": "{}/gone.npy"}, "local.kernels: there is no file"),
        ({"kernels": [1]}, "local.kernels: must be a .npy file"),
        ({"kernels": {"fit": "kmeans", "kernels": 2}}, "local.kernels.fit: must be one of random"),
        ({"kernels": {"kernels": 2}}, "local.kernels.fit: is missing"),
        ({"kernels": {"fit": "random", "kernels": 2, "sizes": 3}}, "kernels.sizes: unknown key. Did you mean size?"),
        ({"kernels": {"fit": "random", "kernels": 2}, "dilation": 2}, "local.dilation: unknown key"),
        ({"kernels": {"fit": "random", "kernels": 2}, "bias": [1, 2, 3]}, "has 3 values for 2 kernels"),
        ({"kernels": {"fit": "random", "kernels": 2}, "names": ["a", "b"]}, "random kernels have numbers for names"),
        ({"kernels": {"fit": "random", "kernels": 2}, "bias": "{}/k.npy"}, "has 2 values for 2 kernels"),
        ({"kernels": {"fit": "random", "kernels": 2, "size": 13}}, "window 13 px exceeds its 12×9 input"),
        ({"kernels": "{}/w.npy", "names": ["a"]}, "local.names: gives 1 for 2 kernels"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(layer: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((9, 7, 2, 3, 3, 1)))
    np.save(tmp_path / "c.npy", np.ones((10, 7, 2, 3, 3, 2)))
    np.save(tmp_path / "k.npy", np.ones((2, 3, 3)))
    if layer.get("bias") == "{}/k.npy":
        words = "has 3 values for 2 kernels"
    filled = {key: value.format(tmp_path) if isinstance(value, str) else value for key, value in layer.items()}
    assert words in refusal(np.ones((1, 12, 9), np.float32), {"local": filled})


def test_more_than_a_gibibyte_of_weights_is_refused(tmp_path: Path) -> None:
    drawn = {"fit": "random", "kernels": 64, "size": 9}
    said = refusal(np.ones((1, 300, 300), np.float32), {"local": {"kernels": drawn}})
    assert "kernels for 292×292 positions take 1686 MiB, 1024 at most. Pool before it" in said
    header = {"descr": "<f4", "fortran_order": False, "shape": (300, 300, 64, 9, 9, 1)}
    with (tmp_path / "w.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    said = refusal(np.ones((1, 308, 308), np.float32), {"local": {"kernels": str(tmp_path / "w.npy")}})
    assert "300×300×64×9×9×1 values take 1780 MiB, 1024 at most" in said
    assert LARGEST_LOCAL == 2**30


def test_a_file_of_it_is_read_again_as_written(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((9, 7, 2, 3, 3, 1)))
    text = """
images: {path: photos}
features:
  a: {layers: [{local: {kernels: w.npy, names: [one, two], padding: reflect}}]}
  b: {layers: [{local: {kernels: {fit: random, kernels: 2}, bias: [1, 2]}}]}
"""
    (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
    pipeline, _ = load_pipeline(tmp_path / "pipeline.yaml")
    layer: Any = pipeline.features["a"].layers[0]
    assert layer.local.kernels == str(tmp_path / "w.npy")
    assert parse_pipeline(json.loads(json.dumps(resolved(pipeline)))) == pipeline
    program = make_program({"a": pipeline.features["a"]}, ("gray",))
    assert [labels["kernel"] for labels in program.nodes[0].features] == ["one", "two"]


# -- whole runs --------------------------------------------------------------------------------------------------------


def photos(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, size in enumerate(sizes):
        Image.fromarray(RNG.integers(0, 256, size, np.uint8)).save(folder / f"{i}.png")
    return folder


def run(tmp_path: Path, layers: list[Any], **store: Any) -> Any:
    pipeline = {
        "images": {"path": str(tmp_path / "photos")},
        "features": {"a": {"layers": layers}},
        "store": {"path": str(tmp_path / "out.zarr"), **store},
    }
    plan = plan_run(parse_pipeline(pipeline), Resources(1 << 30, 2, 0))
    run_plan(plan)
    return plan


LAYERS = [{"local": {"kernels": {"fit": "random", "kernels": 3, "size": 5}, "padding": "same"}}]


def test_a_run_in_blocks_or_batches_stores_what_extract_gives(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", (64, 48), (64, 48), (64, 48))
    images = np.stack([np.asarray(Image.open(folder / f"{i}.png")) for i in range(3)])
    want = extract(images, *LAYERS)
    pieces: dict[str, dict[str, Any]] = {"block": {"block": [16, 32]}, "batch": {"batch": 2}}
    for name, store in pieces.items():
        store["path"] = str(tmp_path / f"{name}.zarr")
        run(tmp_path, LAYERS, **store)
        stack = featpipe.open(tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(stack["a/scale1"][:], want)


def test_the_plan_sets_its_parameters_beside_a_convolutions(tmp_path: Path) -> None:
    photos(tmp_path / "photos", (64, 48))
    convolve = {"convolve": {"bank": {"fit": "random", "kernels": 3, "size": 5}, "padding": "same"}}
    plan = run(tmp_path, [convolve, *LAYERS])
    first, second = plan_facts(plan)["branches"][0]["layers"]
    assert first["parameters"] == 3 * 5 * 5
    assert second["parameters"] == 64 * 48 * 3 * 5 * 5 * 3
    assert second["parameters_shared"] == 3 * 5 * 5 * 3
    assert second["flop_per_image"] == 2 * second["parameters"]
    assert plan.memory.base >= 4 * second["parameters"]


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    photos(tmp_path / "photos", (64, 48), (64, 50))
    with pytest.raises(FeatpipeError, match=r"local: needs images of one size, and these have 2 \(64×48, 64×50 px\)"):
        run(tmp_path, LAYERS)


def test_images_of_another_size_than_the_weights_are_skipped_and_told(tmp_path: Path) -> None:
    photos(tmp_path / "photos", (20, 18), (20, 19), (20, 18))
    np.save(tmp_path / "w.npy", np.ones((18, 16, 2, 3, 3, 1)))
    run(tmp_path, [{"local": {"kernels": str(tmp_path / "w.npy")}}])
    stack = featpipe.open(tmp_path / "out.zarr")
    assert stack.ok.tolist() == [True, False, True]


def test_other_weights_in_the_same_file_are_another_store(tmp_path: Path) -> None:
    photos(tmp_path / "photos", (20, 18))
    np.save(tmp_path / "w.npy", np.ones((18, 16, 2, 3, 3, 1)))
    layers = [{"local": {"kernels": str(tmp_path / "w.npy")}}]
    run(tmp_path, layers)
    np.save(tmp_path / "w.npy", np.full((18, 16, 2, 3, 3, 1), 2.0))
    with pytest.raises(FeatpipeError, match=r"out\.zarr"):
        run(tmp_path, layers)
