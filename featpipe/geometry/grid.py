"""Cutting an axis: equal blocks, and the unequal cells of grid pooling."""

from __future__ import annotations

from itertools import pairwise

from featpipe.geometry.axis import Span

TILE = 32
"""Edge, in samples, of the canonical tiles of grid pooling; partial results are formed per tile, so that they do not
depend on how the map was cut into blocks. A change of this number changes stored bits."""


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


def cut(n: int, size: int) -> list[Span]:
    """Cut ``n`` samples into spans of ``size`` (the last may be shorter).

    Examples
    --------
    >>> cut(5, 2)
    [Span(start=0, stop=2), Span(start=2, stop=4), Span(start=4, stop=5)]
    """
    return [Span(a, min(a + size, n)) for a in range(0, n, size)]


def cells(n: int, parts: int) -> list[Span]:
    """Split ``n`` samples into ``parts`` cells as ``numpy.array_split`` does: the first ``n % parts`` are one longer.

    Examples
    --------
    >>> [cell.length for cell in cells(27, 2)]
    [14, 13]
    """
    short, extra = divmod(n, parts)
    edges = [i * short + min(i, extra) for i in range(parts + 1)]
    return [Span(a, b) for a, b in pairwise(edges)]
