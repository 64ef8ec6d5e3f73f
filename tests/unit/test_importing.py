"""Weights of other libraries: whole stacks from a state_dict, kernels and biases from safetensors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file
from scipy import signal

import featpipe
from featpipe.chain.execute import run_schedule, run_whole
from featpipe.errors import FeatpipeError
from featpipe.geometry.axis import Span
from featpipe.kernels import imported
from featpipe.plan.budget import Resources
from featpipe.plan.program import ROOT
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import make_schedule
from featpipe.run import plan_run, run_plan
from featpipe.spec.defaults import resolved
from featpipe.spec.load import load_pipeline, parse_pipeline

Array = npt.NDArray[Any]
State = dict[str, Array]
RGB = ("red", "green", "blue")
PLAN: list[Any] = [3, 4, 5, "pool", 6, "pool", 7]
"""Channels of a small VGG: two convolutions, a pooling, one, a pooling, one."""


def make_vgg(*, norm: bool, prefix: str = "features", seed: int = 0) -> tuple[State, list[Any]]:
    """Return a state_dict as torchvision's VGG makes it, and its modules in order as (kind, weights...)."""
    rng = np.random.default_rng(seed)
    state: State = {}
    modules: list[Any] = []
    inputs = int(PLAN[0])
    for step in PLAN[1:]:
        if isinstance(step, str):
            modules.append(("pool",))
            continue
        here = f"{prefix}.{len(modules)}"
        scale = np.sqrt(2 / (9 * inputs))
        state[f"{here}.weight"] = (rng.standard_normal((step, inputs, 3, 3)) * scale).astype(np.float32)
        state[f"{here}.bias"] = rng.standard_normal(step).astype(np.float32) / 4
        modules.append(("conv", state[f"{here}.weight"], state[f"{here}.bias"]))
        if norm:
            here = f"{prefix}.{len(modules)}"
            parts = [rng.standard_normal(step), rng.standard_normal(step), rng.standard_normal(step), rng.random(step)]
            names = ["weight", "bias", "running_mean", "running_var"]
            state |= {f"{here}.{name}": part.astype(np.float32) for name, part in zip(names, parts, strict=True)}
            state[f"{here}.num_batches_tracked"] = np.array(7)
            modules.append(("norm", *(state[f"{here}.{name}"] for name in names)))
        modules.append(("relu",))
        inputs = step
    return state, modules


def follow(modules: list[Any], x: Array) -> list[Array]:
    """Return the map after every module, (c, y, x) float64, by SciPy and NumPy."""
    maps = []
    for kind, *weights in modules:
        values = [w.astype(np.float64) for w in weights]
        if kind == "conv":
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
            x = np.stack([signal.correlate(padded, kernel, "valid")[0] for kernel in values[0]])
            x = x + values[1][:, None, None]
        elif kind == "norm":
            gamma, beta, mean, variance = (one[:, None, None] for one in values)
            x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        elif kind == "relu":
            x = np.maximum(x, 0)
        else:
            y, w = x.shape[1] // 2, x.shape[2] // 2
            x = x[:, : 2 * y, : 2 * w].reshape(-1, y, 2, w, 2).max((2, 4))
        maps.append(x)
    return maps


def extract(image: Array, *layers: Any) -> dict[str, Array]:
    return featpipe.extract(image[None], {"features": {"a": {"layers": list(layers)}}})


def refusal(*layers: Any, channels: tuple[str, ...] = RGB) -> str:
    with pytest.raises(FeatpipeError) as caught:
        make_program(parse_pipeline({"features": {"a": {"layers": list(layers)}}}).features, channels)
    return str(caught.value)


@pytest.fixture
def image() -> Array:
    return np.random.default_rng(1).random((26, 21, 3), np.float32)


