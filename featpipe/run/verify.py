"""Whether a store still holds what was written: every shard against its receipt, and some computed again."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from featpipe.errors import FeatpipeError, Problem, StoreError
from featpipe.images.reader import open_reader
from featpipe.plan.budget import Resources
from featpipe.plan.identity import Identities
from featpipe.plan.model import Failure, Plan
from featpipe.run.planning import plan_run
from featpipe.run.standing import wanted_receipts
from featpipe.spec.load import parse_pipeline
from featpipe.store.create import read_failures
from featpipe.store.fits import GROUP, StoreShelf, learned_banks
from featpipe.store.format import no_stack, read_header
from featpipe.store.place import Place, open_place
from featpipe.store.receipts import Receipt, read_receipts
from featpipe.store.shard import Shard, check_shard, read_layout

AHEAD = 64
"""Shards that are under way at once, at most."""
Tell = Callable[[int, int], None]
"""Is told shards done and shards in all."""


@dataclass
class VerifyReport:
    """What was found."""

    store: str
    shards: int = 0
    bytes: int = 0
    recomputed: int = 0
    """Shards that were computed again."""
    problems: list[Problem] = field(default_factory=list)


def verify_store(
    path: str, *, recompute: int = 0, seed: int | None = None, resources: Resources, tell: Tell | None = None
) -> VerifyReport:
    """Read every shard of a complete store and compare it with its receipt.

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
        If there is no complete store, or it has no receipts.
    """
    place = open_place(path)
    header = read_header(place)
    if header is None:
        raise no_stack(place)
    if header.get("status") != "complete":
        raise StoreError(Problem(path, "is not complete.", "Run its pipeline again: it goes on where it stopped."))
    receipts = read_receipts(place, read_failures(place))
    if not receipts:
        raise StoreError(Problem(path, "has lost its receipts, or never had any.", "Compute it again (--overwrite)."))
    report = VerifyReport(path)
    shards = [shard for receipt in receipts for shard in receipt.shards]
    _compare(place, shards, resources.threads, report, tell or (lambda *_: None))
    report.problems += _strangers(place, {shard.key for shard in shards})
    report.problems += _broken_banks(place)
    if recompute:
        _recompute(place, header, receipts, min(recompute, len(shards)), random.Random(seed), resources, report)
    return report


def _compare(place: Place, shards: list[Shard], threads: int, report: VerifyReport, tell: Tell) -> None:
    def look(shard: Shard) -> Problem | None:
        return _look_at(place, shard)

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(shards), AHEAD):
            for shard, problem in zip(shards[start:], pool.map(look, shards[start : start + AHEAD]), strict=False):
                report.shards += 1
                report.bytes += shard.bytes
                if problem is not None:
                    report.problems.append(problem)
                tell(report.shards, len(shards))


def _look_at(place: Place, shard: Shard) -> Problem | None:
    """Return what is wrong with a shard."""
    where = f"{place}/{shard.key}"
    try:
        content = place.read(shard.key)
    except FeatpipeError as error:
        return error.problems[0]
    if content is None:
        return Problem(where, "is missing.", "Run the pipeline again: it computes what is missing.")
    if len(content) != shard.bytes:
        return Problem(where, f"has {len(content):,} bytes; {shard.bytes:,} were written.", _REPAIR)
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        return Problem(where, "has other bytes than were written.", _REPAIR)
    layout = read_layout(place, shard.key.rsplit("/c/", 1)[0])
    why = "its array's zarr.json is missing" if layout is None else check_shard(content, layout)
    return Problem(where, f"cannot be read: {why}.", _REPAIR) if why else None


_REPAIR = "Remove this file and run the pipeline again: it computes what is missing."


def _strangers(place: Place, known: set[str]) -> Iterator[Problem]:
    """Yield the shards that no receipt tells of."""
    for key, _ in place.files():
        if "/features/c/" in key and key not in known:
            yield Problem(f"{place}/{key}", "was not written by a run of this store.", "Remove it.")


def _broken_banks(place: Place) -> Iterator[Problem]:
    for bank in learned_banks(place):
        key = str(bank["group"]).removeprefix(f"{GROUP}/")
        if StoreShelf(place, {key: str(bank.get("images"))}).read(key) is None:
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
    wanted = {receipt.place: (task, i, receipt) for task, i, receipt in wanted_receipts(plan, Identities(plan))}
    drawn = draw.sample([(receipt, shard) for receipt in receipts for shard in receipt.shards], count)
    parts: dict[tuple[Any, ...], tuple[Receipt, list[Shard]]] = {}
    for receipt, shard in drawn:
        parts.setdefault(receipt.place, (receipt, []))[1].append(shard)
    plan = _with_banks(plan, place)
    failed = {image: Failure(image, why) for image, why in read_failures(place).items()}  # their rows are NaN whole
    work = Work(plan, open_reader(plan.pipeline.images, plan.collection), ShardHasher(place), failed)
    for key, (receipt, shards) in parts.items():
        found = wanted.get(key)
        if found is None or found[2].identity != receipt.identity:
            report.problems.append(_cannot_recompute(receipt, found[2] if found else None, str(place)))
            continue
        task, i, _ = found
        made = {one.key: one for one in work.run(task, maps=(i,)).shards.get(i, ())}
        report.recomputed += len(shards)
        for shard in shards:
            if made.get(shard.key) != shard:
                what = "computed again from its images, it has other bytes."
                report.problems.append(Problem(f"{place}/{shard.key}", what, _REPAIR))


def _with_banks(plan: Plan, place: Place) -> Plan:
    """Return the plan with the banks that the store holds."""
    if not plan.program.fits:
        return plan
    from featpipe.run.learning import learn

    return learn(plan, StoreShelf(place, Identities(plan).fits))


def _cannot_recompute(receipt: Receipt, wanted: Receipt | None, store: str) -> Problem:
    """Say why a shard cannot be computed again as it was."""
    have, want = receipt.identity, wanted.identity if wanted else None
    if want is not None and have.fits != want.fits:
        why = "its banks were learned from other images than there are now"
    elif want is None or have.pieces != want.pieces or have.chain != want.chain:
        why = "this featpipe plans other shards"
    elif have.versions != want.versions:
        why = "decoders or arithmetic are of other versions here"
    else:
        why = "its images have changed"
    where = f"{store}/{receipt.map}, images {receipt.images[0]:,} to {receipt.images[1] - 1:,}"
    return Problem(where, f"cannot be computed again: {why}.", "Run the pipeline again.")
