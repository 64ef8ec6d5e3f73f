"""What every shard was made of and holds, so that a run can go on, and ``featpipe verify`` can look.

While a store is partial, receipts are lines of JSON beside it, each written after the shards it tells of. In a complete
store they are plain arrays of the group ``receipts``: a row a receipt, and a row a shard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import zarr

from featpipe.plan.identity import Identity
from featpipe.replacing import TEMPORARY
from featpipe.store.create import (
    add_array,
    add_texts,
    encode_group,
    open_sealed,
    read_contents,
    read_failures,
    read_names,
    read_unavailable,
    texts,
)
from featpipe.store.format import KEY, read_node
from featpipe.store.place import Place
from featpipe.store.seal import SEAL, Sum, read_sealed, sum_of, write_sealed
from featpipe.store.seen import Seen
from featpipe.store.shard import Shard

GROUP = "receipts"
IDENTITY = tuple(field.name for field in fields(Identity))
ROWS = ("map", "first", "last", "block_y", "block_x", *IDENTITY)
SHARDS = ("key", "of_row", "bytes", "sha256")
PREFIX = "receipts-"
"""What the names of a journal's files begin with."""
SUM = "sum"
"""Of a line of a journal: the SHA-256 of what stands before it."""
Block = tuple[int, int] | None
_JOURNAL = re.compile(r"receipts-\d{8}-\d{4}\.jsonl")
"""Name of a journal; those of featpipe 0.1 have no generation."""


@dataclass(frozen=True)
class Receipt:
    """What one task has written of one map."""

    map: str
    images: tuple[int, int]
    """First, and the one after the last."""
    block: Block
    """Row and column of a large image's block; None for a batch."""
    identity: Identity
    shards: tuple[Shard, ...] = ()
    failures: Mapping[int, str] | None = None
    """Image to the reason why it has no features."""
    unavailable: frozenset[int] = frozenset()
    """Those of them that could only not be reached: they are tried again."""

    @property
    def place(self) -> tuple[str, int, Block]:
        """Which part of the store it tells of, whatever was written there."""
        return self.map, self.images[0], self.block


Receipts = dict[tuple[str, int, Block], Receipt]


class Journal:
    """The receipts of a run, line by line, in a file beside the store.

    Its name holds the generation of the run's lock, and how often the run has begun one. Only the last counts: what a
    run adds whose lock was taken tells of shards that may not lie there any more.

    Parameters
    ----------
    place : Place
        Of the store.
    generation : int
        Of the lock of the run that writes.
    """

    def __init__(self, place: Place, generation: int = 0) -> None:
        self.place = place.beside
        self.generation = generation
        self.begun = 0

    @property
    def key(self) -> str:
        """The file that is being written."""
        return f"receipts-{self.generation:08}-{self.begun:04}.jsonl"

    def read(self) -> list[Receipt]:
        """Return the receipts there are; a line that a killed run left unfinished is left out."""
        return self.read_all()[0]

    def read_all(self) -> tuple[list[Receipt], list[Seen]]:
        """Return the receipts there are, and the images as they were seen."""
        receipts: list[Receipt] = []
        images: list[Seen] = []
        for key in self._valid():
            for line in (self.place.read(key) or b"").splitlines():
                one = _from_line(line)
                if isinstance(one, Receipt):
                    receipts.append(one)
                elif one is not None:
                    images.append(one)
        return receipts, images

    def exists(self) -> bool:
        """Return whether a run has begun one and not ended; what is empty was never written."""
        return bool(self._valid())

    def begin(self, kept: Iterable[Receipt], seen: Iterable[Seen] = ()) -> None:
        """Forget all receipts but those kept: from here on, nothing else counts as done."""
        before = self._keys()
        self.begun += 1
        # Never empty: empty files count as never written
        self.place.write(self.key, [b"{}\n", _lines(kept, seen)])
        self.place.remove(before)

    def add(self, receipts: Iterable[Receipt], seen: Iterable[Seen] = ()) -> None:
        """Note that shards are written, and of which images as they were seen."""
        self.place.append(self.key, _lines(receipts, seen))

    def remove(self) -> None:
        """Remove the lines, and what others left that were killed: the store is complete."""
        left = [key for key, _ in self.place.files() if key.endswith(TEMPORARY)]
        self.place.remove([*self._keys(), *left])
        self.place.tidy()

    def _keys(self) -> list[str]:
        return sorted(key for key, _ in self.place.files() if key.startswith(PREFIX))

    def _valid(self) -> list[str]:
        """Return the keys of the journal that counts; of one that was not begun, or removed, parts do not."""
        keys = sorted(key for key, size in self.place.files() if key.startswith(PREFIX) and size)
        begun = [key for key in keys if _JOURNAL.fullmatch(key)]
        if not begun:
            return [key for key in keys if not _JOURNAL.match(key)]
        return [key for key in keys if key.partition("/")[0] == max(begun)]