@pytest.mark.parametrize("norm", [False, True])
def test_every_tap_of_a_vgg_is_what_scipy_gives(norm: bool, image: Array, tmp_path: Path) -> None:
    state, modules = make_vgg(norm=norm)
    save_file(state, tmp_path / "vgg.safetensors")
    expected = follow(modules, image.transpose(2, 0, 1).astype(np.float64))
    last = len(modules) - 1
    tapped = [i for i, (kind, *_) in enumerate(modules) if i < last and not (norm and kind == "conv")]
    taps = {i: f"m{i}" for i in tapped}
    stack = {"file": str(tmp_path / "vgg.safetensors"), "prefix": "features", "taps": taps}
    maps = extract(image, {"import": stack})
    assert set(maps) == {"a/scale1", *(f"a/m{i}/scale1" for i in tapped)}
    for i, name in {**{i: f"a/m{i}/scale1" for i in tapped}, last: "a/scale1"}.items():
        np.testing.assert_allclose(maps[name][0].transpose(2, 0, 1), expected[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [False, True])
def test_the_stack_ends_before_until(norm: bool, image: Array, tmp_path: Path) -> None:
    state, modules = make_vgg(norm=norm, prefix="net.body")
    save_file(state, tmp_path / "vgg.safetensors")
    expected = follow(modules, image.transpose(2, 0, 1).astype(np.float64))
    for until in range(1, len(modules) + 1):
        stack = {"file": str(tmp_path / "vgg.safetensors"), "prefix": "net.body", "until": until}
        got = extract(image, {"import": stack})["a/scale1"][0].transpose(2, 0, 1)
        np.testing.assert_allclose(got, expected[until - 1], rtol=1e-4, atol=1e-4)


def test_a_vgg_is_pytorchs(image: Array, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    parts: list[Any] = []
    for inputs, outputs in [(3, 8), (8, 16)]:
        parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*parts).eval()
    for norm in (net[1], net[5]):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.weight)
    state = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in net.state_dict().items()}
    save_file(state, tmp_path / "net.safetensors")
    maps = extract(image, {"import": {"file": str(tmp_path / "net.safetensors"), "until": 8, "taps": {"3": "pool1"}}})
    with torch.no_grad():
        x = torch.tensor(image.transpose(2, 0, 1)[None])
        for name, module in (("a/pool1/scale1", net[:4]), ("a/scale1", net)):
            np.testing.assert_allclose(maps[name][0].transpose(2, 0, 1), module(x)[0].numpy(), rtol=1e-4, atol=1e-5)


def test_activation_pooling_padding_and_epsilon_are_as_asked(image: Array, tmp_path: Path) -> None:
    state, modules = make_vgg(norm=True)
    save_file(state, tmp_path / "vgg.safetensors")
    stack = {
        "file": str(tmp_path / "vgg.safetensors"),
        "prefix": "features",
        "until": 7,
        "activation": "abs",
        "pool": {"mean": 2},
        "padding": "reflect",
        "epsilon": 0.5,
    }
    x = image.transpose(2, 0, 1).astype(np.float64)
    for kind, *weights in modules[:7]:
        values = [w.astype(np.float64) for w in weights]
        if kind == "conv":
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), "reflect")
            x = np.stack([signal.correlate(padded, kernel, "valid")[0] for kernel in values[0]])
            x = x + values[1][:, None, None]
        elif kind == "norm":
            gamma, beta, mean, variance = (one[:, None, None] for one in values)
            x = (x - mean) / np.sqrt(variance + 0.5) * gamma + beta
        elif kind == "relu":
            x = np.abs(x)
        else:
            x = x[:, :26, :20].reshape(-1, 13, 2, 10, 2).mean((2, 4))
    got = extract(image, {"import": stack})["a/scale1"][0].transpose(2, 0, 1)
    np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-4)


def test_a_stack_becomes_ordinary_layers_with_labels(tmp_path: Path) -> None:
    state, _ = make_vgg(norm=True)
    save_file(state, tmp_path / "vgg.safetensors")
    stack = {"file": str(tmp_path / "vgg.safetensors"), "prefix": "features", "until": 7, "taps": {2: "first"}}
    layers = [{"import": stack}, {"pool": {"mean": "global"}}]
    program = make_program(parse_pipeline({"features": {"a": {"scales": [1, 2], "layers": layers}}}).features, RGB)
    titles = [node.title for node in program.nodes if node.title != "halve to 1/2"]
    one = ["convolve imported 0 3×3", "activate relu", "convolve imported 3 3×3", "activate relu", "pool max 2×2"]
    assert titles == [*one, "pool mean global"] * 2
    assert [output.name for output in program.outputs] == ["a/first/scale1", "a/scale1", "a/first/scale2", "a/scale2"]
    assert program.features(program.outputs[1].node)[2] == {"bank": "imported", "module": 3, "kernel": 2}


