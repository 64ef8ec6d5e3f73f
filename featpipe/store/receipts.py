"""What every shard was made of and holds, so that a run can go on, and ``featpipe verify`` can look.

While a store is partial, receipts are lines of JSON beside it, each written after the shards it tells of. In a complete
store they are plain arrays of the group ``receipts``: a row a receipt, and a row a shard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import zarr

from featpipe.plan.identity import Identity
from featpipe.store.create import add_array, encode_group, texts
from featpipe.store.format import read_node
from featpipe.store.place import TEMPORARY, Place
from featpipe.store.shard import Shard

GROUP = "receipts"
IDENTITY = tuple(field.name for field in fields(Identity))
ROWS = ("map", "first", "last", "block_y", "block_x", *IDENTITY)
SHARDS = ("key", "of_row", "bytes", "sha256")
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
        found = []
        for key in self._valid():
            for line in (self.place.read(key) or b"").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    found.append(_from_line(json.loads(line)))
        return found

    def exists(self) -> bool:
        """Return whether a run has begun one and not ended."""
        return bool(self._valid())

    def begin(self, kept: Iterable[Receipt]) -> None:
        """Forget all receipts but those kept: from here on, nothing else counts as done."""
        before = self._keys()
        self.begun += 1
        self.place.write(self.key, [b"".join(_to_line(receipt) for receipt in kept)])
        self.place.remove(before)

    def add(self, receipts: Iterable[Receipt]) -> None:
        """Note that shards are written."""
        self.place.append(self.key, b"".join(map(_to_line, receipts)))

    def remove(self) -> None:
        """Remove the lines, and what others left that were killed: the store is complete."""
        left = [key for key, _ in self.place.files() if key.endswith(TEMPORARY)]
        self.place.remove([*self._keys(), *left])
        self.place.tidy()

    def _keys(self) -> list[str]:
        return sorted(key for key, _ in self.place.files() if key.startswith("receipts-"))

    def _valid(self) -> list[str]:
        """Return the keys of the journal that counts; of one that was not begun, or removed, parts do not."""
        keys = self._keys()
        begun = [key for key in keys if _JOURNAL.fullmatch(key)]
        if not begun:
            return [key for key in keys if not _JOURNAL.match(key)]
        return [key for key in keys if key.partition("/")[0] == max(begun)]


def _to_line(receipt: Receipt) -> bytes:
    record = {
        "map": receipt.map,
        "images": receipt.images,
        "block": receipt.block,
        **vars(receipt.identity),
        "shards": receipt.shards,
        "failures": {str(image): reason for image, reason in (receipt.failures or {}).items()},
        "unavailable": sorted(receipt.unavailable),
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _from_line(record: Mapping[str, Any]) -> Receipt:
    first, last = record["images"]
    block = None if record["block"] is None else (int(record["block"][0]), int(record["block"][1]))
    shards = tuple(Shard(str(key), int(size), str(digest)) for key, size, digest in record["shards"])
    identity = Identity(*(str(record[name]) for name in IDENTITY))
    failures = {int(image): str(reason) for image, reason in record["failures"].items()}
    away = frozenset(map(int, record.get("unavailable", ())))
    return Receipt(str(record["map"]), (int(first), int(last)), block, identity, shards, failures, away)


def write_receipts(place: Place, receipts: Iterable[Receipt]) -> None:
    """Write the receipts of a complete store, in an order that depends on nothing but them."""
    listed = sorted(receipts, key=lambda one: (one.map, one.images, one.block or (-1, -1)))
    shards = [(number, shard) for number, one in enumerate(listed) for shard in one.shards]
    blocks = [one.block or (-1, -1) for one in listed]

    def build(group: zarr.Group) -> None:
        names = ("map", *IDENTITY)
        identities = [{"map": one.map, **vars(one.identity)} for one in listed]
        for name in names:
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

    for key, content in encode_group(build).items():
        place.write(f"{GROUP}/{key}", [content])


def read_receipts(place: Place, failures: Mapping[int, str], unavailable: Collection[int] = ()) -> list[Receipt]:
    """Return the receipts of a complete store; none where it has none, or none that can be read.

    Parameters
    ----------
    place : Place
    failures : mapping of int to str
        The store's images without features, and why: each receipt gets those of its images.
    unavailable : collection of int
        Those of them that could not be reached.
    """
    if read_node(place, GROUP) is None:
        return []
    try:
        group = zarr.open_group(place.open_zarr(), path=GROUP, mode="r")
        columns: dict[str, list[Any]] = {name: _column(group, name) for name in (*ROWS, *SHARDS)}
        rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*(columns[name] for name in ROWS), strict=True)]
        shards: list[list[Shard]] = [[] for _ in rows]
        for key, number, size, digest in zip(*(columns[name] for name in SHARDS), strict=True):
            shards[number].append(Shard(str(key), int(size), str(digest)))
        receipts = [_from_row(row, tuple(written)) for row, written in zip(rows, shards, strict=True)]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return []
    failed = sorted(failures)
    return [_with_failures(receipt, failed, failures, frozenset(unavailable)) for receipt in receipts]


def _column(group: Any, name: str) -> list[Any]:
    values: list[Any] = np.asarray(group[name][...]).tolist()
    return values


def _from_row(row: Mapping[str, Any], shards: tuple[Shard, ...]) -> Receipt:
    block = None if row["block_y"] < 0 else (int(row["block_y"]), int(row["block_x"]))
    identity = Identity(*(row[name] for name in IDENTITY))
    return Receipt(row["map"], (int(row["first"]), int(row["last"]) + 1), block, identity, shards)


def _with_failures(
    receipt: Receipt, failed: list[int], reasons: Mapping[int, str], unavailable: frozenset[int]
) -> Receipt:
    first, last = np.searchsorted(failed, receipt.images)
    if first == last:
        return receipt
    mine = failed[first:last]
    return replace(receipt, failures={image: reasons[image] for image in mine}, unavailable=unavailable & set(mine))
