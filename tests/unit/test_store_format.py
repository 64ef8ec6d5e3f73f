"""docs/store-format.md says all that is in a store, and nothing that is not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from featpipe.run.planning import default_resources, plan_run
from featpipe.run.session import run_plan
from featpipe.spec.load import parse_pipeline
from featpipe.stack import open_stack
from featpipe.store.coordinates import encode_labels
from featpipe.store.fence import lock_key

PAGE = Path(__file__).resolve().parents[2] / "docs" / "store-format.md"
Row = dict[str, list[str]]
"""A column's heading to the words of code in a cell, or all its text."""
MAP_ARRAYS = ("features", "feature", "y", "x", "LABEL")


class Table(NamedTuple):
    section: str
    rows: list[Row]


@cache
def tables() -> list[Table]:
    """Return the tables of the page."""
    found: list[Table] = []
    section, heads, cells = "", [], []  # type: tuple[str, list[str], list[list[str]]]
    tokens = MarkdownIt("commonmark").enable("table").parse(PAGE.read_text(encoding="utf-8"))
    for before, token in zip([tokens[0], *tokens], tokens, strict=False):
        if before.type == "heading_open":
            section = token.content
        elif token.type == "table_open":
            found.append(Table(section, []))
            heads = []
        elif before.type == "th_open":
            heads.append(token.content)
        elif token.type == "tr_open":
            cells = []
        elif before.type == "td_open":
            code = [child.content for child in token.children or () if child.type == "code_inline"]
            cells.append(code or re.split(r", ", token.content))
        elif token.type == "tr_close" and cells:
            found[-1].rows.append(dict(zip(heads, cells, strict=True)))
            cells = []
    return found


def rows_of(section: str, head: str) -> list[Row]:
    """Return the rows of all tables of a section whose first column is called ``head``."""
    return [row for table in tables() if table.section == section for row in table.rows if head in row]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Stores that together have all there can be: stacked maps, maps by image, blocks, banks, all kinds of labels."""
    folder = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(64, 80), (48, 48), (64, 80), (40, 70), (9, 9)]):
        path = folder / "mixed" / ("train" if i % 2 else "test") / "class with space" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(path)
    (folder / "mixed" / "train" / "class with space" / "bad.png").write_text("no image")
    for i in range(5):
        path = folder / "even" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(path)
    pixels = [{"convolve": {"bank": "gaussian-gradient", "sigmas": [1, 2]}}, {"save": "kept"}, "modulus"]
    learned = {"fit": "random-patches", "kernels": 3, "size": 5, "patches": 50}
    cells = [{"convolve": {"bank": learned}}, {"activate": {"split": {"threshold": 0.1}}}, {"pool": {"mean": "global"}}]
    waves = {"bank": "gabor", "frequencies": [0.2, 0.3], "orientations": 90, "padding": "reflect"}
    wide = [{"convolve": waves}]  # 1.8 MB an image: shards of several chunks
    both = [{"convolve": {"bank": "rfs", "padding": "reflect"}}, {"pool": {"max": 4}}]
    pipelines: list[dict[str, Any]] = [
        {"images": {"path": "mixed"}, "features": {"pixels": {"layers": pixels}, "cells": {"layers": cells}}},
        {"images": {"path": "mixed"}, "features": {"pixels": {"layers": pixels}}, "store": {"block": [32, 32]}},
        {"images": {"path": "even"}, "features": {"both": {"scales": [1, 2], "layers": both}},
         "store": {"dtype": "float16"}},
        {"images": {"path": "even", "region": {"y": [8, 40]}},
         "features": {"wide": {"layers": wide}}, "store": {"batch": 4}},
    ]  # fmt: skip
    for number, pipeline in enumerate(pipelines):
        pipeline.setdefault("store", {})["path"] = f"{number}.zarr"
        file = folder / f"{number}.yaml"
        file.write_text(yaml.safe_dump(pipeline))
        run_plan(plan_run(parse_pipeline(file), default_resources(threads=1)))
    return [folder / f"{number}.zarr" for number in range(len(pipelines))]


@cache
def nodes_of(store: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of every group and array by its path."""
    return {
        path.parent.relative_to(store).as_posix(): json.loads(path.read_text()) for path in store.rglob("zarr.json")
    }


