"""What happened to a store, kept beside it: its runs, what the last of them planned, and what probes found in it.

None of this is part of the store, whose bytes depend neither on when nor on how often it was run. Each run is one small
file, written as it begins and again as it ends, so that one that was killed leaves its beginning; on disk and in an
object store alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from featpipe.errors import FeatpipeError
from featpipe.store.format import read_node
from featpipe.store.place import Place

RUNS, PROBES, PLAN = "runs", "probes", "plan.json"
MOST_RUNS = 200
"""Of which a store's history tells; the oldest are forgotten."""
VERSION = 1
"""Of these files; others' are left alone, as if they were not there."""
Facts = dict[str, Any]


class History:
    """The history of one store. What cannot be written of it is left out: no run fails for that.

    Parameters
    ----------
    place : Place
        Of the store.
    """

    def __init__(self, place: Place) -> None:
        self.place = place.beside

    def begin(self, run: str, facts: Mapping[str, Any], plan: Mapping[str, Any], *, fresh: bool) -> str:
        """Note that a run begins; return the key of its record.

        Parameters
        ----------
        run : str
            What tells it from others, the token of its lock.
        facts, plan : mapping
            JSON-able; ``plan`` takes the place of what was planned before.
        fresh : bool
            Whether there is no store yet, so that what lies here is the history of one that has gone.
        """
        now = datetime.now(UTC)
        key = f"{RUNS}/{now:%Y%m%dT%H%M%S.%f}-{run[:8]}.json"
        with suppress(FeatpipeError):
            self._forget(everything=fresh)
            self._write(PLAN, plan)
            self._write(key, {"run": run, "began": now.isoformat(timespec="milliseconds"), **facts})
        return key

    def end(self, key: str, facts: Mapping[str, Any]) -> None:
        """Add to the record of a run how it ended; one that is gone, with its store, stays so."""
        with suppress(FeatpipeError):
            before = self._read(key)
            if before is not None:
                self._write(key, {**before, **facts})

    def runs(self) -> list[Facts]:
        """Return the records of all runs, the oldest first."""
        return self._all(RUNS)

    def plan(self) -> Facts | None:
        """Return what the last run planned; None where nobody knows."""
        return self._read(PLAN)

    def save_probe(self, name: str, facts: Mapping[str, Any]) -> None:
        """Keep what a probe found, in place of what it found before under this name.

        Raises
        ------
        StoreError
            If the place cannot be written.
        """
        self._write(f"{PROBES}/{name}.json", facts)

    def probes(self) -> list[Facts]:
        """Return what probes found, by name."""
        return self._all(PROBES)

    def _forget(self, *, everything: bool) -> None:
        kept = [] if everything else self._keys(RUNS)[-(MOST_RUNS - 1) :]
        left = self._keys(RUNS) + (self._keys(PROBES) if everything else [])
        gone = [key for key in left if key not in kept]
        if gone:
            self.place.remove(gone)

    def _keys(self, folder: str) -> list[str]:
        return sorted(key for key, _ in self.place.files(folder) if key.endswith(".json"))

    def _all(self, folder: str) -> list[Facts]:
        return [facts for key in self._keys(folder) if (facts := self._read(key)) is not None]

    def _read(self, key: str) -> Facts | None:
        try:
            found = json.loads(self.place.read(key) or b"")
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) and found.get("history") == VERSION else None

    def _write(self, key: str, facts: Mapping[str, Any]) -> None:
        self.place.write(key, [json.dumps({"history": VERSION, **facts}, indent=1).encode()])


def content_digest(place: Place, codes: Iterable[str] = ("label", "split")) -> str:
    """Return a digest of what a complete store holds: shards, by their receipts, and the images' classes and splits.

    Equal features of equal images have it in common, whenever and wherever they were computed.
    """
    import numpy as np
    import zarr

    whole = hashlib.sha256()
    group: Any = zarr.open_group(place.open_zarr(), mode="r")
    if read_node(place, "receipts") is not None:
        for name in ("receipts/key", "receipts/sha256"):
            whole.update("\n".join(map(str, np.asarray(group[name][...]))).encode())
    for name in codes:
        array = group[name]
        names = {key: value for key, value in array.attrs.asdict().items() if key in ("classes", "splits")}
        whole.update(np.asarray(array[...], np.int64).tobytes() + json.dumps(names).encode())
    return whole.hexdigest()
