"""What a plan says, as plain data for JSON and for text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.geometry.grid import ceil_div
from featpipe.plan.collection import Collection
from featpipe.plan.cost import node_flops, node_parameters, node_seconds
from featpipe.plan.layout import array_plan
from featpipe.plan.model import MapPlan, Plan
from featpipe.plan.schedule import node_shapes

Facts = dict[str, Any]


def plan_facts(plan: Plan, there: Mapping[str, Any] | None = None) -> Facts:
    """Return all that a plan tells, as JSON-able data; ``there`` says what is at the store's path.

    Sizes and shapes are in pixels or samples, (y, x), memory in bytes. Where images differ in size, ``least`` and
    ``most`` give each axis's range.
    """
    memory = plan.memory
    sizes = _sizes(plan)
    saved = _saved(plan)
    return {
        "images": collection_facts(plan.collection, plan.pipeline.images.path),
        "branches": [
            _branch_facts(plan, a_map, saved[a_map.branch, a_map.scale]) for a_map in plan.maps if _is_last(a_map)
        ],
        "store": {
            "path": plan.pipeline.store.path,
            "dtype": plan.pipeline.store.dtype,
            "maps": [_map_facts(plan, index, sizes) for index in range(len(plan.maps))],
            "bytes": plan.output_bytes,
            **({"there": ""} if there is None else there),
        },
        "tasks": len(plan.tasks),
        "batch": plan.batch if any(a_map.batched for a_map in plan.maps) else None,
        "block": list(plan.block) if plan.block else None,
        "flop": plan.flops,
        "seconds_nominal": _nominal_seconds(plan),
        "memory": {
            "peak": memory.peak,
            "base": memory.base,
            "task": memory.task,
            "fit": memory.fit,
            "parts": {part: size for part, size in memory.parts.items() if size},
            "threads": memory.threads,
            "limit": memory.limit,
        },
        "notes": list(plan.notes),
    }


def collection_facts(collection: Collection, path: str) -> Facts:
    """Return what is known of the images before reading one."""
    seen = collection.heights > 0
    sizes = np.stack([collection.heights[seen], collection.widths[seen]], axis=1)
    return {
        "path": path,
        "kind": collection.kind,
        "count": len(collection),
        "unreadable": {collection.paths[i]: why for i, why in sorted(collection.unreadable.items())},
        "least": [int(n) for n in sizes.min(axis=0)],
        "most": [int(n) for n in sizes.max(axis=0)],
        "channels": list(collection.channels),
        "dtype": collection.dtype,
        "splits": _named_counts(collection.splits, collection.split_names),
        "classes": _named_counts(collection.labels, collection.classes),
    }


def _named_counts(values: npt.NDArray[np.integer[Any]], names: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(values[values >= 0], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _is_last(a_map: MapPlan) -> bool:
    """Tell whether a map is its branch's last, rather than one saved on the way."""
    return a_map.name == f"{a_map.branch}/scale{a_map.scale}"


def _saved(plan: Plan) -> dict[tuple[str, int], dict[int, str]]:
    """Return the maps that every branch stores at a scale: their nodes, and their names."""
    saved: dict[tuple[str, int], dict[int, str]] = {}
    for a_map in plan.maps:
        saved.setdefault((a_map.branch, a_map.scale), {})[a_map.node] = a_map.name
    return saved


def _sizes(plan: Plan) -> list[tuple[int, int]]:
    """Return the first image of every size, and how many are of that size."""
    counts: Counter[tuple[int, int]] = Counter()
    first: dict[tuple[int, int], int] = {}
    for image in np.flatnonzero(plan.collection.heights > 0).tolist():
        shape = plan.shape(image)
        counts[shape] += 1
        first.setdefault(shape, image)
    return [(first[shape], count) for shape, count in counts.items()]


def _branch_facts(plan: Plan, a_map: MapPlan, saved: Mapping[int, str]) -> Facts:
    seen = plan.collection.heights > 0
    smallest = int(plan.collection.heights[seen].min()), int(plan.collection.widths[seen].min())
    least, most = node_shapes(plan.program, smallest), node_shapes(plan.program, plan.collection.shape)
    layers = []
    for i in plan.program.path(a_map.node):
        node = plan.program.nodes[i]
        windows = node.windows
        layers.append(
            {
                "layer": node.title,
                "least": [*least[i], len(node.features)],
                "most": [*most[i], len(node.features)],
                "window": [window.size for window in windows] if windows else None,
                "stride": [window.stride for window in windows] if windows else None,
                "halo": [list(window.halo) for window in windows] if windows else None,
                "dtype": "float32",
                "parameters": node_parameters(plan.program, i, most[i][0] * most[i][1]),
                "parameters_shared": node_parameters(plan.program, i, 1),
                "flop_per_image": node_flops(plan.program, i, most[i][0] * most[i][1]),
                "seconds_per_image": node_seconds(plan.program, i, most),
                "stored_as": saved.get(i),
            }
        )
    return {"branch": a_map.branch, "scale": a_map.scale, "map": a_map.name, "layers": layers}


def _map_facts(plan: Plan, index: int, sizes: Sequence[tuple[int, int]]) -> Facts:
    """Return the arrays and shards of a map; of many arrays, the largest."""
    a_map = plan.maps[index]
    item = np.dtype(plan.pipeline.store.dtype).itemsize
    one_each = [(sizes[0][0], 1)] if a_map.stacked else sizes
    arrays = [(array_plan(plan, index, image), count) for image, count in one_each]
    largest = max((array for array, _ in arrays), key=lambda array: int(np.prod(array.shape)))
    written = np.minimum(largest.shard, largest.shape)
    return {
        "map": a_map.name,
        "stacked": a_map.stacked,
        "arrays": sum(count for _, count in arrays),
        "least": [min(axis) for axis in zip(*(array.shape for array, _ in arrays), strict=True)],
        "most": [max(axis) for axis in zip(*(array.shape for array, _ in arrays), strict=True)],
        "features": len(a_map.features),
        "dtype": plan.pipeline.store.dtype,
        "chunk": list(largest.chunk),
        "shard": list(largest.shard),
        "shards": sum(
            count * int(np.prod([ceil_div(n, edge) for n, edge in zip(array.shape, array.shard, strict=True)]))
            for array, count in arrays
        ),
        "shard_bytes": int(np.prod(written)) * item,
        "bytes": sum(count * int(np.prod(array.shape)) for array, count in arrays) * item,
    }


def _nominal_seconds(plan: Plan) -> float:
    """Return the time on processors of nominal speed; real ones take a third or three times as long."""
    return plan.seconds / min(plan.memory.threads, max(1, len(plan.tasks)))
