"""The JSON Schema of the pipeline file says what the loader takes: it is held against the loader itself."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from featpipe.cli.starter import STARTER
from featpipe.errors import Problem, SpecError
from featpipe.kernels.catalog import list_banks
from featpipe.schema.build import pipeline_schema, schema_text
from featpipe.spec.activations import ACTIVATIONS, FORMULAS
from featpipe.spec.banks import BANKS
from featpipe.spec.cluster import CLASSES
from featpipe.spec.defaults import resolved
from featpipe.spec.fits import FITS
from featpipe.spec.keys import known_keys
from featpipe.spec.layers import BARE, LAYER_EXAMPLES, OPS
from featpipe.spec.load import load_pipeline, parse_pipeline
from featpipe.spec.padding import PADDING_NOTES, PADDING_WORDS
from featpipe.spec.pooling import NOTES, POOLINGS
from featpipe.spec.source import read_yaml
from tests.strategies import branches
from tests.unit.test_spec_errors import WRONG

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = pipeline_schema()
VALIDATOR = Draft7Validator(SCHEMA)
IMAGES = {"path": "images"}


def read(text: str) -> Any:
    return read_yaml(text, "pipeline.yaml")[0].data()


def taken(data: Any) -> bool:
    """Return whether the loader takes a pipeline, files aside."""
    try:
        parse_pipeline(data)
    except SpecError as error:
        return all("there is no file" in problem.what for problem in error.problems)
    return True


def with_layer(layer: Any) -> dict[str, Any]:
    return {"images": IMAGES, "features": {"t": {"layers": [layer, {"activate": "abs"}]}}}


def test_the_schema_is_draft_7_and_the_published_one_is_what_the_code_makes() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("draft-07/schema#")
    assert not [word for word in ("$defs", "prefixItems", "unevaluated") if f'"{word}' in schema_text()]
    published = (ROOT / "docs" / "reference" / "featpipe.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "python docs/make_reference.py writes it anew"


PIPELINES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "pipelines").glob("*.yaml"))}


@pytest.mark.parametrize("text", [*PIPELINES.values(), STARTER], ids=[*PIPELINES, "init"])
def test_every_pipeline_of_ours_fits_the_schema_and_does_so_resolved(text: str) -> None:
    data = read(text)
    VALIDATOR.validate(data)
    VALIDATOR.validate(json.loads(json.dumps(resolved(parse_pipeline(data)))))


@settings(max_examples=60, deadline=None)
@given(branch=branches())
def test_what_random_pipelines_hold_fits_the_schema(branch: dict[str, Any]) -> None:
    VALIDATOR.validate({"images": IMAGES, "features": {"t": branch}})


FORMS = """
- modulus
- modulus:
- modulus: {}
- products:
- activate: split
- activate: {split: {}}
- activate: {split: {threshold: 0.5}}
- activate: {soft-threshold: {threshold: 0}}
- pool: {mean: global}
- pool: {max: [2, 3], stride: 1, padding: {mode: edge, widths: [[0, 1], 1]}}
- pool: {max: 3, padding: 1, bins: null}
- pool: {std: {grid: 2}}
- pool: {histogram: {grid: [2, 2]}, bins: 4}
- normalize: {mean: [1, 2], std: 3}
- normalize: {local: {size: [3, 5], padding: wrap}}
- reduce: {over: kernel}
- code: {over: kernel, by: digits, base: 3}
- bif: {epsilon: 0}
- save: early
- convolve: {bank: sobel, stride: 2.0, padding: [1, 2], channels: null, contrast: null}
- convolve: {bank: gabor, frequencies: 0.1, orientations: [0, 45.5]}
- convolve: {bank: gaussian-derivatives, sigmas: 1, orders: 0}
- convolve: {bank: morlet, scales: 3, octaves: []}
- convolve: {bank: {fit: random, kernels: 3}}
- convolve: {bank: {fit: kmeans, kernels: 3, whiten: false, iterations: 2}, response: distance}
- convolve: {bank: {fit: zca-patches, kernels: 3, whiten: {epsilon: 1}, split: null}}
- convolve: {bank: {file: bank.npz}}
- convolve: {kernels: 'a.npz:b', order: kcyx, bias: 'c.npy', names: [a]}
- convolve: {kernels: [[[[1, 2], [3, 4]]]], names: null, bias: [1]}
- local: {kernels: {fit: random, kernels: 2}, bias: [1, 2]}
- local: {kernels: a.npy}
- import: {file: a.safetensors, taps: {4: pool1}, pool: {max: 2}, activation: abs, padding: null, until: 9}
"""


@pytest.mark.parametrize("layer", yaml.safe_load(FORMS), ids=json.dumps)
def test_every_form_of_a_layer_that_the_loader_takes_fits_the_schema(layer: Any) -> None:
    data = json.loads(json.dumps(with_layer(layer)))  # keys are text, as in a file
    assert taken(data)
    VALIDATOR.validate(data)


SECTIONS = """
- images: {path: a, labels: none, split: {test: 0.2, val: 0.1, seed: 3}, size: 64, region: {y: [0, 5]}, axes: null}
- images: {path: a, labels: column, split: column, max_pixels: 10}
- images: {path: a, split: null, region: null}
- store: {path: s3://a/b.zarr, dtype: float16, batch: 3, block: 128}
- store: {}
- cluster: {local: {workers: 2, memory: 1.5 GiB}}
- cluster: {local: {memory: 1e9, threads: 2}}
- cluster: {address: 'tcp://a:1', tls: {ca: a, cert: b, key: c}}
- cluster: {scheduler_file: a.json}
- cluster: {class: dask_jobqueue.SLURMCluster, options: {queue: long}, adapt: {maximum: 3}}
- cluster:
"""


@pytest.mark.parametrize("section", yaml.safe_load(SECTIONS), ids=json.dumps)
def test_every_form_of_a_section_that_the_loader_takes_fits_the_schema(section: dict[str, Any]) -> None:
    data = {"images": IMAGES, "features": {"t": {"scales": 2, "layers": ["modulus"]}}, **section}
    assert taken(data)
    VALIDATOR.validate(data)


BETWEEN = {
    "cluster of no kind", "cluster of two kinds", "a cluster that loads code", "cluster options without class",
    "branches alike but for case", "infinite", "scale no power of two", "ragged rows", "unlike kernels",
    "kernel file missing", "npz without key", "kernel file of another kind", "names not one each",
    "names of a named bank", "bias not one each", "padding as wide as the window", "stride of a grid",
    "padding of a global pool", "bins of a mean", "a window of more samples than float32 counts",
    "stride of a histogram's grid", "digits without base", "base of signs", "even neighbourhood",
    "local and statistics", "statistics of unlike length", "save at the end", "saved twice", "store inside images",
    "default store inside images", "images inside the store", "images under the store", "duplicate key", "anchor",
    "tag",
}  # fmt: skip
"""Mistakes between keys, in files, or in YAML itself, which are the loader's to tell."""


@pytest.mark.parametrize("name", WRONG)
def test_the_schema_refuses_what_the_loader_does_but_for_what_is_between_keys(name: str) -> None:
    try:
        data = read(WRONG[name][0])
    except SpecError:
        return  # not YAML
    assert VALIDATOR.is_valid(data) == (name in BETWEEN)


LAYERS = [with_layer(layer) for layer in json.loads(json.dumps(yaml.safe_load(FORMS)))]
WHOLE = [{"images": IMAGES, "features": {"t": {"layers": ["modulus"]}}, **part} for part in yaml.safe_load(SECTIONS)]
KEYS = ["size", "sigmas", "name", "by", "fit", "file", "stride", "kernel", "split", "zzz", "bank", "max", "widths"]
WORDS = [None, True, 3, 0, -1, 2.5, "x", "relu", "same", "global", "gabor", "random"]
NESTED = [[], [1], [1, 2], [[1, 2], [3, 4]], {}, {"zzz": 1}, {"fit": "pca"}, {"grid": 2}, {"widths": 1}]
VALUES = st.sampled_from([*WORDS, *NESTED])
OF_A_KIND = re.compile(
    r"^unknown key|^must be (one of|text|a list|a mapping|a number|true or false|a whole number|a path)|^is missing|"
    r"^there is no (bank|fit|activation)|is not a layer|^must hold at least|^must be (at least|at most|more|less)"
)


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a pipeline."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(path for key, value in inner for path in places(value, (*at, key)))]


@settings(max_examples=800, deadline=None)
@given(data=st.sampled_from(LAYERS + WHOLE), draw=st.data())
def test_a_change_anywhere_is_refused_by_both_or_taken_by_both(
    data: dict[str, Any], draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = deepcopy(data)
    *above, last = draw.draw(st.sampled_from(places(data)[1:]))
    part: Any = data
    for key in above:
        part = part[key]
    match draw.draw(st.sampled_from(["value", "value", "add", "rename", "remove"])):
        case "value":
            part[last] = draw.draw(VALUES)
        case "add" if isinstance(part[last], dict):
            part[last][draw.draw(st.sampled_from(KEYS))] = draw.draw(VALUES)
        case "rename" if isinstance(part, dict):
            part[draw.draw(st.sampled_from(KEYS))] = part.pop(last)
        case _:
            del part[last]
    file = tmp_path_factory.getbasetemp() / "changed.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    problems: tuple[Problem, ...] = ()
    try:
        load_pipeline(file)
    except SpecError as error:
        problems = error.problems
    if any(OF_A_KIND.search(problem.what) for problem in problems):
        assert not VALIDATOR.is_valid(data), problems
    elif not problems:
        VALIDATOR.validate(data)


def test_every_word_of_the_loader_s_tables_is_offered_and_explained() -> None:
    parts = SCHEMA["definitions"]
    layer, *bare = parts["Layer"]["oneOf"]
    assert list(layer["properties"]) == list(OPS)
    assert [one["const"] for one in bare] == list(BARE)
    assert set(BARE) | set(LAYER_EXAMPLES) == set(OPS)
    assert set(parts["Pool"]["properties"]) == set(known_keys(("features", "t", "layers", 0, "pool"), {}))
    assert list(NOTES) == list(POOLINGS)
    assert [one["const"] for one in parts["Bank"]["anyOf"] if "const" in one] == list(BANKS)
    assert [one["const"] for one in parts["Fit"]["anyOf"]] == [*FITS, "random"]
    assert parts["Padding"]["anyOf"][0]["enum"] == list(PADDING_WORDS) == list(PADDING_NOTES)
    assert [*FORMULAS, "soft-threshold"] == list(ACTIVATIONS)
    assert parts["Cluster"]["properties"]["class"]["anyOf"][0]["enum"] == list(CLASSES)
    for name, bank in BANKS.items():
        data = {"features": {"t": {"layers": [{"convolve": {"bank": name}}]}}}
        known = known_keys(("features", "t", "layers", 0, "convolve"), data)
        assert set(parts[bank.__name__]["properties"]) == set(known) - {"kernels"}


def test_every_key_and_every_bank_has_help_in_words_of_its_own() -> None:
    for name, part in SCHEMA["definitions"].items():
        for key, value in part.get("properties", {}).items():
            helped = SCHEMA["definitions"].get(value.get("$ref", "").removeprefix("#/definitions/"), value)
            assert "$ref" in value or len(helped.get("markdownDescription", "")) > 5, (name, key)
    notes = {
        one["const"]: one["markdownDescription"] for one in SCHEMA["definitions"]["Bank"]["anyOf"] if "const" in one
    }
    assert all(entry.summary in notes[entry.name] for entry in list_banks() if entry.name in BANKS)
    stride = SCHEMA["definitions"]["ConvolveOptions"]["properties"]["stride"]["markdownDescription"]
    assert stride == "Step of the window: one number or `[y, x]`, in samples.\n\nDefault: `[1, 1]`"
