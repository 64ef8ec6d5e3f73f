"""What has become of the images whose features a store holds, and which of these features a run would lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property

import numpy as np
import numpy.typing as npt

from featpipe.plan.collection import Collection, matched_rows
from featpipe.plan.identity import stamps_digest
from featpipe.report.units import count_text
from featpipe.run.contents import Contents
from featpipe.store.receipts import Receipt
from featpipe.store.seen import Seen

MOST_NAMES = 3
"""Images that are named; of more, there is only the number."""


class Now(Enum):
    """What an image is now, compared with what it was when its features were computed."""

    NEW = auto()
    SAME = auto()
    OPEN = auto()
    """Its time differs, or was not noted: whether its content does is not known until it is read."""
    CHANGED = auto()
    UNREADABLE = auto()
    UNKNOWN = auto()
    """Its time differs, and what it held is not known."""
    RETRIED = auto()
    """It has no features, as it failed, and is another now."""
    UNFINISHED = auto()
    """Its features are not computed yet."""


@dataclass
class Before:
    """The rows of a store as they were computed."""

    names: list[str]
    contents: list[str | None]
    """None where it is not known."""
    receipts: list[Receipt]
    seen: list[Seen]

    @cached_property
    def covered(self) -> npt.NDArray[np.bool_]:
        """(n,) whether a shard was computed for the row."""
        found = np.zeros(len(self.names), bool)
        for receipt in self.receipts:
            found[slice(*receipt.images)] = True
        return found

    @cached_property
    def failed(self) -> dict[int, str]:
        """Rows without features, and why."""
        return {row: why for receipt in self.receipts for row, why in (receipt.failures or {}).items()}


def before_of(names: list[str], contents: Sequence[str] | None, receipts: list[Receipt], seen: list[Seen]) -> Before:
    """Return the rows of a store.

    Parameters
    ----------
    names : list of str
    contents : sequence of str, optional
        As the store tells them; where it does not, what was seen does.
    receipts : list of Receipt
    seen : list of Seen
    """
    if contents is not None and len(contents) == len(names):
        return Before(names, list(contents), receipts, seen)
    found: dict[str, str] = {}
    for one in seen:  # a run that sees another content later stops before it computes anything from it
        found.setdefault(one.name, one.content)
    return Before(names, [found.get(name) for name in names], receipts, seen)


@dataclass
class Changes:
    """How the images of a plan stand to the rows of a store."""

    before: Before
    collection: Collection
    contents: Contents
    rows: npt.NDArray[np.int64] = field(init=False)
    """(n,) the row that each image has in the store, -1 for none."""
    now: list[Now] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = matched_rows(self.collection.paths, self.before.names)
        stamped = self._stamped()
        self.now = [self._state(row, was, stamped) for row, was in enumerate(self.rows.tolist())]

    def _stamped(self) -> set[int]:
        """Return the rows of a store of featpipe 0.1 whose images have the sizes and times they had."""
        if None not in self.before.contents:
            return set()
        place = np.full(len(self.before.names), -1, np.int64)
        place[self.rows[self.rows >= 0]] = np.flatnonzero(self.rows >= 0)
        found: set[int] = set()
        for images, given in {(one.images, one.identity.input) for one in self.before.receipts}:
            was = np.arange(*images)
            now = place[slice(*images)]
            same = len(now) == len(was) and bool((now >= 0).all())
            if same and stamps_digest(self.collection, now, was) == given:
                found.update(was.tolist())
        return found

    def _state(self, row: int, was: int, stamped: set[int]) -> Now:
        if was < 0:
            return Now.NEW
        then, now = self.before.contents[was], self.contents.rows[row]
        covered = bool(self.before.covered[was])
        finished = covered and was not in self.before.failed
        if finished and (row in self.collection.unreadable or row in self.contents.failed):
            return Now.UNREADABLE
        if was in stamped:
            return Now.SAME
        if then is None:
            return Now.UNKNOWN if finished else Now.RETRIED if covered else Now.UNFINISHED
        if now == then:
            return Now.SAME if covered else Now.UNFINISHED
        if now is None and then and not self.contents.differs(row, then):
            return Now.OPEN
        return Now.CHANGED if finished else Now.RETRIED if covered else Now.UNFINISHED

    def within(self, images: tuple[int, int]) -> set[Now]:
        """Return what the images of some rows are now."""
        return set(self.now[slice(*images)])

    def moved(self, images: tuple[int, int]) -> bool:
        """Tell whether images of some rows had other rows before."""
        was = self.rows[slice(*images)]
        return bool(((was >= 0) & (was != np.arange(*images))).any())

    @cached_property
    def open(self) -> list[int]:
        """Images whose content must be compared."""
        return self._those(Now.OPEN)

    @cached_property
    def gone(self) -> list[int]:
        """Rows of the store whose images are no longer there."""
        there = np.zeros(len(self.before.names), bool)
        there[self.rows[self.rows >= 0]] = True
        found: list[int] = np.flatnonzero(~there).tolist()
        return found

    @cached_property
    def lost(self) -> list[int]:
        """Those of them that have features."""
        return [row for row in self.gone if self.before.covered[row] and row not in self.before.failed]

    @property
    def others(self) -> bool:
        """Whether none of the store's images is there."""
        return len(self.gone) == len(self.before.names) > 0

    def _those(self, state: Now) -> list[int]:
        return [row for row, now in enumerate(self.now) if now is state]

    def losses(self) -> Iterator[str]:
        """Yield whose features a run would replace by others, or by none, each as the end of ``the features of …``."""
        names = self.collection.paths
        if self.lost and self.others:
            yield "other images"
        elif self.lost:
            yield _told(self.before.names, self.lost, "that is no longer there", "that are no longer there")
        changed = self._those(Now.CHANGED)
        if changed and self.collection.kind == "zarr":
            yield f"{count_text(len(changed), 'image')} of an array that has changed"
        elif changed:
            yield _told(names, changed, "that has changed", "that have changed")
        unreadable = self._those(Now.UNREADABLE)
        if unreadable:
            reasons: Mapping[int, str] = {**self.contents.failed, **self.collection.unreadable}
            shown = [f"{names[row]}: {reasons[row].rstrip('.')}" for row in unreadable]
            yield _told(shown, range(len(shown)), "that cannot be read now", "that cannot be read now", "; ")
        unknown = self._those(Now.UNKNOWN)
        if unknown:
            yield _told(
                names,
                unknown,
                _UNKNOWN.format("has another time or size"),
                _UNKNOWN.format("have other times or sizes"),
            )

    def comparing(self, rows: Sequence[int]) -> str:
        """Return in words why the content of some images must be compared."""
        if self.collection.is_array:
            return (
                "the array has another time than was noted" if self.contents.noted else "the array's time was not noted"
            )
        noted = sum(self.collection.paths[row] in self.contents.noted for row in rows)
        texts = []
        if noted:
            texts.append(f"the times of {count_text(noted, 'image')} differ from those noted")
        if len(rows) > noted:
            texts.append(f"the times of {count_text(len(rows) - noted, 'image')} were not noted")
        return " and ".join(texts)


_UNKNOWN = "that {}, of which the store does not tell the content, as one of featpipe 0.1"


def _told(names: Sequence[str], rows: Iterable[int], one: str, many: str, between: str = ", ") -> str:
    shown = [names[row] for row in rows]
    first = between.join(shown[:MOST_NAMES]) + (f"{between}…" if len(shown) > MOST_NAMES else "")
    return f"{count_text(len(shown), 'image')} {one if len(shown) == 1 else many} ({first})"