@cache
def map_groups(store: Path) -> dict[str, str]:
    """Return the groups of maps, to ``MAP`` or ``images/N/MAP``."""
    found = {}
    for one in nodes_of(store)["."]["attributes"]["featpipe"]["maps"]:
        pattern = re.compile(rf"(images/(?:0|[1-9]\d*)/)?{re.escape(one['name'])}")
        for path in nodes_of(store):
            if (match := pattern.fullmatch(path)) is not None:
                assert bool(match[1]) != one["stacked"]
                found[path] = "images/N/MAP" if match[1] else "MAP"
    return found


def described(store: Path, path: str, node: Mapping[str, Any]) -> tuple[str, Row]:
    """Return which rows tell of an array, and the row for its dimensions and type."""
    parent, _, name = path.rpartition("/")
    if parent in map_groups(store):
        section, name = "Arrays of a map", name if name in MAP_ARRAYS else "LABEL"
    elif not parent:
        section = "Arrays of the root"
    else:
        sections = {"receipts": ("Receipts", path), "checksums": ("Checksums", path)}
        section, name = sections.get(parent, ("Learned banks", f"fits/KEY/{name}"))
    for row in rows_of(section, "array"):
        right = row["dimensions"] == node["dimension_names"] and node["data_type"] in row["type"]
        if row["array"] == [name] and right:
            return section, row
    raise AssertionError(f"{section} does not tell of {name}: {node['data_type']} {node['dimension_names']}")


def test_every_array_of_a_store_is_described_and_every_description_is_of_one(stores: list[Path]) -> None:
    told = {json.dumps(row) for table in tables() for row in table.rows if "array" in row and "dimensions" in row}
    met, attributes = set(), set()
    for store in stores:
        for path, node in nodes_of(store).items():
            if node["node_type"] == "array":
                section, row = described(store, path, node)
                met.add(json.dumps(row))
                known = [one for one in row["attributes"] if one]
                assert set(node["attributes"]) <= set(known), path
                attributes |= {(section, row["array"][0], *row["type"], one) for one in node["attributes"]}
                assert_encoding(path, node)
    assert met == told
    wide = nodes_of(stores[3])["wide/scale1/features"]["codecs"]
    assert [one["name"] for one in wide] == ["sharding_indexed"]
    promised = {
        (table.section, row["array"][0], *row["type"], one)
        for table in tables() for row in table.rows if "attributes" in row and "array" in row
        for one in row["attributes"] if one
    }  # fmt: skip
    # No bank of today has features that lack a whole number which others of it carry
    (lacking,) = encode_labels([{"order": 2}, {}])
    assert lacking.values.dtype == np.float64
    attributes |= {("Arrays of a map", "LABEL", "float64", one) for one in lacking.attributes}
    assert attributes == promised


