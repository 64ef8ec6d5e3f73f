"""From a pipeline to a plan: what a run may use, and what it will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from featpipe.errors import PlanError, StoreError
from featpipe.graph import Workers, free_memory, usable_cores
from featpipe.images.scan import scan
from featpipe.plan.budget import Kept, Resources
from featpipe.plan.build import make_plan
from featpipe.plan.collection import Collection, kept_order, matched_rows
from featpipe.plan.model import Plan
from featpipe.spec.pipeline import Pipeline
from featpipe.store.place import Place, open_place
from featpipe.store.root import read_root

BASE_BYTES = 320 << 20
"""A process with all libraries loaded and all kernels compiled, before its first task."""
OTHER_ORDER = (
    "The store's rows keep their order, and new images come last: it is not the order of the list. "
    "Join by the names in `path`."
)
MEMORY_SHARE = 0.6
"""Of the memory that is free, what a run takes unless told otherwise."""


def default_resources(memory_bytes: int | None = None, threads: int | None = None) -> Resources:
    """Return what a run in this process may use: all cores and a share of the free memory, unless told otherwise."""
    return Resources(
        memory_bytes or int(MEMORY_SHARE * free_memory()),
        threads or usable_cores(),
        BASE_BYTES,
    )


def cluster_resources(workers: Workers, memory_bytes: int | None = None) -> Iterator[Resources]:
    """Yield what a run may use of each worker: as many tasks at once as it has threads, then fewer, down to one."""
    memory = memory_bytes or workers.memory_bytes or int(MEMORY_SHARE * free_memory())
    threads = workers.threads
    while threads:
        yield Resources(memory, threads, BASE_BYTES)
        threads //= 2


def plan_run(pipeline: Pipeline, resources: Resources) -> Plan:
    """Scan the images and decide everything, without reading a pixel.

    Where a store of these images is there already, rows and shards are planned as they lie there, so that a run
    computes no more than what is missing.
    """
    collection = scan(pipeline.images)
    with suppress(StoreError):  # what is wrong with the place is told when it is to be written
        place = open_place(pipeline.store.path)
        header = read_root(place).header
        if header is not None:
            return _plan_within(pipeline, collection, resources, place, header)
    return make_plan(pipeline, collection, resources)


def _plan_within(
    pipeline: Pipeline, collection: Collection, resources: Resources, place: Place, header: Mapping[str, Any]
) -> Plan:
    """Plan what suits the rows and shards of a store; where images of it are gone, what suits a new one."""
    from featpipe.store.create import read_sizes
    from featpipe.store.receipts import find_names

    before = find_names(place) or []
    rows = matched_rows(collection.paths, before)
    if np.count_nonzero(rows >= 0) < len(before):
        return make_plan(pipeline, collection, resources)
    if collection.unavailable:
        collection = collection.with_sizes(read_sizes(place))
    here = collection if collection.is_array else collection.reordered(kept_order(rows))
    try:
        plan = make_plan(pipeline, here, resources, kept=_kept(header))
    except PlanError:
        plan = make_plan(pipeline, here, resources)
    if collection.found or here is collection:
        return plan
    return replace(plan, notes=(*plan.notes, OTHER_ORDER))


def _kept(header: Mapping[str, Any]) -> Kept:
    """Return the batches and blocks that a store is laid out in."""
    pieces = header.get("pieces") or {}
    batch, block = pieces.get("batch"), pieces.get("block")
    return Kept(batch, (block[0], block[1]) if block else None)
