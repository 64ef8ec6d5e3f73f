"""Right pipelines: what they are read to, and that they can be written back; junk of any kind gives a SpecError."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featpipe.errors import SpecError
from featpipe.spec.banks import FileBank, GaborBank, InlineBank, RandomBank
from featpipe.spec.base import Spec
from featpipe.spec.defaults import resolved
from featpipe.spec.keys import known_keys
from featpipe.spec.layers import Cells, ConvolveLayer, PoolLayer
from featpipe.spec.load import IN_MEMORY, load_pipeline, parse_pipeline
from featpipe.spec.padding import PADDING_WORDS
from featpipe.spec.pipeline import Pipeline
from featpipe.spec.source import read_scalar, read_yaml

DESIGN = """\
# yaml-language-server: $schema=featpipe.schema.json
images:
  path: photos/
  labels: folders
  split: {test: 0.2, seed: 0}
  color: gray
  size: [256, 256]
features:
  texture:
    scales: [1, 2, 4]
    layers:
      - convolve: {bank: gabor, frequencies: [0.1, 0.2, 0.4], orientations: 8, padding: reflect}
      - modulus
      - reduce: {over: orientation, by: max}
      - pool: {mean: 8}
  corners:
    layers:
      - convolve: {kernels: [[[-1,0,1],[-1,0,1],[-1,0,1]]], names: [vertical], padding: symmetric}
      - activate: relu
      - save: edges
      - pool: {max: 2, stride: 2}
      - pool: {mean: {grid: [2, 2]}}
store:
  path: features.zarr