def test_any_block_of_a_stack_equals_the_same_part_of_the_whole(image: Array, tmp_path: Path) -> None:
    state, _ = make_vgg(norm=True)
    save_file(state, tmp_path / "vgg.safetensors")
    stack = {"file": str(tmp_path / "vgg.safetensors"), "prefix": "features", "until": 14, "taps": {8: "eight"}}
    program = make_program(parse_pipeline({"features": {"a": {"layers": [{"import": stack}]}}}).features, RGB)
    whole = run_whole(program, image[None])
    first, last = (output.node for output in program.outputs)
    wants = {first: (Span(3, 9), Span(0, 4)), last: (Span(2, 5), Span(1, 3))}
    schedule = make_schedule(program, (26, 21), wants)
    y, x = schedule.needs[ROOT]
    for node, values in run_schedule(program, schedule, {ROOT: image[None, slice(*y), slice(*x)]}):
        rows, cols = wants[node]
        np.testing.assert_array_equal(values, whole[node][:, slice(*rows), slice(*cols)])


def test_a_run_stores_the_stack_and_its_taps_and_knows_other_weights(image: Array, tmp_path: Path) -> None:
    state, _ = make_vgg(norm=False)
    save_file(state, tmp_path / "vgg.safetensors")
    np.save(tmp_path / "images.npy", image[None])
    stack = {"file": str(tmp_path / "vgg.safetensors"), "prefix": "features", "taps": {3: "conv2"}}
    data = {
        "images": {"path": str(tmp_path / "images.npy")},
        "features": {"vgg": {"layers": [{"import": stack}]}},
        "store": {"path": str(tmp_path / "out.zarr")},
    }
    pipeline = parse_pipeline(data)
    assert run_plan(plan_run(pipeline, Resources(1 << 30, 1, 0))).status == "complete"
    opened = featpipe.open(tmp_path / "out.zarr")
    for name, values in featpipe.extract(image[None], data).items():
        np.testing.assert_array_equal(opened[name][:], values)
    assert run_plan(plan_run(pipeline, Resources(1 << 30, 1, 0))).status == "unchanged"
    state["features.0.bias"] += 1
    save_file(state, tmp_path / "vgg.safetensors")
    with pytest.raises(FeatpipeError, match=r"out\.zarr"):
        run_plan(plan_run(pipeline, Resources(1 << 30, 1, 0)))


