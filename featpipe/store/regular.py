"""A store's directory for zarr-python, of which only regular files are read."""

from __future__ import annotations

from typing import Any

from zarr.storage import LocalStore

from featpipe.reading.files import check_regular, stat_file


class RegularStore(LocalStore):
    """A directory in which a pipe or a device is an error, where reading it might take for ever."""

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return what a key holds, None where there is nothing."""
        return await super().get(key, prototype, byte_range) if self._is_there(key) else None

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return the same without an event loop."""
        return super().get_sync(key, prototype=prototype, byte_range=byte_range) if self._is_there(key) else None

    def _is_there(self, key: str) -> bool:
        path = self.root / key
        try:
            check_regular(str(path), stat_file(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        return True
