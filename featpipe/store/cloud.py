"""A store in an object store: every object is written whole by the service itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from featpipe.errors import FeatpipeError, StoreError, WriteError
from featpipe.objects import object_error, open_objects, parse_url
from featpipe.store.place import BESIDE, TEMPORARY, Part

REMOVED_AT_ONCE = 1000


class ObjectPlace:
    """A prefix of an object store; may be used by many threads, and sent to other processes without credentials.

    Parameters
    ----------
    url : str
    """

    def __init__(self, url: str) -> None:
        self.url = str(parse_url(url, ("store", "path")))
        self._opened: Any = None
        self._opening = Lock()
        self._added = 0

    def __reduce__(self) -> tuple[type[ObjectPlace], tuple[str]]:
        return ObjectPlace, (self.url,)

    def __str__(self) -> str:
        return self.url

    @property
    def beside(self) -> ObjectPlace:
        return ObjectPlace(self.url + BESIDE)

    def read(self, key: str) -> bytes | None:
        try:
            with self._told(key, StoreError):
                return bytes(self._objects.get(key).bytes())
        except FileNotFoundError:
            return None

    def write(self, key: str, parts: Iterable[Part], *, again: bool = False) -> None:
        del again
        with self._told(key, WriteError):
            self._objects.put(key, b"".join(parts))

    def create(self, key: str, content: bytes) -> bool:
        with self._told(key, WriteError):
            try:
                self._objects.put(key, content, mode="create")
            except Exception as error:
                if isinstance(error, FileExistsError) or type(error).__name__ == "AlreadyExistsError":
                    return False
                raise
        return True

    def append(self, key: str, content: bytes) -> None:
        """Write what is added as an object of its own: objects do not grow, and their names keep the order."""
        with self._opening:
            self._added += 1
            number = self._added
        self.write(f"{key}/{number:08}", [content])

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        with self._told(prefix, StoreError):
            for page in self._objects.list(prefix or None):
                for found in page:
                    yield str(found["path"]), int(found["size"])

    def remove(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        for start in range(0, len(listed), REMOVED_AT_ONCE):
            with suppress(FileNotFoundError), self._told("", WriteError):
                self._objects.delete(listed[start : start + REMOVED_AT_ONCE])

    def modified(self, key: str) -> float | None:
        try:
            with self._told(key, StoreError):
                return float(self._objects.head(key)["last_modified"].timestamp())
        except FileNotFoundError:
            return None

    def age(self, key: str) -> float | None:
        written = self.modified(key)
        if written is None:
            return None
        probe = f"{uuid.uuid4().hex}{TEMPORARY}"
        self.write(probe, [b""])
        now = self.modified(probe)
        self.remove([probe])
        return None if now is None else now - written

    def touch(self, key: str, content: bytes) -> None:
        self.write(key, [content])

    def tidy(self) -> None:
        """Do nothing: there are no directories."""

    def open_zarr(self, *, read_only: bool = True) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self._objects, read_only=read_only)

    @property
    def _objects(self) -> Any:
        if self._opened is None:
            with self._opening:
                if self._opened is None:
                    self._opened = open_objects(self.url, ("store", "path"))
        return self._opened

    @contextmanager
    def _told(self, key: str, kind: type[StoreError]) -> Iterator[None]:
        """Turn what the service says no with into words, but for there being no such object."""
        try:
            yield
        except (FeatpipeError, FileNotFoundError, MemoryError):
            raise
        except Exception as error:  # its library's errors have no other base
            raise kind(object_error(error, f"{self.url}/{key}" if key else self.url)) from None