def assert_encoding(path: str, node: Mapping[str, Any]) -> None:
    """Check codecs, fill value and chunks against the table of encodings, whose rows are spelled out here."""
    codecs = [(one["name"], one.get("configuration", {})) for one in node["codecs"]]
    if codecs[0][0] == "sharding_indexed":
        inside = codecs[0][1]
        assert [one["name"] for one in inside["index_codecs"]] == ["bytes", "crc32c"]
        assert inside["index_location"] == "end"
        shard = node["chunk_grid"]["configuration"]["chunk_shape"]
        assert all(edge % part == 0 for edge, part in zip(shard, inside["chunk_shape"], strict=True))
        codecs = [(one["name"], one.get("configuration", {})) for one in inside["codecs"]]
    names = [name for name, _ in codecs]
    first = "vlen-utf8" if node["data_type"] == "string" else "bytes"
    assert node["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    if path.endswith("/features"):
        assert names == ["bytes", "blosc"]
        settings = {key: codecs[1][1][key] for key in ("cname", "clevel", "shuffle", "blocksize")}
        assert settings == {"cname": "lz4", "clevel": 1, "shuffle": "bitshuffle", "blocksize": 0}
        assert node["fill_value"] == "NaN"
        return
    assert node["fill_value"] in (0, False, "")
    if path.startswith("fits/"):
        assert names == ["bytes", "zstd"]
        assert codecs[1][1]["level"] == 0
        return
    long = node["dimension_names"][0] in ("image", "row", "shard", "failure", "file")
    assert names == [first, "zstd"] if long else [first]
    assert not long or codecs[1][1]["level"] == 1
    assert node["chunk_grid"]["configuration"]["chunk_shape"] == [max(1, min(65536, *node["shape"]))]


def test_every_group_of_a_store_is_described(stores: list[Path]) -> None:
    told = {row["group"][0]: {one for one in row["attributes"] if one} for row in rows_of("Groups", "group")}
    met = set()
    for store in stores:
        maps, nodes = map_groups(store), nodes_of(store)
        plain = {parent.as_posix() for path in maps for parent in Path(path).parents if parent != Path()}
        for path, node in nodes.items():
            if node["node_type"] == "group":
                kind = maps.get(path) or {".": "the root"}.get(path) or re.sub("^fits/.*", "fits/KEY", path)
                assert set(node["attributes"]) == (set() if path in plain else told[kind]), path
                met |= {kind} - plain
        labels = nodes["."]["attributes"]["coordinates"].split()
        assert set(labels) < {path for path in nodes if "/" not in path}
        for path in maps:
            arrays = {one.rpartition("/")[2] for one in nodes if one.rpartition("/")[0] == path}
            assert {*nodes[path]["attributes"]["coordinates"].split(), *MAP_ARRAYS[:-1]} == arrays
    assert met == set(told)


def test_the_headers_are_as_described(stores: list[Path]) -> None:
    keys = [row["key"][0] for table in tables() if table.section == "The header" for row in table.rows]
    header, entry = keys[: keys.index("name")], keys[keys.index("name") :]
    bank = [row["key"][0] for row in rows_of("Learned banks", "key")]
    for store in stores:
        nodes = nodes_of(store)
        facts = nodes["."]["attributes"]["featpipe"]
        assert list(facts) == header
        assert facts["format"] == 1
        assert facts["status"] == "complete"
        assert set(facts["pieces"]) == {"batch", "block"}
        assert set(facts["digests"]) == {"pipeline", "images", "pieces"}
        assert set(facts["pipeline"]) == {"images", "features", "store"}
        assert all(list(one) == entry for one in facts["maps"])
        for path in map_groups(store):
            window = nodes[path]["attributes"]["window"]
            assert window is None or [[*window], [*window["y"]]] == [["y", "x"], ["size", "stride", "offset"]]
        for path, node in nodes.items():
            if re.fullmatch("fits/[^/]*", path):
                assert re.fullmatch("fits/[0-9a-f]{16}", path)
                assert set(node["attributes"]["featpipe"]) == set(bank)


def test_every_file_of_a_store_is_metadata_or_a_chunk_and_every_shard_has_a_receipt(stores: list[Path]) -> None:
    for store in stores:
        arrays = {path for path, node in nodes_of(store).items() if node["node_type"] == "array"}
        files = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
        chunks = {file for file in files if not file.endswith("zarr.json")}
        assert all((found := re.fullmatch(r"(.*)/c(/\d+)+", file)) and found[1] in arrays for file in chunks)
        shards = {file for file in chunks if "/features/c/" in file}
        assert shards == set(open_stack(store)._array("receipts/key"))
        beside = {path.name for path in store.with_name(f"{store.name}.run").iterdir()}
        assert beside == {"runs", "plan.json", "stamps.npz", lock_key(1)}


def test_images_that_failed_are_nan_in_stacked_maps_and_those_without_height_have_no_own(stores: list[Path]) -> None:
    stack = open_stack(stores[0])
    cells = stack["cells/scale1"][...]
    assert np.isnan(cells).all(axis=(1, 2, 3)).tolist() == (~stack.ok).tolist()
    assert not stack.ok.all()
    own = {int(path.split("/")[1]) for path in map_groups(stores[0]) if path.startswith("images/")}
    assert own == set(np.flatnonzero(stack._array("height") > 0))