def _lines(receipts: Iterable[Receipt], seen: Iterable[Seen]) -> bytes:
    return b"".join([*(_line({"seen": one}) for one in seen), *(_line(_record(receipt)) for receipt in receipts)])


def _line(record: Mapping[str, Any]) -> bytes:
    """Return a line of a journal, which ends with a digest of what stands before it."""
    text = json.dumps(record, separators=(",", ":"))
    return f'{text[:-1]},"{SUM}":"{sum_of(text.encode()).sha256}"}}\n'.encode()


def _record(receipt: Receipt) -> dict[str, Any]:
    return {
        "map": receipt.map,
        "images": receipt.images,
        "block": receipt.block,
        **vars(receipt.identity),
        "shards": receipt.shards,
        "failures": {str(image): reason for image, reason in (receipt.failures or {}).items()},
        "unavailable": sorted(receipt.unavailable),
    }


def _from_line(line: bytes) -> Receipt | Seen | None:
    """Return what a line tells; None where it was cut, or is not as it was written."""
    try:
        record = json.loads(line)
        if SUM in record:
            text = line[: line.rindex(f',"{SUM}":'.encode())] + b"}"
            if sum_of(text).sha256 != record[SUM]:
                return None
        return _seen(*record["seen"]) if "seen" in record else _receipt(record)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _seen(name: object, size: int, tag: int, content: object) -> Seen:
    return Seen(str(name), int(size), int(tag), str(content))


def _receipt(record: Mapping[str, Any]) -> Receipt:
    first, last = record["images"]
    block = None if record["block"] is None else (int(record["block"][0]), int(record["block"][1]))
    shards = tuple(Shard(str(key), int(size), str(digest)) for key, size, digest in record["shards"])
    identity = Identity(*(str(record[name]) for name in IDENTITY))
    failures = {int(image): str(reason) for image, reason in record["failures"].items()}
    away = frozenset(map(int, record.get("unavailable", ())))
    return Receipt(str(record["map"]), (int(first), int(last)), block, identity, shards, failures, away)


def write_receipts(
    place: Place,
    receipts: Iterable[Receipt],
    failures: Mapping[int, str],
    unavailable: Collection[int],
    names: Sequence[str],
    contents: Sequence[str],
) -> dict[str, Sum]:
    """Write the receipts of a complete store, in an order that depends on nothing but them; return what was written.

    Parameters
    ----------
    place : Place
    receipts : iterable of Receipt
    failures : mapping of int to str
        The store's images without features, and why.
    unavailable : collection of int
        Those of them that could not be reached.
    names, contents : sequence of str
        Of all its images.
    """
    listed = sorted(receipts, key=lambda one: (one.map, one.images, one.block or (-1, -1)))
    shards = [(number, shard) for number, one in enumerate(listed) for shard in one.shards]
    blocks = [one.block or (-1, -1) for one in listed]
    failed = sorted(failures)

    def build(group: zarr.Group) -> None:
        identities = [{"map": one.map, **vars(one.identity)} for one in listed]
        for name in ("map", *IDENTITY):
            add_array(group, name, texts(one[name] for one in identities), "row")
        for name, values in (
            ("first", [one.images[0] for one in listed]),
            ("last", [one.images[1] - 1 for one in listed]),
            ("block_y", [block[0] for block in blocks]),
            ("block_x", [block[1] for block in blocks]),
        ):
            add_array(group, name, np.array(values, np.int64), "row")
        add_array(group, "key", texts(shard.key for _, shard in shards), "shard")
        add_array(group, "of_row", np.array([number for number, _ in shards], np.int64), "shard")
        add_array(group, "bytes", np.array([shard.bytes for _, shard in shards], np.int64), "shard")
        add_array(group, "sha256", texts(shard.sha256 for _, shard in shards), "shard")
        add_array(group, "failed", np.array(failed, np.int64), "failure")
        add_array(group, "reason", texts(failures[image] for image in failed), "failure")
        add_array(group, "unavailable", np.array([image in unavailable for image in failed], np.bool_), "failure")
        add_texts(group, "path", texts(names))
        add_texts(group, "content", texts(contents))

    return write_sealed(place, GROUP, encode_group(build), {})


