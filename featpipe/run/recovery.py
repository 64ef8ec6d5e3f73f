"""What is known of a store that may be damaged: its header, receipts and names, from whichever copy is whole.

    root zarr.json   header                   lost: its copy in checksums
    receipts         shards, failures, names  lost: shards from checksums, the rest from the plan, ok and path
    checksums        every file               lost: receipts are trusted
    ok, path, …      the images' table        lost: receipts, the plan

A run writes all but the shards anew, so that what is known is all that it takes to mend the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featpipe.errors import Problem
from featpipe.plan.identity import DECODERS, Identities, plan_digests, table_digest
from featpipe.plan.layout import array_plan
from featpipe.plan.model import Plan, Task
from featpipe.run.changes import Before, before_of
from featpipe.store.checksums import Checksums, Findings, differing, is_shard, is_visible, read_checksums
from featpipe.store.create import read_failures, read_unavailable
from featpipe.store.fits import GROUP as FITS
from featpipe.store.format import FORMAT, NODE
from featpipe.store.place import LocalPlace, Place
from featpipe.store.receipts import GROUP as RECEIPTS
from featpipe.store.receipts import (
    Journal,
    Ledger,
    Receipt,
    find_contents,
    find_names,
    read_ledger,
    shard_sums,
    told_receipts,
    with_failures,
)
from featpipe.store.root import CHECKSUMS, Root, read_root
from featpipe.store.seal import Sum, damaged_in_sealed
from featpipe.store.seen import Seen, read_stamps
from featpipe.store.shard import Shard
from featpipe.store.write import CONSOLIDATED, shard_key

WRONG = -1
"""Size of a file whose content is known to be another than was written."""
Damage = dict[str, Sum | None]
"""Key of what is not as it was written to what it was; None where that is not known."""


@dataclass
class Known:
    """What is known of a store."""

    root: Root
    sizes: dict[str, int] = field(default_factory=dict)
    """Of every file; `WRONG` for those that are known to be damaged."""
    receipts: list[Receipt] = field(default_factory=list)
    names: list[str] | None = None
    """Of its images; None where they are lost."""
    contents: list[str] | None = None
    """Of its images; None where they are lost, or not known, as while a run is on."""
    seen: list[Seen] = field(default_factory=list)
    """Images as they were when a run looked at them."""
    damaged: Damage = field(default_factory=dict)
    banks: dict[str, Sum] = field(default_factory=dict)
    """What the files of learned banks were that are lost: those learned in their place must be the same."""
    lost: Problem | None = None
    """What cannot be mended."""

    @property
    def header(self) -> dict[str, Any] | None:
        return self.root.header

    def before(self, plan: Plan) -> Before:
        """Return the rows of the store; where their names are lost, and nothing else, they are those of the plan."""
        names = self.names
        if names is None:
            names = list(plan.collection.paths) if self.receipts else []
        return before_of(names, self.contents, self.receipts, self.seen)


def recover(place: Place, plan: Plan) -> Known:
    """Return what is known of a store, damaged or not; of shards, no more is read than must be.

    Parameters
    ----------
    place : Place
    plan : Plan
        What is wanted there: receipts that are lost can be written anew where it is what was there.

    Raises
    ------
    StoreError
        If the place cannot be read.
    """
    known = Known(read_root(place), dict(place.files()))
    header = known.header
    if header is not None and header["format"] != FORMAT:
        return known
    complete = header is not None and header.get("status") == "complete"
    table, ledger = read_checksums(place), read_ledger(place)
    if complete:
        known.damaged = find_damage(place, known.sizes, known.root, table, ledger)
    known.names = find_names(place)
    known.contents = find_contents(place)
    journal = Journal(place)
    if journal.exists():
        known.receipts, known.seen = journal.read_all()
        known.contents = None
    elif ledger is not None and (complete or ledger.failures is not None):
        known.receipts = told_receipts(place, ledger)
        if not complete:  # whatever came between, a shard that has the bytes of its receipt is that shard
            known.damaged |= _damaged_shards(place, ledger)
    elif table is not None:
        known.receipts = _receipts_of(place, plan, known.contents, table, known.damaged)
    if known.names is not None and known.contents is not None:
        known.seen = read_stamps(place, known.names, known.contents)
    known.sizes |= dict.fromkeys(known.damaged, WRONG)
    known.banks = _lost_banks(known.damaged, table, Findings(place).read())
    known.lost = _lost(place, known, plan)
    return known


def find_damage(
    place: Place, sizes: Mapping[str, int], root: Root, table: Checksums | None, ledger: Ledger | None
) -> Damage:
    """Return which files of a complete store are not as they were written, as far as that shows without reading shards.

    Sizes are compared of all files; the content of those that are no shards, where they are few and at hand, and of
    those that ``featpipe verify`` found damaged.
    """
    damaged: Damage = {} if root.sound else {NODE: None}
    sums = table.sums if table is not None else shard_sums(ledger)
    damaged |= {key: one for key, one in sums.items() if sizes.get(key) != one.bytes}
    if table is None:
        damaged |= {key: None for key, size in sizes.items() if not size and is_visible(key)}
        if root.state != "unsealed":
            damaged |= dict.fromkeys(damaged_in_sealed(place, CHECKSUMS))
            damaged |= dict.fromkeys(damaged_in_sealed(place, RECEIPTS) if ledger is None else ())
    small = [key for key in sums if not is_shard(key) and key not in damaged]
    if isinstance(place, LocalPlace) and len(small) <= CONSOLIDATED:
        damaged |= {key: sums[key] for key in differing(place, sums, small)}
    doubted = [key for key in Findings(place).read() if key in sums and key not in damaged]
    return damaged | {key: sums[key] for key in differing(place, sums, doubted)}


def _damaged_shards(place: Place, ledger: Ledger) -> Damage:
    sums = shard_sums(ledger)
    return {key: sums[key] for key in differing(place, sums, sums)}


def _receipts_of(
    place: Place, plan: Plan, contents: list[str] | None, table: Checksums, damaged: Mapping[str, object]
) -> list[Receipt]:
    """Return the receipts of a store that has lost them, where the plan says what they were; none where it does not."""
    header = table.header
    if contents is None or len(contents) != len(plan.collection):
        return []
    identities = Identities(plan, contents)
    here = {name: identities.decoder_versions.get(name) for name in DECODERS}
    before = {name: (header.get("versions") or {}).get(name) for name in DECODERS}
    failures_lost = any(key.startswith("ok/") for key in damaged)
    if failures_lost or header.get("digests") != plan_digests(plan) or here != before:
        return []
    planned = _planned(plan, identities, table.sums)
    receipts = [*with_failures(planned, read_failures(place), read_unavailable(place))]
    told = {shard.key for one in receipts for shard in one.shards}
    return receipts if told == set(filter(is_shard, table.sums)) else []


def _planned(plan: Plan, identities: Identities, sums: Mapping[str, Sum]) -> Iterator[Receipt]:
    for task in plan.tasks:
        for i in task.maps:
            images = (task.images.start, task.images.stop)
            shards = tuple(Shard(key, *sums[key]) for key in _shard_keys(plan, task, i) if key in sums)
            a_map = plan.maps[i]
            identity = identities.of(a_map, task.images)
            assert identity is not None
            yield Receipt(a_map.name, images, task.block, identity, shards)


def _shard_keys(plan: Plan, task: Task, map_index: int) -> Iterator[str]:
    """Yield the keys of what a task may write of a map, in the order in which it does."""
    a_map, start, stop = plan.maps[map_index], *task.images
    if task.block is not None:
        at = (*task.block, 0)
        yield shard_key(a_map.name, (start, *at)) if a_map.stacked else shard_key(f"images/{start}/{a_map.name}", at)
    elif a_map.stacked:
        edge = array_plan(plan, map_index, int(np.argmax(plan.collection.heights > 0))).shard[0]
        for row in range(start // edge, -(-stop // edge)):
            yield shard_key(a_map.name, (row, 0, 0, 0))
    else:
        for image in range(start, stop):
            yield shard_key(f"images/{image}/{a_map.name}", (0, 0, 0))


def _lost_banks(damaged: Damage, table: Checksums | None, found: Damage) -> dict[str, Sum]:
    """Return what all files were of the banks that are damaged, now or when a run began to mend them."""
    banks = {key: one for key, one in found.items() if one is not None and key.startswith(f"{FITS}/")}
    if table is not None:
        groups = {bank_group(key) for key in damaged if key.startswith(f"{FITS}/") and key != f"{FITS}/{NODE}"}
        banks |= {key: one for key, one in table.sums.items() if bank_group(key) in groups}
    return banks


def bank_group(key: str) -> str:
    """Return what the keys of a learned bank begin with, of one of them."""
    return "/".join(key.split("/")[:2]) + "/"


def _lost(place: Place, known: Known, plan: Plan) -> Problem | None:
    """Return what of a store cannot be known any more."""
    change = "Set store.path to another path, or compute it anew with --overwrite."
    if known.header is None:
        if known.root.state == "damaged" and not known.receipts and not Journal(place).exists():
            what = "is damaged: its zarr.json cannot be read, and neither receipts nor checksums tell what it held."
            return Problem(str(place), what, change)
        same = False
    else:
        before = (known.header.get("digests") or {}).get("images")
        same = before in (table_digest(plan.collection), plan.collection.digest)  # the latter is of featpipe 0.1
    if known.names is None and known.receipts and not same:
        what = "has lost the names of its images (path), and these are not the same images: its rows have no names."
        return Problem(str(place), what, change)
    return None
