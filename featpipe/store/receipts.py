"""Which tasks of a store are done: a line for each, beside the store while it is partial, so that a run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from featpipe.store.format import cannot_write

SUFFIX = ".receipts.jsonl"


class Receipts:
    """The receipts of one store's tasks.

    Parameters
    ----------
    store : Path
    digests : mapping of str to str
        What the features depend on, and the pieces they are computed in: receipts of anything else do not count.
    """

    def __init__(self, store: Path, digests: Mapping[str, str]) -> None:
        self.path = store.with_name(store.name + SUFFIX)
        self.digests = dict(digests)

    def read(self) -> dict[int, dict[str, Any]]:
        """Return the receipts there are, by task; a line that a killed run left unfinished is left out."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        records = []
        for line in lines:
            with suppress(ValueError):
                records.append(json.loads(line))
        if not records or records[0] != {"digests": self.digests}:
            return {}
        return {record["task"]: record for record in records[1:]}

    def begin(self) -> None:
        """Start an empty list."""
        try:
            self.path.write_text(json.dumps({"digests": self.digests}) + "\n", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def add(self, task: int, failures: Mapping[int, str]) -> None:
        """Note that a task's shards are written.

        Parameters
        ----------
        task : int
        failures : mapping of int to str
            Image to the reason why it has no features.
        """
        record = {"task": task, "failures": {str(image): reason for image, reason in failures.items()}}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("" if self._ends_whole() else "\n") + json.dumps(record) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def remove(self) -> None:
        """Remove the list: the store is complete."""
        self.path.unlink(missing_ok=True)
