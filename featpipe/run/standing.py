"""What of a plan is there already, what is stale and why, and what a run would discard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

from featpipe.errors import Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.plan.collection import matched_rows
from featpipe.plan.identity import DECODERS, Identities, Identity, plan_digests
from featpipe.plan.model import MapPlan, Plan
from featpipe.report.units import count_text
from featpipe.run.changes import Before, Changes, Now
from featpipe.run.contents import Contents
from featpipe.run.recovery import Damage, recover
from featpipe.store.format import FORMAT
from featpipe.store.place import Place
from featpipe.store.receipts import Receipt, find_contents, find_names
from featpipe.store.seal import Sum
from featpipe.store.seen import read_stamps

Reason = Literal[
    "new map", "new images", "work not done yet", "changed images", "failed images that have changed",
    "images that cannot be read now", "images that may have changed", "images that are no longer there",
    "failed images", "images not reached before", "lost files",
    "another pipeline", "banks learned from other images", "other versions", "other batches or blocks",
]  # fmt: skip
DISCARDING: tuple[Reason, ...] = (
    "another pipeline",
    "banks learned from other images",
    "other versions",
    "other batches or blocks",
)
"""Why features that nobody asked to lose would be computed anew."""


@dataclass
class Standing:
    """How a store stands to a plan."""

    place: Place
    plan: Plan
    identities: Identities
    header: Mapping[str, Any] | None
    contents: Contents
    """Of the images, as far as it is known."""
    kept: list[Receipt] = field(default_factory=list)
    """Of the shards that are there and stay."""
    todo: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Task to the maps that it must compute."""
    reasons: Counter[Reason] = field(default_factory=Counter)
    """Why, of so many shards of a task and a map."""
    stale_maps: dict[Reason, set[str]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    """Maps of the store that the plan does not know."""
    changes: Changes | None = None
    """None where there is no store."""
    open: list[int] = field(default_factory=list)
    """Images whose content must be compared; until then, shards of them are taken to be kept."""
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
        table = before.get("images") in (now["images"], self.plan.collection.digest)  # the latter is of featpipe 0.1
        same = table and before.get("pipeline") == now["pipeline"]
        whole = not self.damaged and not self.open and self.receipts > 0
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
        change = f"Set store.path to another path, or {_REPLACE}."
        if header["format"] != FORMAT:
            what = f"is a feature stack of format {header['format']}, {by}; this one writes {FORMAT}."
            return Problem(str(self.place), what, change)
        if not self.receipts:
            if header.get("status") != "complete":
                return None
            return Problem(str(self.place), f"has lost its receipts, or never had any; it was {by}.", change)
        losses = list(self.changes.losses()) if self.changes is not None else []
        texts = [*self._discarded(), *losses]
        if not texts:
            return None
        if losses:
            change = f"Put the images back as they were, or set store.path to another path, or {_REPLACE}."
        return Problem(str(self.place), f"holds the features of {' and of '.join(texts)}, {by}.", change)

    def _discarded(self) -> Iterator[str]:
        """Yield what other features there are than are asked for, each as the end of ``the features of …``."""
        for why in DISCARDING:
            maps = sorted(self.stale_maps.get(why, ()))
            if why == "another pipeline":
                maps = [*maps, *self.dropped]
            if why == "other versions" and maps:
                yield why + self._versions_text()
            elif maps and not (why == "other batches or blocks" and self.shifted):
                yield f"{why} ({', '.join(maps[:3])}{', …' if len(maps) > 3 else ''})"

    @property
    def shifted(self) -> bool:
        """Whether images of the store are gone, so that rows and batches are those of a store made anew."""
        return self.changes is not None and bool(self.changes.gone)

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
            "to_compare": len(self.open),
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
        if not self.receipts:
            return "Nothing of what is there is finished; a run computes it all."
        compared = ""
        if self.open and self.changes is not None:
            why = self.changes.comparing(self.open)
            compared = f" {why[0].upper()}{why[1:]}: it compares their content first."
        left = total - len(self.kept)
        if self.damaged:
            damaged = count_text(len(self.damaged), "file")
            again = f", computing {count_text(left, 'shard')} of {total:,} again" if left else ""
            return f"What is there is damaged ({damaged}, {min(self.damaged)} first): a run mends it{again}.{compared}"
        computed = f"computes {left:,}: {', '.join(map(self._told, self.reasons))}"
        if not self.kept:
            return f"A run keeps none of the shards that are there. It {computed}.{compared}"
        there = f"A run goes on with what is there: {len(self.kept):,} of {count_text(total, 'shard')}"
        if left:
            return f"{there}. It {computed}.{compared}"
        if compared:
            return f"{there}.{compared}"
        return f"{there}, and all that is left to do is to write the images' table."

    def _told(self, why: Reason) -> str:
        maps = sorted(self.stale_maps[why])
        return f"{self.reasons[why]:,} for {why}" + (f" {', '.join(maps[:3])}" if why == "new map" else "")


def look(place: Place, plan: Plan, *, retry_failed: bool = False, contents: Contents | None = None) -> Standing:
    """Compare what lies in a store with what a plan wants there; no pixel and no feature is read.

    Parameters
    ----------
    place : Place
    plan : Plan
    retry_failed : bool
        Whether shards with images that failed count as stale.
    contents : Contents, optional
        Of the images, where somebody has found out more than the store tells.

    Raises
    ------
    StoreError
        If the place cannot be read.
    """
    known = recover(place, plan)
    header, before = known.header, known.before(plan)
    if contents is None:
        contents = Contents(plan.collection, before.seen)
        if retry_failed:  # whoever mends a file may keep its time
            rows = matched_rows(plan.collection.paths, before.names)
            contents.doubt(row for row, was in enumerate(rows.tolist()) if was in before.failed)
    standing = Standing(place, plan, Identities(plan, contents.rows), header, contents)
    standing.damaged, standing.banks, standing.lost = known.damaged, known.banks, known.lost
    if header is None and not known.receipts:
        standing.todo = {task.index: task.maps for task in plan.tasks}
        return standing
    told = (header or {}).get("maps") or [{"name": receipt.map} for receipt in known.receipts]
    maps_there = {one["name"] for one in told}
    standing.dropped = tuple(sorted(maps_there - {a_map.name for a_map in plan.maps}))
    standing.receipts = len(before.receipts)
    standing.changes = Changes(before, plan.collection, contents)
    _Comparison(standing, before, maps_there, known.sizes, retry_failed=retry_failed).fill()
    return standing


def identities_now(place: Place, plan: Plan) -> LiveIdentities:
    """Return the identities of a plan's shards and banks, whose images are read where the store does not know them.

    Parameters
    ----------
    place : Place
        Of a complete store.
    plan : Plan
    """
    names, contents = find_names(place), find_contents(place)
    seen = read_stamps(place, names, contents) if names is not None and contents is not None else []
    return LiveIdentities(plan, Contents(plan.collection, seen))


class LiveIdentities:
    """The identities of a plan's shards and banks, for which images are read as they are asked for."""

    def __init__(self, plan: Plan, contents: Contents) -> None:
        self.known = Identities(plan, contents.rows)
        self._contents = contents

    def of(self, a_map: MapPlan, images: Span) -> Identity:
        """Return the identity of the shards of a map of some images."""
        self._settle([*range(*images), *self.known.drawn_for(a_map)])
        identity = self.known.of(a_map, images)
        assert identity is not None
        return identity

    def fit(self, key: str) -> str:
        """Return the digest of the images that a fit looks at."""
        self._settle(self.known.drawn[key])
        return self.known.fit(key) or ""

    def _settle(self, rows: Iterable[int]) -> None:
        self._contents.settle(rows, lambda _: None, "reading")


class _Comparison:
    """Goes through all that a plan wants, and tells what of it is there."""

    def __init__(
        self,
        standing: Standing,
        before: Before,
        maps_before: set[str],
        sizes: Mapping[str, int],
        *,
        retry_failed: bool,
    ) -> None:
        assert standing.changes is not None
        self.standing, self.changes, self.identities = standing, standing.changes, standing.identities
        self.plan = standing.plan
        self.found = {receipt.place: receipt for receipt in before.receipts}
        self.maps_before, self.retry_failed = maps_before, retry_failed
        self.sizes = sizes
        self.other_pieces = any(one.identity.pieces != self.identities.pieces for one in before.receipts)
        self.open: set[int] = set()
        self._fits: dict[tuple[str, str], Reason | None] = {}

    def fill(self) -> None:
        """Fill in what is kept, what is to be done, and why."""
        standing = self.standing
        for task in self.plan.tasks:
            images = (task.images.start, task.images.stop)
            for i in task.maps:
                a_map = self.plan.maps[i]
                receipt = self.found.get((a_map.name, images[0], task.block))
                why = self._missing(a_map, images) if receipt is None else self._stale(receipt, a_map, task.images)
                if why is None and receipt is not None:
                    standing.kept.append(receipt)
                    continue
                assert why is not None
                standing.todo[task.index] = (*standing.todo.get(task.index, ()), i)
                standing.reasons[why] += 1
                standing.stale_maps.setdefault(why, set()).add(a_map.name)
        standing.open = sorted(self.open.union(self.changes.open) if self.found else ())

    def _missing(self, a_map: MapPlan, images: tuple[int, int]) -> Reason:
        """Return why there is no such shard."""
        if a_map.name not in self.maps_before:
            return "new map"
        if self.found and self.other_pieces:
            return "images that are no longer there" if self.standing.shifted else "other batches or blocks"
        if self.changes.moved(images):
            return "images that are no longer there"
        if Now.NEW in self.changes.within(images):
            return "new images"
        return "lost files" if (self.standing.header or {}).get("status") == "complete" else "work not done yet"

    def _stale(self, receipt: Receipt, a_map: MapPlan, images: Span) -> Reason | None:
        """Return why a shard that was computed must be computed again; None where it need not."""
        have = receipt.identity
        if have.chain != self.identities.chain(a_map):
            return "another pipeline"
        if (why := self._fits_stale(a_map, have.fits)) is not None:
            return why
        if have.versions != self.identities.versions:
            return "other versions"
        if have.pieces != self.identities.pieces:
            return "images that are no longer there" if self.standing.shifted else "other batches or blocks"
        if receipt.unavailable - self.plan.collection.unavailable:
            return "images not reached before"
        if (why := self._input_stale(receipt, images)) is not None:
            return why
        if any(self.sizes.get(shard.key) != shard.bytes for shard in receipt.shards):
            return "lost files"
        return "failed images" if self.retry_failed and receipt.failures else None

    def _input_stale(self, receipt: Receipt, images: Span) -> Reason | None:
        """Return what has become of a shard's images; None where they are, or may be, the same."""
        rows = (images.start, images.stop)
        now, moved = self.changes.within(rows), self.changes.moved(rows)
        given = self.identities.input(images)
        if given is not None and given == receipt.identity.input:
            return None
        settled = now <= {Now.SAME} if given is not None else now <= {Now.SAME, Now.OPEN}
        stamped = receipt.images == rows and not moved and settled and None in self.changes.before.contents
        if stamped or (given is None and receipt.images == rows and not moved and settled):
            return None
        for state, why in _REASONS.items():
            if state in now:
                return why
        if moved or receipt.images[1] > rows[1]:
            return "images that are no longer there"
        if Now.NEW in now:
            return "new images"
        return "failed images that have changed" if receipt.failures else "changed images"

    def _fits_stale(self, a_map: MapPlan, have: str) -> Reason | None:
        """Return whether a map's banks were learned from other images; None where they were not, or may not be."""
        key = (a_map.branch, have)
        if key not in self._fits:
            self._fits[key] = self._compare_fits(a_map, have)
        return self._fits[key]

    def _compare_fits(self, a_map: MapPlan, have: str) -> Reason | None:
        if have in (self.identities.fits(a_map), self.identities.stamped_fits(a_map)):
            return None
        drawn = self.identities.drawn_for(a_map)
        unknown = [row for row in drawn if self.changes.contents.rows[row] is None]
        changed = {self.changes.now[row] for row in drawn} - {Now.SAME, Now.OPEN, Now.UNFINISHED}
        if changed or not unknown or not have.startswith(self.identities.fits_list(a_map)):
            return "banks learned from other images"
        self.open.update(unknown)
        return None


_REASONS: dict[Now, Reason] = {
    Now.CHANGED: "changed images",
    Now.UNREADABLE: "images that cannot be read now",
    Now.UNKNOWN: "images that may have changed",
    Now.RETRIED: "failed images that have changed",
}
_REPLACE = "replace what is there with --overwrite"
