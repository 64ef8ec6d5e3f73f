"""The word a user may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Return the known word that is most like ``word``, if any is.

    Examples
    --------
    >>> nearest("colour", ["color", "size"])
    'color'
    """
    if not isinstance(word, str):
        return None
    lower = {name.lower(): name for name in known}
    # Beyond this no typing slip is left to find, and difflib takes quadratic time.
    found = get_close_matches(word[:80].lower().replace("_", "-"), lower, n=1, cutoff=0.6)
    found = found or get_close_matches(word[:80].lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def suggest(word: object, known: Iterable[str]) -> str:
    """Return ``Did you mean …?``, or nothing when no known word is near."""
    found = nearest(word, known)
    return f"Did you mean {found}?" if found else ""
