"""What a member of an archive is, whichever kind of archive it lies in."""

from __future__ import annotations

import json
from typing import NamedTuple

from featpipe.images.refusal import Refused

MOST_MEMBERS = 5_000_000
"""Of one archive; the rest of it is not looked at."""
MOST_BYTES = 4 * 2**30
"""Of one member, unpacked."""
_SIDE_BYTES = {".cls": 256, ".json": 64 * 2**10}
"""Members that may hold a class, and how large they are at most."""


class Member(NamedTuple):
    """One member: where it lies, or why it cannot be read."""

    name: str
    start: int
    """Of its bytes in a tar, of its header in a zip."""
    size: int
    """Unpacked, in bytes."""
    packed: int = 0
    """As it lies in the archive, in bytes."""
    method: int = 0
    """0 for stored, 8 for deflated."""
    crc: int = 0
    why: str = ""
    """It cannot be read."""
    label: str = ""
    """What a .cls or .json holds."""


def may_hold_label(name: str, size: int) -> bool:
    """Tell whether a member is a ``.cls`` or a ``.json`` that is small enough to be read for a class."""
    ending = name[name.rfind(".") :]
    if ending == ".cls" and size > _SIDE_BYTES[ending]:
        raise Refused(f"holds {name[:200]!r} of {size:,} bytes; a .cls holds the number of a class")
    return size <= _SIDE_BYTES.get(ending, -1)


def find_label(name: str, content: bytes) -> str:
    """Return the class that a ``.cls`` or ``.json`` holds, or nothing."""
    try:
        text = content.decode().strip()
        if name.endswith(".cls"):
            if not text.isprintable():
                raise ValueError
            return text
        found = json.loads(text)
    except (ValueError, RecursionError):
        if name.endswith(".cls"):
            raise Refused(f"holds {name[:200]!r} that is not text; a .cls holds the number of a class") from None
        return ""
    found = found.get("label") if isinstance(found, dict) else None
    return str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""


def sample_key(name: str) -> str:
    """Return what the members of one WebDataset sample share: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".", 1)[0]