"""


def test_the_design_s_pipeline_is_read_with_its_defaults_and_paths_from_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(DESIGN)
    pipeline, _ = load_pipeline(path)
    assert pipeline.images.path == str(tmp_path / "photos")
    assert pipeline.store.path == str(tmp_path / "features.zarr")
    assert pipeline.features["texture"].scales == [1, 2, 4]
    first, *_, last = pipeline.features["corners"].layers
    assert isinstance(first, ConvolveLayer)
    assert isinstance(first.convolve.source, InlineBank)
    assert first.convolve.source.values == [[[-1, 0, 1]] * 3]
    assert first.convolve.padding.on_axis(0, 3) == (1, 1)
    assert isinstance(last, PoolLayer)
    assert last.pool.over == Cells(grid=[2, 2])
    gabor = pipeline.features["texture"].layers[0]
    assert isinstance(gabor, ConvolveLayer)
    assert isinstance(gabor.convolve.source, GaborBank)
    assert (gabor.convolve.stride, gabor.convolve.source.orientations) == ([1, 1], 8)


def test_overrides_change_any_key_and_make_missing_sections(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("images: {path: photos}\nfeatures: {t: {layers: [{convolve: {bank: sobel}}, modulus]}}\nstore:\n")
    changes = ("store.path=x.zarr", "images.size=[128, 64]", "features.t.layers[0].convolve.stride=2")
    pipeline, _ = load_pipeline(path, (*changes, "features.t.layers[1]={pool: {max: 3}}", "images.path=more/*.png"))
    assert pipeline.store.path == str(tmp_path / "x.zarr")
    assert pipeline.images.path == str(tmp_path / "more" / "*.png")
    assert pipeline.images.size == [128, 64]
    convolve, pool = pipeline.features["t"].layers
    assert isinstance(convolve, ConvolveLayer)
    assert convolve.convolve.stride == [2, 2]
    assert isinstance(pool, PoolLayer)
    assert pool.pool.over == [3, 3]


def test_kernel_files_are_found_from_the_pipeline_s_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "bank.npz", edges=np.ones((1, 3, 3)))
    path = tmp_path / "pipeline.yaml"
    path.write_text("images: {path: photos}\nfeatures: {t: {layers: [convolve: {kernels: 'bank.npz:edges'}]}}")
    layer = load_pipeline(path)[0].features["t"].layers[0]
    assert isinstance(layer, ConvolveLayer)
    assert layer.convolve.source == FileBank(name="file", file=f"{tmp_path / 'bank.npz'}:edges")


def test_a_mapping_may_be_numpy_and_tuples_and_need_no_images() -> None:
    kernels = np.arange(6.0).reshape(1, 2, 3)
    pipeline = parse_pipeline(
        {"features": {"t": {"layers": ({"convolve": {"kernels": kernels, "stride": np.int64(2)}},)}}}
    )
    layer = pipeline.features["t"].layers[0]
    assert isinstance(layer, ConvolveLayer)
    assert isinstance(layer.convolve.source, InlineBank)
    assert layer.convolve.source.values == kernels.tolist()
    assert pipeline.images.path == IN_MEMORY
    assert (
        parse_pipeline({"images": {"color": "gray"}, "features": resolved(pipeline)["features"]}).images.color == "gray"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1.", 1.0), (".5", 0.5), ("+12", 12), ("012", 12), ("0x1F", 31), ("0o17", 15), ("1E5", 1e5),
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("y", "y"), ("true", True), ("False", False), ("~", None),
        ("", None), ("null", None), ("1_000", "1_000"), ("1:30", "1:30"), ("2026-01-01", "2026-01-01"),
        ("-.inf", -np.inf), ("1e", "1e"), ("e3", "e3"), (".", "."), ("0b1", "0b1"), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = read_scalar(text)
    assert (type(read), read) == (type(value), value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(PADDING_WORDS)
    | st.sampled_from(["sobel", "gabor", "relu", "global", "random", "split", "a\0b", "x.zarr", "x.npz:", "modulus"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            [
                "images", "path", "size", "split", "test", "features", "t", "layers", "store", "convolve", "bank",
                "kernels", "fit", "frequencies", "orientations", "sigmas", "names", "bias", "stride", "padding",
                "mode", "widths", "explicit", "pool", "max", "mean", "grid", "activate", "soft-threshold", "threshold",
                "normalize", "local", "std", "save", "modulus", "reduce", "over", "by",
                "source", "name", "values", "file", "same",
            ]
        )
        | st.text(max_size=3),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip

PLACES: list[Any] = [
    lambda junk: junk,
    lambda junk: {"features": junk},
    lambda junk: {"images": junk, "features": {"t": {"layers": [junk]}}, "store": junk},
    *(
        lambda junk, op=op: {"features": {"t": {"layers": [{op: junk}, junk]}}}
        for op in ("convolve", "pool", "activate", "normalize", "reduce", "save")
    ),
    lambda junk: {
        "features": {"t": {"layers": [{"convolve": {"bank": "gabor", "frequencies": junk, "padding": junk}}]}}
    },
    lambda junk: {"features": {"t": {"layers": [{"convolve": {"kernels": junk, "names": junk, "bias": junk}}]}}},
    lambda junk: {"features": {"t": {"layers": [{"pool": {"max": junk, "stride": junk, "padding": junk}}]}}},
]


@settings(max_examples=600, deadline=None)
@given(place=st.sampled_from(PLACES), junk=JUNK)
def test_any_mapping_is_a_pipeline_or_a_spec_error(place: Any, junk: Any) -> None:
    data = place(junk)
    try:
        parse_pipeline(data if isinstance(data, dict) else {"features": data})
    except SpecError as error:
        for problem in error.problems:
            assert_refers_to(data if isinstance(data, dict) else {"features": data}, problem.location)
            assert "Input should" not in str(problem)
            assert "\n" not in str(problem)


def assert_refers_to(data: Any, location: tuple[str | int, ...]) -> None:
    """Check that a location exists, except for a last key that is missing."""
    for part in location[:-1]:
        data = data[part]
    if location and isinstance(data, list):
        assert location[-1] in range(len(data))


@settings(max_examples=500, deadline=None)
@given(text=st.text() | st.text(alphabet="ab: -[]{},'\"#&*!|>%@?\n\t01.~<", max_size=40))
@example(text="&a [*a]")
@example(text="a: &a {<<: *a}")
@example(text='"\\ud800": 1')
@example(text='a: "\\U00110000"')
@example(text="%YAML 9.9\n---\na: 1")
@example(text="\ufeffa: 1")
@example(text="a: |\n")
@example(text="[" * 100_000)
@example(text="- " * 5000)
@example(text="? " * 5000)
@example(text="a: 0x" + "f" * 9000)
def test_any_text_is_a_pipeline_or_a_spec_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for overrides in ([], [text], [f"store.path={text}"], ["images={path: a}", "features={t: {layers: [modulus]}}"]):
        try:
            load_pipeline(path, overrides)
        except SpecError as error:
            for problem in error.problems:
                assert "\n" not in str(problem)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.text(alphabet=st.characters(exclude_categories=["C", "Nd"]), max_size=8)
        | st.integers()
        | st.booleans()
        | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
        max_leaves=10,
    )
)
def test_yaml_written_by_pyyaml_is_read_back(data: Any) -> None:
    # Without digits: PyYAML writes YAML 1.1, where texts such as 0E0 need no quotes.
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    quoted = yaml.dump(data, Dumper=Plain, default_style=None, allow_unicode=True)
    root, problems = read_yaml(quoted, "x")
    assert not problems
    assert root.data() == data


COUNTS = st.integers(1, 9)
NUMBERS = st.floats(-10, 10).map(lambda x: x + 0.0)
POSITIVE = st.floats(0.1, 9)
PAIRS = COUNTS | st.lists(COUNTS, min_size=2, max_size=2)
WHOLE = st.integers(0, 5)
WIDTHS = WHOLE | st.lists(WHOLE | st.lists(WHOLE, min_size=2, max_size=2), min_size=2, max_size=2)
MODES = st.sampled_from(["zero", "edge", "reflect", "symmetric", "wrap"])
PADDINGS = st.sampled_from(PADDING_WORDS) | WIDTHS | st.fixed_dictionaries({"widths": WIDTHS}, optional={"mode": MODES})
SIGMAS = POSITIVE | st.lists(POSITIVE, min_size=1, max_size=3)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,5}", fullmatch=True)


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


def inline(shape: tuple[int, ...]) -> st.SearchStrategy[dict[str, Any]]:
    count = int(np.prod(shape))
    values = st.lists(NUMBERS, min_size=count, max_size=count).map(lambda v: np.reshape(v, shape).tolist())
    names = st.lists(st.text(max_size=4), min_size=shape[0], max_size=shape[0], unique=True)
    return some({"kernels": values}, names=names, bias=st.lists(NUMBERS, min_size=shape[0], max_size=shape[0]))


BANKS = st.one_of(
    some({"bank": st.sampled_from(["identity", "sobel", "emboss"])}),
    some({"bank": st.sampled_from(["box", "binomial"])}, size=COUNTS),
    some({"bank": st.sampled_from(["gaussian", "gaussian-gradient", "log"]), "sigmas": SIGMAS}, truncate=POSITIVE),
    some({"bank": st.just("dog"), "sigmas": SIGMAS}, ratio=st.floats(1.1, 3)),
    some(
        {"bank": st.just("gabor"), "frequencies": st.lists(st.floats(0.01, 0.5), min_size=1, max_size=3)},
        orientations=COUNTS | st.lists(NUMBERS, min_size=1, max_size=3),
        bandwidth=POSITIVE,
    ),
    some({"bank": some({"fit": st.just("random"), "kernels": COUNTS}, size=COUNTS, seed=WHOLE)}),
    st.tuples(COUNTS, COUNTS, COUNTS).flatmap(inline),
    st.tuples(st.integers(1, 2), COUNTS, COUNTS, st.integers(1, 3)).flatmap(inline),
    some({"kernels": st.just("bank.npy")}, names=st.just(["a", "b"])),
)
OPTIONS = some(
    {}, stride=PAIRS, dilation=PAIRS, padding=PADDINGS, flip=st.booleans(), channels=st.sampled_from(["each", "sum"]),
    contrast=some({"epsilon": POSITIVE}),
)  # fmt: skip
STATISTICS = st.sampled_from(["max", "mean", "min", "sum", "l2", "std"])
WINDOWS = st.builds(
    lambda by, over, rest: {by: over, **rest}, STATISTICS,
    st.integers(6, 9) | st.lists(st.integers(6, 9), min_size=2, max_size=2), some({}, stride=PAIRS, padding=PADDINGS),
)  # fmt: skip
CELLS = st.builds(lambda by, over: {by: over}, STATISTICS, st.just("global") | some({"grid": PAIRS}))
THRESHOLD = some({"threshold": st.floats(0, 3)})
PER_FEATURE = st.lists(POSITIVE, min_size=2, max_size=2)
LAYERS = st.one_of(
    st.builds(lambda bank, options: {"convolve": {**options, **bank}}, BANKS, OPTIONS),
    some({"pool": WINDOWS | CELLS}),
    st.just("modulus") | st.just({"modulus": None}),
    some({"activate": st.sampled_from(["relu", "triangle", "split"])}),
    some({"activate": some({"split": THRESHOLD}) | some({"soft-threshold": THRESHOLD})}),
    some({"reduce": some({"over": st.sampled_from(["orientation", "sigma"])}, by=STATISTICS)}),
    st.sampled_from(["products", "eigenvalues", {"products": None}]),
    some({"bif": some({"epsilon": st.just(0) | POSITIVE})}),
    some({"code": some({"over": st.just("sigma"), "by": st.sampled_from(["sign", "argmax"])})}),
    some({"code": st.just({"over": "kernel", "by": "digits", "base": 7})}),
    some({"pool": some({"histogram": st.sampled_from([7, "global"]), "bins": COUNTS.map(lambda n: min(n, 9))})}),
    some({"normalize": some({"mean": NUMBERS | PER_FEATURE}, std=POSITIVE | PER_FEATURE)}),
    some({"normalize": some({"local": some({"size": st.sampled_from([3, [5, 7]])}, padding=PADDINGS)})}),
)
BRANCHES = some({"layers": st.lists(LAYERS, min_size=1, max_size=4)}, scales=st.sampled_from([1, 2, [1, 2, 8]]))
SPLITS = st.sampled_from(["folders", "none", None]) | some({"test": st.floats(0.1, 0.5)}, val=st.just(0.1), seed=WHOLE)
PIPELINES = some(
    {"features": st.dictionaries(NAMES.map(lambda n: f"b{n}".lower()), BRANCHES, min_size=1, max_size=3)},
    images=some({}, path=st.just("photos/*.png"), size=PAIRS, split=SPLITS, color=st.sampled_from(["gray", "rgb"])),
    store=some({}, path=st.just("out/x.zarr"), batch=COUNTS, block=PAIRS, dtype=st.just("float16")),
)


@settings(max_examples=300, deadline=None)
@given(data=PIPELINES)
def test_a_resolved_pipeline_is_json_and_reads_back_the_same(
    data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "bank.npy").touch()
    before = Path.cwd()
    os.chdir(folder)
    try:
        pipeline = parse_pipeline(data)
    finally:
        os.chdir(before)
    written = json.dumps(resolved(pipeline), allow_nan=False)
    again = parse_pipeline(json.loads(written))
    assert again == pipeline
    assert json.dumps(resolved(again)) == written
    assert pipeline == Pipeline.model_validate(resolved(pipeline))


def test_every_place_of_a_full_pipeline_knows_its_keys() -> None:
    layers: list[Any] = [
        {"convolve": {"bank": {"fit": "random", "kernels": 2}, "padding": {"widths": 1}, "contrast": {"epsilon": 1}}},
        {"activate": {"split": {"threshold": 1}}},
        {"activate": {"soft-threshold": {"threshold": 1}}},
        {"reduce": {"over": "sigma"}},
        {"pool": {"max": {"grid": 2}}},
        {"pool": {"max": 2, "padding": {"widths": 1}}},
        {"normalize": {"local": {"size": 3, "padding": {"widths": 1}}}},
        {"bif": {"epsilon": 0}},
        {"code": {"over": "sigma", "by": "sign"}},
        {"pool": {"histogram": {"grid": 2}, "bins": 3}},
    ]
    data = {
        "images": {"path": "a", "split": {"test": 0.1}},
        "features": {"t": {"layers": layers}},
        "store": {"batch": 1},
    }
    parse_pipeline(data)
    places = [place for place in mappings(data, ()) if place != ("features",)]
    assert len(places) == 35
    for place in places:
        assert known_keys(place, data), place


def mappings(data: Any, above: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    inner = itertools.chain.from_iterable(mappings(item, (*above, key)) for key, item in items)
    return [above, *inner] if isinstance(data, dict) else list(inner)


def test_models_made_in_python_take_their_own_field_names() -> None:
    bank = RandomBank(name="random", kernels=3)
    layer: Spec = ConvolveLayer.model_validate({"convolve": {"source": bank, "stride": 2}})
    assert isinstance(layer, ConvolveLayer)
    assert layer.convolve.source == bank
    assert PoolLayer.model_validate({"pool": {"by": "max", "over": 2}}) == PoolLayer.model_validate(
        {"pool": {"max": 2}}
    )


def test_a_cluster_is_reached_as_the_file_says(tmp_path: Path) -> None:
    text = """
images: {path: photos}
features: {a: {layers: [modulus]}}
cluster: {scheduler_file: s.json, tls: {ca: a.pem, cert: b.pem, key: c.pem}}
"""
    (tmp_path / "p.yaml").write_text(text.replace("[modulus]", "[{convolve: {bank: sobel}}]"))
    pipeline, _ = load_pipeline(tmp_path / "p.yaml")
    assert pipeline.cluster is not None
    assert pipeline.cluster.scheduler_file == str(tmp_path / "s.json")
    assert pipeline.cluster.tls is not None
    assert pipeline.cluster.tls.key == str(tmp_path / "c.pem")
    assert "cluster" not in resolved(pipeline)
    pipeline, _ = load_pipeline(tmp_path / "p.yaml", ["cluster={local: {workers: 2, memory: 2GiB}}"])
    assert pipeline.cluster is not None
    assert pipeline.cluster.local is not None
    assert pipeline.cluster.local.memory == 2 << 30
