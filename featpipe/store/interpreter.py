"""Whether this Python reads zarr groups."""

from __future__ import annotations

import warnings
from functools import cache

from featpipe.errors import Problem, StoreError


def check_interpreter() -> None:
    """Refuse a Python without assertions in which zarr reads no group.

    Some versions of zarr-python do a part of their work in an ``assert``, which ``-O``, ``-OO`` and
    ``PYTHONOPTIMIZE`` leave out (zarr-python#4362).

    Raises
    ------
    StoreError
        If a group that was just made cannot be opened.
    """
    if not __debug__ and not _reads_groups():
        import zarr

        what = (
            f"runs without assertions (-O, -OO or PYTHONOPTIMIZE), and zarr {zarr.__version__} cannot read stores then."
        )
        raise StoreError(Problem("python", what, "Run it without these options."))


@cache
def _reads_groups() -> bool:
    import zarr

    held = zarr.storage.MemoryStore()
    zarr.create_group(held)
    zarr.create_group(held, path="one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # consolidated metadata is no part of zarr 3's specification yet
            zarr.consolidate_metadata(held)
        zarr.open_group(held, mode="r")
    except TypeError:
        return False
    return True
