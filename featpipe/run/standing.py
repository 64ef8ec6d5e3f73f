"""What of a plan is there already, what is stale and why, and what a run would discard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

from featpipe.errors import Problem, StoreError
from featpipe.plan.identity import DECODERS, Identities, plan_digests
from featpipe.plan.model import Plan
from featpipe.report.units import count_text
from featpipe.run.recovery import Damage, recover
from featpipe.store.format import FORMAT
from featpipe.store.place import Place
from featpipe.store.receipts import Receipt, Receipts
from featpipe.store.seal import Sum

Reason = Literal[
    "new map", "new images", "work not done yet", "changed images", "failed images", "images not reached before",
    "lost files", "another pipeline", "banks learned from other images", "other versions", "other batches or blocks",
]  # fmt: skip
DISCARDING: tuple[Reason, ...] = (
    "another pipeline",
    "banks learned from other images",
    "other versions",
    "other batches or blocks",
)
"""Why features that nobody asked to lose would be computed anew."""
OTHER_IMAGES = 0.5
"""Share of a store's images that must be there still for it to be taken for a store of the same collection."""


@dataclass
class Standing:
    """How a store stands to a plan."""

    place: Place
    plan: Plan
    identities: Identities
    header: Mapping[str, Any] | None
    kept: list[Receipt] = field(default_factory=list)
    """Of the shards that are there and stay."""
    todo: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Task to the maps that it must compute."""
    reasons: Counter[Reason] = field(default_factory=Counter)
    """Why, of so many shards of a task and a map."""
    stale_maps: dict[Reason, set[str]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    """Maps of the store that the plan does not know."""
    others: bool = False
    """Whether the store's images are others altogether."""
    receipts: int = 0
    """Found in the store, whether valid or not."""
    damaged: Damage = field(default_factory=dict)
    """Files that are not as they were written."""
    banks: Mapping[str, Sum] = field(default_factory=dict)
    """What the files of learned banks were that are lost."""
    lost: Problem | None = None
    """What is lost and cannot be mended."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing to do."""
        if self.header is None or self.header.get("status") != "complete":
            return False
        before, now = self.header.get("digests") or {}, plan_digests(self.plan)
        same = all(before.get(key) == now[key] for key in ("pipeline", "images"))
        whole = not self.damaged and self.receipts > 0
        return same and whole and not set(self.reasons) - {"other batches or blocks"}

    @property
    def done(self) -> int:
        """Tasks that have nothing to compute."""
        return len(self.plan.tasks) - len(self.todo)

    def check(self, *, overwrite: bool) -> None:
        """Refuse what would discard features that somebody may want.

        Raises
        ------
        StoreError
            Unless ``overwrite``.
        """
        problem = None if overwrite else self.problem
        if problem is not None:
            raise StoreError(problem)

    @cached_property
    def problem(self) -> Problem | None:
        """What a run would discard, and must be told to; None where there is nothing."""
        if self.lost is not None:
            return self.lost
        if self.header is None and not self.receipts:
            return None
        header = self.header or {"format": FORMAT}
        by = f"written by featpipe {(header.get('versions') or {}).get('featpipe', 'of unknown version')}"
        change = "Set store.path to another path, or replace it with --overwrite."
        if header["format"] != FORMAT:
            what = f"is a feature stack of format {header['format']}, {by}; this one writes {FORMAT}."
            return Problem(str(self.place), what, change)
        if not self.receipts:
            if header.get("status") != "complete":
                return None
            return Problem(str(self.place), f"has lost its receipts, or never had any; it was {by}.", change)
        why = [why for why in DISCARDING if self.reasons[why]]
        if self.others:
            why.append("other images")  # type: ignore[arg-type]
        elif not why and self.dropped:
            why.append("another pipeline")
        if not why:
            return None
        return Problem(str(self.place), f"holds the features of {self._others_text(why)}, {by}.", change)

    def _others_text(self, why: Sequence[str]) -> str:
        texts = []
        for one in why:
            maps = sorted(self.stale_maps.get(one, ()))  # type: ignore[call-overload]
            if one == "another pipeline":
                maps = [*maps, *self.dropped]
            told = f" ({', '.join(maps[:3])}{', …' if len(maps) > 3 else ''})" if maps and one != "other images" else ""
            texts.append(f"{one}{self._versions_text() if one == 'other versions' else told}")
        return " and of ".join(texts)

    def _versions_text(self) -> str:
        before = (self.header or {}).get("versions") or {}
        differ = [
            f"{name} {before.get(name, '?')}, here {version(name)}"
            for name in DECODERS
            if before.get(name) != version(name)
        ]
        return f" ({'; '.join(differ)})" if differ else ""

    def facts(self) -> dict[str, Any]:
        """Return what a run will find and do: in a sentence (``there``), and in numbers of shards a task and map."""
        total = sum(len(task.maps) for task in self.plan.tasks)
        return {
            "there": self._sentence(total),
            "refused": self.problem is not None,
            "kept": len(self.kept),
            "missing": total - len(self.kept),
            "reasons": dict(self.reasons),
            "damaged": sorted(self.damaged),
        }

    def _sentence(self, total: int) -> str:
        if self.header is None and not self.receipts and self.lost is None:
            return "Nothing is there yet."
        if self.complete:
            return "These features are there already, complete: a run has nothing to do."
        if self.problem is not None:
            return f"A run will refuse this place: it {self.problem.what} {self.problem.change}"
        if not self.kept:
            return "What is there is not finished; a run computes it anew."
        left = total - len(self.kept)
        if self.damaged:
            damaged = count_text(len(self.damaged), "file")
            computed = f", computing {count_text(left, 'shard')} of {total:,} again" if left else ""
            return f"What is there is damaged ({damaged}, {min(self.damaged)} first): a run mends it{computed}."
        there = f"A run goes on with what is there: {len(self.kept):,} of {count_text(total, 'shard')}"
        if not left:
            return f"{there}, and all that is left to do is to write the images' table."
        return f"{there}. It computes {left:,}: {', '.join(map(self._told, self.reasons))}."

    def _told(self, why: Reason) -> str:
        maps = sorted(self.stale_maps[why])
        return f"{self.reasons[why]:,} for {why}" + (f" {', '.join(maps[:3])}" if why == "new map" else "")


