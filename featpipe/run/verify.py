"""Whether a store still holds what was written: every file against its checksum, and some shards computed again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from featpipe.errors import FeatpipeError, Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.images.reader import open_reader
from featpipe.plan.budget import Resources
from featpipe.plan.identity import Identities, Identity, stamps_digest
from featpipe.plan.model import Failure, MapPlan, Plan
from featpipe.run.planning import plan_run
from featpipe.run.standing import LiveIdentities, identities_now
from featpipe.spec.load import parse_pipeline
from featpipe.store.checksums import Checksums, Findings, is_listed, is_shard, read_checksums
from featpipe.store.fits import GROUP, StoreShelf, learned_banks
from featpipe.store.format import FORMAT, NODE, no_stack, node_key
from featpipe.store.place import Place, open_place
from featpipe.store.receipts import GROUP as RECEIPTS
from featpipe.store.receipts import Ledger, Receipt, read_ledger, shard_sums, told_receipts
from featpipe.store.root import CHECKSUMS, Root, read_root
from featpipe.store.seal import MENDS, Sum, damaged_in_sealed, sum_of
from featpipe.store.shard import Shard, check_shard, read_layout
from featpipe.store.target import is_store

AHEAD = 64
"""Files that are under way at once, at most."""
Tell = Callable[[int, int], None]
"""Is told files done and files in all."""


@dataclass
class VerifyReport:
    """What was found."""

    store: str
    shards: int = 0
    files: int = 0
    """Others than shards: metadata, names, labels, axes, banks, receipts."""
    bytes: int = 0
    """Of the shards."""
    recomputed: int = 0
    """Shards that were computed again."""
    problems: list[Problem] = field(default_factory=list)


def verify_store(
    path: str, *, recompute: int = 0, seed: int | None = None, resources: Resources, tell: Tell | None = None
) -> VerifyReport:
    """Read every file of a complete store and compare it with what was written.

    What is damaged is noted beside the store, so that the next run looks at it and mends it.

    Parameters
    ----------
    path : str
        Of the store.
    recompute : int
        Shards, drawn at random, to compute again from the images and compare bit by bit.
    seed : int, optional
        Of this draw; another one every time unless given.
    resources : Resources
        Threads that read, and what computing again may use.
    tell : callable, optional

    Raises
    ------
    StoreError
        If there is no complete store, or it has neither receipts nor checksums.
    """
    place = open_place(path)
    root = read_root(place)
    if root.header is None and not is_store(place):
        raise no_stack(place)
    if root.header is not None and root.header["format"] != FORMAT:
        raise StoreError(Problem(path, f"is of format {root.header['format']}; this featpipe verifies {FORMAT}."))
    if root.header is not None and root.sound and root.header.get("status") != "complete":
        raise StoreError(Problem(path, "is not complete.", "Run its pipeline again: it goes on where it stopped."))
    table, ledger = read_checksums(place), read_ledger(place)
    if table is None and ledger is None and root.sound:
        raise StoreError(Problem(path, "has lost its receipts, or never had any.", "Compute it again (--overwrite)."))
    report = VerifyReport(path)
    damaged = _metadata_damage(place, root, table, ledger)
    sums = table.sums if table is not None else shard_sums(ledger)
    damaged |= _compare(place, sums, resources.threads, report, tell or (lambda *_: None))
    report.problems[:0] = [Problem(f"{place}/{key}", damaged[key], MENDS) for key in sorted(damaged)]
    report.problems += _strangers(place, set(sums), table)
    report.problems += _broken_banks(place, damaged)
    with suppress(FeatpipeError):  # who may only look leaves no note
        Findings(place).write({key: sums.get(key) for key in damaged})
    if recompute and ledger is not None and root.header is not None:
        shards = sum(len(one.shards) for one in ledger.receipts)
        draw = random.Random(seed)
        receipts = told_receipts(place, ledger)
        _recompute(place, root.header, receipts, min(recompute, shards), draw, resources, report)
    return report


def _metadata_damage(place: Place, root: Root, table: Checksums | None, ledger: Ledger | None) -> dict[str, str]:
    """Return what is wrong with files that vouch for themselves."""
    damaged: dict[str, str] = {}
    match root.state:
        case "whole" | "unsealed":
            pass
        case "lost":
            damaged[NODE] = "is missing or empty."
        case "damaged":
            damaged[NODE] = _OTHER_BYTES
    if root.state != "unsealed":
        groups = [(CHECKSUMS, table), (RECEIPTS, ledger)]
        for key in [key for group, found in groups if found is None for key in damaged_in_sealed(place, group)]:
            content = place.read(key)
            damaged[key] = "is missing." if content is None else _OTHER_BYTES
    return damaged


def _compare(place: Place, sums: Mapping[str, Sum], threads: int, report: VerifyReport, tell: Tell) -> dict[str, str]:
    """Read all files; return what is wrong with which."""

    def look(key: str) -> str:
        return _look_at(place, key, sums)

    damaged, keys = {}, sorted(sums)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(keys), AHEAD):
            for key, problem in zip(keys[start:], pool.map(look, keys[start : start + AHEAD]), strict=False):
                report.shards += is_shard(key)
                report.files += not is_shard(key)
                report.bytes += sums[key].bytes if is_shard(key) else 0
                if problem:
                    damaged[key] = problem
                tell(report.shards + report.files, len(keys))
    return damaged


def _look_at(place: Place, key: str, sums: Mapping[str, Sum]) -> str:
    """Return what is wrong with a file, or nothing."""
    written, array = sums[key], key.rsplit("/c/", 1)[0]
    try:
        content = place.read(key)
    except FeatpipeError as error:
        return error.problems[0].what
    if content is None:
        return "is missing."
    if len(content) != written.bytes:
        return f"has {len(content):,} bytes; {written.bytes:,} were written."
    if sum_of(content).sha256 != written.sha256:
        return _OTHER_BYTES
    if not is_shard(key):
        return ""
    try:
        layout = read_layout(place, array)
    except (StoreError, LookupError, TypeError, ValueError, AttributeError):
        return ""  # the array's own metadata are damaged
    if layout is None and node_key(array) in sums:
        return ""  # and said to be so
    why = "its array's zarr.json is missing" if layout is None else check_shard(content, layout)
    return f"cannot be read: {why}." if why else ""


_OTHER_BYTES = "has other bytes than were written."


def _strangers(place: Place, known: set[str], table: Checksums | None) -> Iterator[Problem]:
    """Yield what a reader may take for a part of the store and no run has written."""
    if not known:
        return
    for key, _ in place.files():
        if key not in known and (is_listed(key) if table is not None else is_shard(key)):
            yield Problem(f"{place}/{key}", "was not written by a run of this store.", "Remove it.")


def _broken_banks(place: Place, damaged: Mapping[str, str]) -> Iterator[Problem]:
    for bank in learned_banks(place):
        key = str(bank["group"]).removeprefix(f"{GROUP}/")
        known = any(one.startswith(f"{bank['group']}/") for one in damaged)
        if not known and StoreShelf(place).read(key) is None:
            yield Problem(f"{place}/{bank['group']}", "is not the bank that was learned.", "Remove it, and run again.")


def _recompute(
    place: Place,
    header: Mapping[str, Any],
    receipts: list[Receipt],
    count: int,
    draw: random.Random,
    resources: Resources,
    report: VerifyReport,
) -> None:
    """Compute some shards again, from the images, and compare what would be written."""
    from featpipe.store.write import ShardHasher
    from featpipe.task import Work

    pipeline = parse_pipeline(header["pipeline"])
    here = pipeline.store.model_copy(update={"path": str(place)})
    plan = plan_run(pipeline.model_copy(update={"store": here}), resources)
    identities = identities_now(place, plan)
    wanted = {(plan.maps[i].name, task.images.start, task.block): (task, i) for task in plan.tasks for i in task.maps}
    drawn = draw.sample([(receipt, shard) for receipt in receipts for shard in receipt.shards], count)
    parts: dict[tuple[Any, ...], tuple[Receipt, list[Shard]]] = {}
    for receipt, shard in drawn:
        parts.setdefault(receipt.place, (receipt, []))[1].append(shard)
    plan = _with_banks(plan, place, identities)
    told = (one for receipt in receipts for one in (receipt.failures or {}).items())
    failed = {image: Failure(image, why) for image, why in told}  # their rows are NaN whole
    work = Work(plan, open_reader(plan.pipeline.images, plan.collection), ShardHasher(place), failed)
    for key, (receipt, shards) in parts.items():
        task, i = wanted.get(key, (None, 0))
        want = None if task is None else identities.of(plan.maps[i], task.images)
        if task is None or want is None or not _same(receipt, want, identities.known, plan.maps[i], task.images):
            report.problems.append(_cannot_recompute(receipt, want, str(place)))
            continue
        done = work.run(task.index, maps=(i,))
        lost = [failure.reason for failure in done.failures if failure.image not in work.failed]
        if lost:
            report.problems.append(_cannot(receipt, str(place), lost[0].rstrip(".")))
            continue
        made = {one.key: one for one in done.shards.get(i, ())}
        report.recomputed += len(shards)
        for shard in shards:
            if made.get(shard.key) != shard:
                what = "computed again from its images, it has other bytes."
                change = "Remove this file and run the pipeline again: it computes what is missing."
                report.problems.append(Problem(f"{place}/{shard.key}", what, change))


def _same(receipt: Receipt, want: Identity, known: Identities, a_map: MapPlan, images: Span) -> bool:
    """Tell whether a shard was made of what there is now, which featpipe 0.1 told by times."""
    rows = np.arange(*images)
    stamped = stamps_digest(known.plan.collection, rows, rows)
    as_stamped = replace(want, input=stamped, fits=known.stamped_fits(a_map))
    return receipt.identity in (want, as_stamped)


def _with_banks(plan: Plan, place: Place, identities: LiveIdentities) -> Plan:
    """Return the plan with the banks that the store holds."""
    if not plan.program.fits:
        return plan
    from featpipe.run.learning import learn

    return learn(plan, StoreShelf(place, identities.fit, identities.known.stamped_fit))


def _cannot_recompute(receipt: Receipt, want: Identity | None, store: str) -> Problem:
    """Say why a shard cannot be computed again as it was."""
    have = receipt.identity
    if want is not None and have.fits != want.fits:
        why = "its banks were learned from other images than there are now"
    elif want is None or have.pieces != want.pieces or have.chain != want.chain:
        why = "this featpipe plans other shards"
    elif have.versions != want.versions:
        why = "decoders or arithmetic are of other versions here"
    else:
        why = "its images have changed"
    return _cannot(receipt, store, why)


def _cannot(receipt: Receipt, store: str, why: str) -> Problem:
    where = f"{store}/{receipt.map}, images {receipt.images[0]:,} to {receipt.images[1] - 1:,}"
    return Problem(where, f"cannot be computed again: {why}.", "Run the pipeline again.")
