"""Zarr arrays read through stores whose reads are repeated where they fail for a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featpipe.images.ranges import open_images
from featpipe.objects import is_url
from featpipe.reading.files import SteadyFile
from featpipe.reading.retry import retry_async

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


def steady_store(path: str) -> Any:
    """Return a store of zarr-python, read-only, for a directory or an address.

    Parameters
    ----------
    path : str
    """
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
    from zarr.core.buffer.core import default_buffer_prototype
    from zarr.storage import LocalStore, ObjectStore, WrapperStore

    class Steady(WrapperStore[Any]):
        """Repeats what fails for a moment."""

        async def get(
            self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
        ) -> Buffer | None:
            wanted = prototype or default_buffer_prototype()
            return await retry_async(lambda: self._store.get(key, wanted, byte_range))

        async def exists(self, key: str) -> bool:
            return await retry_async(lambda: self._store.exists(key))

    class Files(LocalStore):
        """Reads files by what reads all other files: whole, however little one call gives."""

        async def get(
            self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
        ) -> Buffer | None:
            wanted = prototype or default_buffer_prototype()
            try:
                content = await asyncio.to_thread(read, self.root / key, byte_range)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
            return wanted.buffer.from_bytes(content)

    def read(file: Path, part: ByteRequest | None) -> bytes:
        with SteadyFile(str(file)) as opened:
            match part:
                case None:
                    return opened.read()
                case RangeByteRequest():
                    return opened.read_at(part.start, part.end - part.start)
                case OffsetByteRequest():
                    return opened.read_at(part.offset, opened.size)
                case SuffixByteRequest():
                    start = max(0, opened.size - part.suffix)
                    return opened.read_at(start, opened.size)

    if is_url(path):
        return Steady(ObjectStore(open_images(path), read_only=True))
    return Files(Path(path), read_only=True)