def look(place: Place, plan: Plan, *, retry_failed: bool = False, identities: Identities | None = None) -> Standing:
    """Compare what lies in a store with what a plan wants there; no pixel and no feature is read.

    Parameters
    ----------
    place : Place
    plan : Plan
    retry_failed : bool
        Whether shards with images that failed count as stale.
    identities : Identities, optional
        Of the plan, where somebody has worked them out already.

    Raises
    ------
    StoreError
        If the place cannot be read.
    """
    identities = identities or Identities(plan)
    known = recover(place, plan, identities)
    header = known.header
    standing = Standing(place, plan, identities, header)
    standing.damaged, standing.banks, standing.lost = known.damaged, known.banks, known.lost
    if header is None and not known.receipts:
        standing.todo = {task.index: task.maps for task in plan.tasks}
        return standing
    found: Receipts = {receipt.place: receipt for receipt in known.receipts}
    standing.receipts = len(found)
    names, sizes = known.names or [], known.sizes
    told = (header or {}).get("maps") or [{"name": receipt.map} for receipt in known.receipts]
    maps_there = {one["name"] for one in told}
    standing.dropped = tuple(sorted(maps_there - {a_map.name for a_map in plan.maps}))
    same_images = ((header or {}).get("digests") or {}).get("images") == plan.collection.digest
    standing.others = not same_images and are_others(names, plan.collection.paths)
    away = plan.collection.unavailable
    for task, map_index, wanted in wanted_receipts(plan, standing.identities):
        receipt = found.get(wanted.place)
        why = _reason(receipt, wanted, sizes, len(names), maps_there, away, retry_failed=retry_failed)
        if why is None and receipt is not None:
            standing.kept.append(receipt)
            continue
        assert why is not None
        standing.todo[task] = (*standing.todo.get(task, ()), map_index)
        standing.reasons[why] += 1
        standing.stale_maps.setdefault(why, set()).add(wanted.map)
    return standing


def wanted_receipts(plan: Plan, identities: Identities) -> Iterator[tuple[int, int, Receipt]]:
    """Yield, for every task and each of its maps, the receipt that is wanted, its shards left out."""
    for task in plan.tasks:
        for i in task.maps:
            a_map = plan.maps[i]
            images = (task.images.start, task.images.stop)
            yield task.index, i, Receipt(a_map.name, images, task.block, identities.of(a_map, task.images))


def are_others(before: Sequence[str], now: Sequence[str]) -> bool:
    """Return whether a store's images are others altogether than those of a plan."""
    there = set(before)
    return len(there & set(now)) < OTHER_IMAGES * len(there)


def _reason(
    receipt: Receipt | None,
    wanted: Receipt,
    sizes: Mapping[str, int],
    images_before: int,
    maps_before: set[str],
    unavailable: frozenset[int],
    *,
    retry_failed: bool,
) -> Reason | None:
    """Return why a part of the store must be computed; None where it is there."""
    grown = wanted.images[1] > images_before
    if receipt is None:
        return "new map" if wanted.map not in maps_before else "new images" if grown else "work not done yet"
    have, want = receipt.identity, wanted.identity
    if have.chain != want.chain:
        return "another pipeline"
    if have.fits != want.fits:
        return "banks learned from other images"
    if have.versions != want.versions:
        return "other versions"
    if have.pieces != want.pieces:
        return "other batches or blocks"
    if receipt.unavailable - unavailable:
        return "images not reached before"
    if have.input != want.input or receipt.images != wanted.images:
        return "new images" if grown else "changed images"
    if any(sizes.get(shard.key) != shard.bytes for shard in receipt.shards):
        return "lost files"
    return "failed images" if retry_failed and receipt.failures else None
