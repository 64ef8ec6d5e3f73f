"""A store in an object store: every object is written whole by the service itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import IO, Any

from featpipe.errors import FeatpipeError, StoreError, WriteError
from featpipe.objects import object_error, open_objects, parse_url
from featpipe.replacing import temporary_name
from featpipe.store.fence import Fence, lock_key
from featpipe.store.place import BESIDE, Part

REMOVED_AT_ONCE = 1000
CONDITIONAL_BYTES = 32 * 2**20
"""Of the largest object that is sent in one request, which may be conditional; larger ones are sent in parts."""
ATTEMPTS = 10
"""Times that a conditional write is tried where others write the same object."""
UNMET = ("AlreadyExistsError", "PreconditionError")
"""Errors of obstore that say so of a condition."""
SIGN_OF_LIFE = ".beat"
"""Ending of an object that tells when another was touched last: that one is never written again."""


class ObjectPlace:
    """A prefix of an object store; may be used by many threads, and sent to other processes without credentials.

    Behind a fence, the lock is looked at right before every request. A writer that sleeps between this look and the
    request replaces nothing that others have written meanwhile: the request says which version it replaces.

    Parameters
    ----------
    url : str
    fence : Fence, optional
    """

    def __init__(self, url: str, fence: Fence | None = None) -> None:
        self.url = str(parse_url(url, ("store", "path")))
        self.fence = fence
        self._opened: Any = None
        self._opening = Lock()
        self._added = 0

    def __reduce__(self) -> tuple[type[ObjectPlace], tuple[str, Fence | None]]:
        return ObjectPlace, (self.url, self.fence)

    def __str__(self) -> str:
        return self.url

    @property
    def beside(self) -> ObjectPlace:
        return ObjectPlace(self.url + BESIDE, self.fence)

    def enter(self, fence: Fence) -> ObjectPlace:
        return ObjectPlace(self.url, fence)

    def leave(self, fence: Fence) -> None:
        """Remove the lock's sign of life; that it is no lock any more shuts writers out."""
        self.beside.remove([lock_key(fence.generation) + SIGN_OF_LIFE])

    def read(self, key: str) -> bytes | None:
        try:
            with self._told(key, StoreError):
                return bytes(self._objects.get(key).bytes())
        except FileNotFoundError:
            return None

    def write(self, key: str, parts: Iterable[Part]) -> None:
        content = b"".join(parts)
        with self._told(key, WriteError):
            if self.fence is None or not self._write_conditionally(key, content, self.fence):
                self._objects.put(key, content)

    def claim(self, key: str, content: Callable[[Mapping[str, Any]], bytes]) -> IO[bytes] | None:
        with self._told(key, WriteError):
            return io.BytesIO() if self._put(key, content({}), "create") else None

    def is_abandoned(self, key: str, signs: Mapping[str, Any]) -> bool:
        """Return False: nobody knows."""
        del key, signs
        return False

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

    def names(self) -> list[str]:
        with self._told("", StoreError):
            return [str(found["path"]) for found in self._objects.list_with_delimiter()["objects"]]

    def remove(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        for start in range(0, len(listed), REMOVED_AT_ONCE):
            if self.fence is not None:
                self.fence.check()
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
        touched = self.modified(key + SIGN_OF_LIFE)
        probe = temporary_name()
        self.write(probe, [b""])
        now = self.modified(probe)
        self.remove([probe])
        return None if now is None else now - max(written, touched or written)

    def touch(self, key: str) -> None:
        self.write(key + SIGN_OF_LIFE, [b""])

    def tidy(self) -> None:
        """Do nothing: there are no directories."""

    def open_zarr(self, *, read_only: bool = True) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self._objects, read_only=read_only)

    def _write_conditionally(self, key: str, content: bytes, fence: Fence) -> bool:
        """Write an object in place of the version that was there as the lock was seen to be ours.

        Returns
        -------
        bool
            False if nothing was written, and no condition can be made: it is too large, or others go on writing it.
        """
        fence.check()
        if len(content) > CONDITIONAL_BYTES:
            return False
        if self._put(key, content, "create"):
            return True
        for _ in range(ATTEMPTS):
            version = self._version(key)
            fence.check()
            if self._put(key, content, version or "create"):
                return True
        return False

    def _version(self, key: str) -> dict[str, str] | None:
        """Return what tells this version of an object from others; None where there is no such object."""
        try:
            found = self._objects.head(key)
        except FileNotFoundError:
            return None
        return {name: found[name] for name in ("e_tag", "version") if found.get(name)}

    def _put(self, key: str, content: bytes, mode: str | dict[str, str]) -> bool:
        """Write an object under a condition; return whether it was met."""
        try:
            self._objects.put(key, content, mode=mode)
        except Exception as error:
            missing = isinstance(error, FileNotFoundError)  # what would be replaced
            if missing or isinstance(error, FileExistsError) or type(error).__name__ in UNMET:
                return False
            raise
        return True

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