@dataclass(frozen=True)
class Ledger:
    """The receipts of a complete store, and what else its group ``receipts`` keeps."""

    receipts: list[Receipt]
    failures: dict[int, str] | None
    """Image to the reason why it has no features; None where a store of featpipe 0.1 does not tell."""
    names: list[str] | None
    """Of the images; None as ``failures``."""
    contents: list[str] | None
    """Of the images; None as ``failures``."""


def read_ledger(place: Place) -> Ledger | None:
    """Return what the group ``receipts`` keeps; None where it is not there, or not as it was written."""
    found = read_sealed(place, GROUP)
    if found is not None:
        return _ledger(open_sealed(found), sealed=True)
    node = read_node(place, GROUP)
    facts = ((node or {}).get("attributes") or {}).get(KEY)
    if node is None or (isinstance(facts, dict) and SEAL in facts):
        return None
    try:
        group = zarr.open_group(place.open_zarr(), path=GROUP, mode="r")
        return _ledger(group, sealed=False) if "reason" not in group else None
    except Exception:  # zarr's and its codecs' errors have no other base
        return None


def _ledger(group: Any, *, sealed: bool) -> Ledger:
    columns = {name: _column(group, name) for name in (*ROWS, *SHARDS)}
    rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*(columns[name] for name in ROWS), strict=True)]
    shards: list[list[Shard]] = [[] for _ in rows]
    for key, number, size, digest in zip(*(columns[name] for name in SHARDS), strict=True):
        shards[number].append(Shard(str(key), int(size), str(digest)))
    receipts = [_from_row(row, tuple(written)) for row, written in zip(rows, shards, strict=True)]
    if not sealed:
        return Ledger(receipts, None, None, None)
    failed = _column(group, "failed")
    failures = dict(zip(failed, _column(group, "reason"), strict=True))
    away = [image for image, unavailable in zip(failed, _column(group, "unavailable"), strict=True) if unavailable]
    names, contents = _column(group, "path"), _column(group, "content")
    return Ledger([*with_failures(receipts, failures, away)], failures, names, contents)


def shard_sums(ledger: Ledger | None) -> dict[str, Sum]:
    """Return what every shard is, as the receipts have it."""
    receipts: Sequence[Receipt] = ledger.receipts if ledger is not None else ()
    return {shard.key: Sum(shard.bytes, shard.sha256) for one in receipts for shard in one.shards}


def find_names(place: Place) -> list[str] | None:
    """Return the names of the images whose rows a store has, from either place that keeps them; None where both lack.

    Without them nobody knows which row is whose, so that rows could not stay where they are.
    """
    names = read_names(place)
    if names is not None:
        return names
    ledger = read_ledger(place)
    return None if ledger is None else ledger.names


def find_contents(place: Place) -> list[str] | None:
    """Return the content of every image of a store, from either place that keeps it; None where both lack it."""
    contents = read_contents(place)
    if contents is not None:
        return contents
    ledger = read_ledger(place)
    return None if ledger is None else ledger.contents


def told_receipts(place: Place, ledger: Ledger) -> list[Receipt]:
    """Return the receipts of a store with the failures of their images; one of featpipe 0.1 has these in ``ok`` alone.

    Raises
    ------
    StoreError
        If what ``ok`` says cannot be understood.
    """
    if ledger.failures is not None:
        return ledger.receipts
    return [*with_failures(ledger.receipts, read_failures(place), read_unavailable(place))]


def _column(group: Any, name: str) -> list[Any]:
    values: list[Any] = np.asarray(group[name][...]).tolist()
    return values


def _from_row(row: Mapping[str, Any], shards: tuple[Shard, ...]) -> Receipt:
    block = None if row["block_y"] < 0 else (int(row["block_y"]), int(row["block_x"]))
    identity = Identity(*(row[name] for name in IDENTITY))
    return Receipt(row["map"], (int(row["first"]), int(row["last"]) + 1), block, identity, shards)


def with_failures(
    receipts: Iterable[Receipt], reasons: Mapping[int, str], unavailable: Collection[int]
) -> Iterator[Receipt]:
    """Yield receipts with those failures that are of their images."""
    failed, away = sorted(reasons), frozenset(unavailable)
    for one in receipts:
        first, last = np.searchsorted(failed, one.images)
        mine = failed[first:last]
        known = {image: reasons[image] for image in mine}
        yield replace(one, failures=known, unavailable=away & set(mine)) if mine else one