def test_a_pipeline_file_names_its_weights_from_where_it_stands(tmp_path: Path) -> None:
    state, _ = make_vgg(norm=False)
    save_file(state, tmp_path / "vgg.safetensors")
    text = """
images: {path: photos}
features:
  vgg:
    layers:
      - import: {file: vgg.safetensors, prefix: features, until: 5, taps: {1: relu1}}
"""
    (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
    pipeline, _ = load_pipeline(tmp_path / "pipeline.yaml")
    layer: Any = pipeline.features["vgg"].layers[0]
    assert layer.imported.file == str(tmp_path / "vgg.safetensors")
    assert layer.imported.taps == {1: "relu1"}
    again = json.loads(json.dumps(resolved(pipeline)))
    assert parse_pipeline(again) == pipeline


def saved(tmp_path: Path, state: State) -> str:
    path = tmp_path / "net.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, path)
    return str(path)


def conv(outputs: int, inputs: int, edge: int = 3) -> Array:
    return np.ones((outputs, inputs, edge, edge), np.float32)


@pytest.mark.parametrize(
    ("state", "options", "words"),
    [
        ({"a.0.weight": conv(2, 3)}, {"prefix": "features"}, ["features.N.weight", "prefixes of sequences: 'a'"]),
        ({"0.weight": conv(2, 3), "2.weight": conv(4, 5)}, {}, ["module 2 span 5 channels, but 2", "until: 2 at most"]),
        ({"0.weight": conv(2, 4)}, {}, ["module 0", "spans 4 channels, but 3 features"]),
        ({"0.weight": conv(2, 3), "2.weight": np.ones((9, 8))}, {}, ["module 2 is a linear layer: its weight is 9×8"]),
        ({"0.weight": conv(2, 3), "4.weight": conv(2, 2)}, {}, ["modules 0 and 4 stand 3", "until: 3 at most"]),
        ({"0.weight": np.ones((9, 8))}, {}, ["module 0 is a linear layer", "Give the prefix of the convolutions."]),
        ({"0.weight": conv(2, 3)}, {"until": 9}, ["module 0 and until, 9, stand 8"]),
        ({"4.weight": conv(2, 3)}, {"until": 3}, ["first module with weights is 4", "Raise until"]),
        ({"0.weight": conv(2, 3), "0.weight_g": np.ones(2)}, {}, ["module 0 is no convolution: it holds weight_g"]),
        ({"0.weight": conv(2, 3), "0.bias": np.ones(3)}, {}, ["0.bias has 3 values for 2 kernels"]),
        ({"0.weight": conv(2, 3) * np.nan}, {}, ["0.weight", "18 of 54 values are not finite"]),
        ({"0.weight": conv(2, 3) > 0}, {}, ["0.weight holds truth values", ".float()"]),
        ({"0.weight": np.ones((2, 3, 3, 3, 3))}, {}, ["module 0 is no 2-D convolution: its weight is 2×3×3×3×3"]),
        (
            {"0.weight": conv(2, 3), "2.running_mean": np.ones(2), "2.running_var": np.ones(2)},
            {},
            ["batch norm, module 2, does not follow a convolution directly"],
        ),
        ({"0.running_mean": np.ones(2)}, {}, ["module 0 is a batch norm that follows no convolution"]),
        (
            {"0.weight": conv(2, 3), "1.running_mean": np.ones(2), "1.running_var": -np.ones(2)},
            {},
            ["1.running_var has -1"],
        ),
        ({"0.weight": conv(2, 3)}, {"taps": {1: "a", 2: "b"}}, ["taps.2: the stack has no module 2; it has 0 to 1"]),
        ({"0.weight": conv(2, 3)}, {"taps": {1: "a"}}, ["'a' is the last map of the branch"]),
        (
            {"0.weight": conv(2, 3), "1.running_mean": np.ones(2), "1.running_var": np.ones(2)},
            {"taps": {0: "a"}},
            ["the batch norm after module 0 is folded into it. Write 1: a."],
        ),
    ],
)
def test_what_is_no_stack_is_refused_in_words(state: State, options: Any, words: list[str], tmp_path: Path) -> None:
    if "18 of 54" in "".join(words):
        state["0.weight"][:] = 1
        state["0.weight"][0, :, :, 1:] = np.nan
    said = refusal({"import": {"file": saved(tmp_path, state), **options}})
    assert not [word for word in words if word not in said], said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"file": "gone.safetensors"}, ["import.file: there is no file"]),
        ({"file": "net.pth"}, ["import.file: must be a whole .safetensors file, got 'net.pth'"]),
        ({"file": "net.safetensors:a"}, ["import.file: must be a whole .safetensors file"]),
        ({}, ["import.file: is missing"]),
        ({"file": "x.safetensors", "prefx": "a"}, ["import.prefx: unknown key. Did you mean prefix?"]),
        ({"file": "x.safetensors", "taps": {"pool1": 4}}, ["taps.pool1: must be the index of a module"]),
        ({"file": "x.safetensors", "until": 3, "taps": {3: "a"}}, ["taps.3: is beyond the stack"]),
        ({"file": "x.safetensors", "taps": {1: "a", 2: "A"}}, ["'A' is the same but for upper and lower case as"]),
        ({"file": "x.safetensors", "taps": {1: "scale2"}}, ["taps.1", "the name of a scale's group"]),
        ({"file": "x.safetensors", "pool": {"max": 2, "strid": 1}}, ["import.pool.strid: unknown key"]),
        ({"file": "x.safetensors", "activation": "rel"}, ["there is no activation 'rel'"]),
    ],
)
def test_a_wrongly_written_import_is_refused_in_words(options: Any, words: list[str]) -> None:
    said = refusal({"import": options}, {"activate": "relu"})
    assert not [word for word in words if word not in said], said


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"PK\3\4 a pickle in a zip, as torch.save writes it")
    assert "is no whole safetensors file" in refusal({"import": {"file": str(tmp_path / "net.safetensors")}})


def test_bfloat16_is_refused_with_a_way_out(tmp_path: Path) -> None:
    header = b'{"0.weight":{"dtype":"BF16","shape":[1,3,1,1],"data_offsets":[0,6]}}'
    (tmp_path / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(6))
    said = refusal({"import": {"file": str(tmp_path / "net.safetensors")}})
    assert "0.weight holds bfloat16, which NumPy does not have. Save it as float32" in said


def test_half_precision_weights_are_taken(image: Array, tmp_path: Path) -> None:
    state = {"0.weight": np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float16)}
    got = extract(image, {"import": {"file": saved(tmp_path, state), "until": 1}})["a/scale1"]
    kernels = state["0.weight"].transpose(0, 2, 3, 1).astype(float).tolist()
    want = extract(image, {"convolve": {"kernels": kernels, "padding": 1}})["a/scale1"]
    np.testing.assert_array_equal(got, want)


