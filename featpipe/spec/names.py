"""Names that become groups of the store: of branches and of saved maps."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from featpipe.spec.base import Flaw, wrong
from featpipe.spec.shape import Limited

LONGEST_NAME = 255
"""Letters of a name, which are its bytes: file systems take no more."""
DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)
"""Names of devices, which Windows gives to no directory; stores are copied there too."""
NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def check_name(name: str) -> str:
    """Refuse a name that could not be a group of the store."""
    if not NAME_PATTERN.fullmatch(name):
        raise wrong(Flaw(f"a name is a letter, then letters, digits, - and _, got {name[:60]!r}."))
    if len(name) > LONGEST_NAME:
        raise wrong(Flaw(f"a name has at most {LONGEST_NAME} letters, this one {len(name)}.", "Choose a shorter one."))
    if DEVICES.fullmatch(name):
        raise wrong(Flaw(f"{name!r} is the name of a device on Windows.", "Choose another name."))
    return name


def _not_a_scale(name: str) -> str:
    if re.fullmatch(r"scale\d*", name, re.IGNORECASE):
        raise wrong(Flaw(f"{name!r} is the name of a scale's group in the store.", "Choose another name."))
    return name


Name = Annotated[
    str, AfterValidator(check_name), Limited({"pattern": f"^{NAME_PATTERN.pattern}$", "maxLength": LONGEST_NAME})
]
"""Of a branch or a saved map: a letter, then letters, digits, - and _."""
SavedName = Annotated[
    Name, AfterValidator(_not_a_scale), Limited({"pattern": f"^(?!scale[0-9]*$){NAME_PATTERN.pattern}$"})
]
