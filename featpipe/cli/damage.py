"""Words for a store that cannot be read: which of its files are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from featpipe.errors import FeatpipeError, Problem, StoreError

MOST = 3
"""Damaged files that are named; ``featpipe verify`` names all."""


@contextmanager
def damage_named(store: str) -> Iterator[None]:
    """Name the damaged files of a store where it cannot be read for that; what else goes wrong is told as it is.

    Parameters
    ----------
    store : str
        That is read meanwhile.

    Raises
    ------
    StoreError
    """
    from featpipe.store.read import UnreadableError

    try:
        yield
    except UnreadableError as error:
        raise StoreError(_damage(store) or error.problems) from error
    except (FeatpipeError, OSError, MemoryError, typer.Exit, typer.Abort):
        raise
    except Exception as error:  # what a damaged file does to its reader has no name
        problems = _damage(store)
        if not problems:
            raise
        raise StoreError(problems) from error


def _damage(store: str) -> list[Problem]:
    """Return the first damaged files; none where the store is whole, or nobody can tell."""
    from featpipe.run import default_resources
    from featpipe.run.verify import verify_store

    try:
        problems = verify_store(store, resources=default_resources()).problems
    except FeatpipeError:
        return []
    more = [Problem(store, f"has {len(problems):,} problems in all.", "featpipe verify names them.")]
    return problems[:MOST] + (more if len(problems) > MOST else [])
