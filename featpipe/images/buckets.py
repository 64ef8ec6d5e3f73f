"""Listing the images of an object store, and reading its manifests."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from featpipe.errors import SourceError, UnavailableSourceError
from featpipe.images.listing import Listing
from featpipe.images.ranges import Mark, get_bytes, object_mark, object_refusal, open_images
from featpipe.images.refusal import Refused
from featpipe.objects import Address, object_error, parse_url
from featpipe.plan.collection import Holder, Places
from featpipe.reading.retry import is_transient, retry

_AT = ("images", "path")
_THREADS = 16
_ASKED = 1000
"""Objects up to this number are asked for one by one, where a manifest names them; more are found in a list."""


def list_marks(url: str) -> dict[str, Mark]:
    """Return every object at an address by its name relative to it, page by page from the service.

    Raises
    ------
    SourceError
        If the service refuses or cannot be reached.
    """
    objects = open_images(url)

    def ask() -> dict[str, Mark]:
        pages = objects.list(chunk_size=1000)
        return {str(about["path"]): object_mark(about) for page in pages for about in page}

    try:
        return retry(ask)
    except Exception as error:  # obstore's errors and OSError
        raise _error(error, url) from None


def list_objects(
    address: Address,
    marks: Mapping[str, Mark],
    names: Sequence[str],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Listing:
    """Return objects that are images each, of which ``marks`` tells; what it does not tell of is missing."""
    found = [marks.get(name) for name in names]
    sizes = np.array([-1 if mark is None else mark.size for mark in found], np.int64)
    return Listing(
        "objects", str(address), tuple(names), sizes, ["" if mark is None else mark.tag for mark in found],
        {i: "is not there" for i, mark in enumerate(found) if mark is None}, columns,
        places=Places((Holder("", 0, ""),), sizes.reshape(-1, 1)), held=np.maximum(sizes, 0),
    )  # fmt: skip


def find_marks(address: Address, names: Sequence[str]) -> dict[str, Mark]:
    """Ask for the objects that a manifest names; what is not found is left out."""
    wanted = list(dict.fromkeys(names))
    if len(wanted) > _ASKED:
        return list_marks(str(address))
    objects = open_images(str(address))

    def ask(name: str) -> Mark | None:
        try:
            return object_mark(retry(lambda: objects.head(name)))
        except FileNotFoundError:
            return None
        except Exception as error:  # obstore's errors
            raise _error(error, str(address)) from None

    with ThreadPoolExecutor(_THREADS) as pool:
        return {name: mark for name, mark in zip(wanted, pool.map(ask, wanted), strict=True) if mark is not None}


def read_object(url: str, most: int) -> io.BytesIO:
    """Read a whole object of at most ``most`` bytes; raises ``Refused``."""
    address = parse_url(url, _AT)
    folder, _, name = address.prefix.rpartition("/")
    objects: Any = open_images(str(address._replace(prefix=folder)))
    try:
        size = int(retry(lambda: objects.head(name))["size"])
        if size > most:
            raise Refused(f"has {size:,} bytes, more than {most:,}")
        return io.BytesIO(get_bytes(objects, name, size))
    except Refused:
        raise
    except Exception as error:  # obstore's errors and OSError
        raise object_refusal(error, address.scheme) from None


def _error(error: Exception, url: str) -> SourceError:
    if isinstance(error, SourceError):
        return error
    kind = UnavailableSourceError if is_transient(error) else SourceError
    return kind(object_error(error, str(parse_url(url)), _AT))
