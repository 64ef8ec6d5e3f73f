"""The root of a store: its header, whether that is as it was written, and the second copy of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featpipe.store.format import NODE, header_of, parse_node
from featpipe.store.place import Place
from featpipe.store.seal import State, seal_state, sealed_facts

CHECKSUMS = "checksums"
"""The group with the checksums of all files, and the second copy of the header."""


@dataclass(frozen=True)
class Root:
    """The root's metadata, and whether they are as they were written."""

    state: State
    header: dict[str, Any] | None
    """What they say; the second copy of it where they are not whole and there is one."""
    copied: bool = False
    """Whether ``header`` is the second copy."""

    @property
    def sound(self) -> bool:
        """Whether nothing shows that the root's metadata are damaged."""
        return self.state in ("whole", "unsealed")


def read_root(place: Place) -> Root:
    """Return what is known of a store as a whole: from its root, or from the second copy of its header.

    Raises
    ------
    StoreError
        If the place cannot be read.
    """
    content = place.read(NODE)
    header, state = header_of(parse_node(content)), seal_state(content)
    if state == "whole":
        return Root(state, header)
    facts = sealed_facts(place, CHECKSUMS)
    if facts is not None:  # and so the root was sealed too
        return Root("lost" if state == "lost" else "damaged", facts["header"], copied=True)
    if state == "unsealed" and header is None:
        state = "damaged"
    return Root(state, header)