def test_too_many_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "LARGEST_STACK", 300)
    state = {"0.weight": conv(2, 3), "2.weight": conv(2, 2)}
    said = refusal({"import": {"file": saved(tmp_path, state)}})
    assert "up to module 2 take 0 MiB" in said
    assert "Set until: 2." in said


def test_without_the_library_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, {"0.weight": conv(2, 3)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for layer in ({"import": {"file": path}}, {"convolve": {"kernels": f"{path}:0.weight"}}):
        assert "needs the library safetensors to be read. pip install 'featpipe[weights]'" in refusal(layer)


# -- kernels and biases ------------------------------------------------------------------------------------------------


def write(path: Path, array: Array) -> str:
    """Save an array in the format of the path's ending, and return how a pipeline names it."""
    if path.suffix == ".npy":
        np.save(path, array)
        return str(path)
    if path.suffix == ".npz":
        np.savez(path, w=array)
    else:
        save_file({"w": np.ascontiguousarray(array)}, path)
    return f"{path}:w"


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
@pytest.mark.parametrize(
    ("order", "inputs", "edge"), [(None, 3, 5), ("kcyx", 3, 3), (None, 1, 5), ("kyxc", 3, 5), ("kyxc", 3, 3)]
)
def test_pytorchs_order_of_axes_is_known(
    suffix: str, order: str | None, inputs: int, edge: int, image: Array, tmp_path: Path
) -> None:
    weights = np.random.default_rng(0).standard_normal((4, edge, edge, inputs))
    given = weights if order == "kyxc" else weights.transpose(0, 3, 1, 2)
    options = {} if order is None else {"order": order}
    kernels = write(tmp_path / f"w.{suffix}", given)
    pixels = image[..., :inputs]
    got = extract(pixels, {"convolve": {"kernels": kernels, "channels": "sum", **options}})["a/scale1"]
    want = extract(pixels, {"convolve": {"kernels": weights.tolist(), "channels": "sum"}})["a/scale1"]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_where_both_axes_fit_numpys_files_have_channels_last(suffix: str, image: Array, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3))
    got = extract(image, {"convolve": {"kernels": write(tmp_path / f"w.{suffix}", weights)}})["a/scale1"]
    np.testing.assert_array_equal(got, extract(image, {"convolve": {"kernels": weights.tolist()}})["a/scale1"])
    pytorch = write(tmp_path / "w.safetensors", weights)
    assert not np.array_equal(got, extract(image, {"convolve": {"kernels": pytorch}})["a/scale1"])


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_biases_come_from_a_file(suffix: str, image: Array, tmp_path: Path) -> None:
    kernels = np.random.default_rng(0).standard_normal((2, 3, 3)).tolist()
    path = write(tmp_path / f"b.{suffix}", np.array([0.25, -1.5]))
    got = extract(image, {"convolve": {"kernels": kernels, "bias": path}})["a/scale1"]
    np.testing.assert_array_equal(
        got, extract(image, {"convolve": {"kernels": kernels, "bias": [0.25, -1.5]}})["a/scale1"]
    )
    short = write(tmp_path / f"c.{suffix}", np.array([0.25, -1.5, 2]))
    assert "convolve.bias: has 3 values for 2 kernels" in refusal({"convolve": {"kernels": kernels, "bias": short}})


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"kernels": "{}/w.safetensors"}, "does not say which array of the file. Write it as FILE.safetensors:NAME."),
        ({"kernels": "{}/w.safetensors:x"}, "there is no tensor 'x' in it. (tensors: w)"),
        ({"kernels": "{}/w.safetensors:w", "bias": "gone.npy"}, "convolve.bias: there is no file"),
        ({"kernels": "{}/w.safetensors:w", "bias": "{}/w.safetensors:w"}, "has 4 dimensions. Save (k,)"),
        ({"kernels": "{}/w.safetensors:w", "order": "xy"}, "must be one of auto, kyxc, kcyx"),
        ({"bank": "sobel", "order": "kyxc"}, "convolve.order: unknown key"),
    ],
)
def test_wrong_files_of_kernels_are_refused_in_words(layer: dict[str, str], words: str, tmp_path: Path) -> None:
    write(tmp_path / "w.safetensors", conv(2, 3))
    said = refusal({"convolve": {key: value.format(tmp_path) for key, value in layer.items()}})
    assert words in said
