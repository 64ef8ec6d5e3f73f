"""An editor with yaml-language-server completes, explains and checks a pipeline by the schema that we publish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from featpipe.cli.starter import write_starter
from featpipe.spec.banks import BANKS
from featpipe.spec.layers import OPS
from featpipe.spec.padding import PADDING_WORDS
from tests.language_server import LanguageServer, find_server

MISSING = find_server()
pytestmark = pytest.mark.skipif(isinstance(MISSING, str), reason=str(MISSING))
LAYERS = "# yaml-language-server: $schema=featpipe.schema.json\nimages: {path: a}\nfeatures:\n  x:\n    layers:\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    folder = tmp_path_factory.mktemp("pipelines")
    write_starter(folder)  # with its schema
    with LanguageServer(folder) as server:
        yield server


def help_of(item: dict[str, Any]) -> str:
    return str(item["documentation"]["value"])


def test_the_first_pipeline_names_its_schema_and_is_right_by_it(server: LanguageServer) -> None:
    text = (server.folder / "pipeline.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=featpipe.schema.json\n")
    assert server.diagnose(text) == []
    assert server.diagnose(text.replace("dtype", "dtyp").replace("  # dtyp", "  dtyp")) == [
        "Property dtyp is not allowed."
    ]


def test_layers_banks_and_their_keys_are_completed(server: LanguageServer) -> None:
    assert set(OPS) <= server.complete(f"{LAYERS}      - |").keys()
    banks = server.complete(f"{LAYERS}      - convolve: {{bank: |}}")
    assert set(BANKS) <= banks.keys()
    assert "local amplitude" in help_of(banks["gabor"])
    assert {"bank", "kernels", "padding"} <= server.complete(f"{LAYERS}      - convolve:\n          |").keys()
    keys = server.complete(f"{LAYERS}      - convolve:\n          bank: gabor\n          |")
    assert {"frequencies", "orientations", "stride"} <= keys.keys()
    assert not {"sigmas", "ratio", "bank"} & keys.keys()
    assert "Default: `8`" in help_of(keys["orientations"])
    assert {"kernels", "whiten"} <= server.complete(
        f"{LAYERS}      - convolve:\n          bank:\n            fit: kmeans\n            |"
    ).keys()


def test_words_are_completed_with_what_they_mean(server: LanguageServer) -> None:
    paddings = server.complete(f"{LAYERS}      - convolve: {{bank: sobel, padding: |}}")
    assert list(paddings) == list(PADDING_WORDS)
    assert "mirrored" in help_of(paddings["reflect"])
    assert {"gray", "rgb", "keep"} <= server.complete(LAYERS.replace("path: a", "path: a, color: |")).keys()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- po|ol: {max: 2}", ["Summarise windows", "Example: `- pool: {max: 2}`"]),
        ("- pool: {m|ax: 2}", ["The largest value", "in samples"]),
        ("- mod|ulus", ["Fold even/odd"]),
        ("- convolve: {bank: sob|el}", ["First derivatives along y and x", "Sobel and Feldman"]),
        ("- convolve: {bank: gabor, freq|uencies: 0.1}", ["cycles per sample"]),
        ("- convolve: {bank: sobel, stri|de: 2}", ["in samples", "Default: `[1, 1]`"]),
    ],
)
def test_hovering_explains(server: LanguageServer, text: str, told: list[str]) -> None:
    shown = server.hover(f"{LAYERS}      {text}")
    assert all(words in shown for words in told), shown


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("- pool: {max: 2, strde: 1}", "Property strde is not allowed."),
        ("- poool: {max: 2}", "Property poool is not allowed."),
        ("- convolve: {bank: sobel, sigmas: 1}", "Property sigmas is not allowed."),
        ("- convolve: {bank: gabor}", 'Missing property "frequencies".'),
        ("- convolve: {bank: {fit: pca, kernels: 3, sise: 2}}", "Property sise is not allowed."),
        ("- activate: rel", '"relu"'),
        ("- modulos", '"modulus"'),
    ],
)
def test_a_mistake_is_marked_as_it_is_written(server: LanguageServer, text: str, wrong: str) -> None:
    (message,) = server.diagnose(f"{LAYERS}      {text}")
    assert wrong in message
