"""Amounts of memory as people write them."""

from __future__ import annotations

import math
import re

MEMORY = r"^\s*[0-9]+(\.[0-9]*)?([eE][0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$"
"""The same as ``_AMOUNT``, as JSON Schema has patterns."""
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def memory_bytes(text: str) -> int:
    """Read an amount of memory, in bytes.

    Raises
    ------
    ValueError
        In words, if it is none.

    Examples
    --------
    >>> memory_bytes("512MB"), memory_bytes("1.5 GiB"), memory_bytes("2e9"), memory_bytes("1G")
    (512000000, 1610612736, 2000000000, 1000000000)
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is not an amount of memory; write 800MB, 1.5GiB or 2e9")
    power = " kmgt".index(found[2].lower() or " ")
    amount = float(found[1]) * float(1024 if found[3] else 1000) ** power
    if not 1 <= amount < 2**60 or math.isnan(amount):
        raise ValueError(f"{text!r} is not a usable amount of memory; write 800MB, 1.5GiB or 2e9")
    return int(amount)
