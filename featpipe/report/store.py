"""What a store holds, as plain data for JSON and for text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import prod
from typing import Any, Protocol

Facts = dict[str, Any]
NODE = "zarr.json"


class Files(Protocol):
    """The files of a store; see `featpipe.store.place.Place`."""

    def read(self, key: str) -> bytes | None: ...

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]: ...

    def modified(self, key: str) -> float | None: ...


def store_facts(info: Mapping[str, Any], place: Files) -> Facts:
    """Return what `Stack.info` tells, and what the files tell of sizes on disk and of time.

    Parameters
    ----------
    info : mapping
        Of a store.
    place : Files
        Where it lies.
    """
    written = datetime.fromtimestamp(place.modified(NODE) or 0).astimezone()
    versions = info["versions"]
    files = list(place.files())
    return {
        **{key: info[key] for key in ("path", "status", "images", "ok", "classes", "splits", "failures")},
        **{key: info[key] for key in ("unavailable", "learned")},
        "maps": [_map_facts(place, files, one) for one in info["maps"]],
        "disk_bytes": info["stored_bytes"],
        "written": written.isoformat(timespec="seconds"),
        "versions": dict(versions),
        "digests": dict(info["digests"]),
        "pipeline": info["pipeline"],
    }


def _map_facts(place: Files, files: Sequence[tuple[str, int]], one: Mapping[str, Any]) -> Facts:
    """Return the facts of one map; shapes of many arrays as a range, chunks and shards of the largest."""
    before = "" if one["stacked"] else r"images/\d+/"
    of_map = re.compile(f"{before}{re.escape(one['name'])}/features/")
    found = [(key, size) for key, size in files if of_map.match(key)]
    nodes = sorted(key for key, _ in found if key.endswith(NODE))
    metadata = [json.loads(place.read(key) or b"{}") for key in nodes]
    shapes = [tuple(node["shape"]) for node in metadata]
    facts: Facts = {**one, "arrays": len(nodes), "disk_bytes": sum(size for _, size in found)}
    if shapes and "dtype" in one:
        largest = metadata[max(range(len(shapes)), key=lambda i: prod(shapes[i]))]
        chunk, shard = _pieces(largest)
        item = {"float32": 4, "float16": 2}[one["dtype"]]
        facts |= {
            "least": [min(axis) for axis in zip(*shapes, strict=True)],
            "most": [max(axis) for axis in zip(*shapes, strict=True)],
            "chunk": chunk,
            "shard": shard,
            "bytes": sum(map(prod, shapes)) * item,
        }
    return facts


def _pieces(metadata: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return chunk and shard of an array from its metadata."""
    shard = list(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    for codec in metadata["codecs"]:
        if codec["name"] == "sharding_indexed":
            return list(codec["configuration"]["chunk_shape"]), shard
    return shard, shard


def label_text(values: Sequence[str | int | float]) -> str:
    """Write the values of a label: all of a few, the ends of many.

    Examples
    --------
    >>> label_text([1.0, 2.0, 4.0]), label_text([22.5 * i for i in range(8)]), label_text(["even", "odd"])
    ('1, 2, 4', '0 … 157.5 (8)', 'even, odd')
    """
    texts = [_value_text(value) for value in values]
    if len(texts) <= 4:
        return ", ".join(texts)
    return f"{texts[0]} … {texts[-1]} ({len(texts)})"


def label_texts(labels: Mapping[str, Iterable[str | int | float]]) -> list[str]:
    """Write every label of a map with its values."""
    return [f"{name} {label_text(list(values))}" for name, values in labels.items()]


def _value_text(value: str | int | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
