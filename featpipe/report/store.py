"""What a store holds, as plain data for JSON and for text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


def store_facts(info: Mapping[str, Any]) -> Facts:
    """Return what `Stack.info` tells, and what the files tell of sizes on disk and of time.

    Parameters
    ----------
    info : mapping
        Of a store on this machine.
    """
    path = Path(info["path"])
    written = datetime.fromtimestamp((path / "zarr.json").stat().st_mtime).astimezone()
    versions = info["versions"]
    return {
        **{key: info[key] for key in ("path", "status", "images", "ok", "classes", "splits", "failures", "learned")},
        "maps": [_map_facts(path, one) for one in info["maps"]],
        "disk_bytes": info["stored_bytes"],
        "written": written.isoformat(timespec="seconds"),
        "versions": dict(versions),
        "digests": dict(info["digests"]),
        "pipeline": info["pipeline"],
    }


def _map_facts(store: Path, one: Mapping[str, Any]) -> Facts:
    """Return the facts of one map; shapes of many arrays as a range, chunks and shards of the largest."""
    folders = [store / one["name"]] if one["stacked"] else sorted(store.glob(f"images/*/{one['name']}"))
    arrays = [folder / "features" for folder in folders]
    metadata = [json.loads((array / "zarr.json").read_bytes()) for array in arrays]
    shapes = [tuple(node["shape"]) for node in metadata]
    facts: Facts = {**one, "arrays": len(arrays), "disk_bytes": sum(map(_disk_bytes, arrays))}
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


def _disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


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
