"""Text that is safe to show: what a terminal or a page would obey, reorder or hide is written out instead.

Names of files, labels and metadata come from whoever made them. Data keeps them as they are; what is shown goes through
here, where it leaves for a terminal, a log, a page or a picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 controls but for tab and newline, delete, and C1 controls: terminals obey them."""
_BREAKS = r"\u0085\u2028\u2029"
_ORDER = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Controls of direction, which make text read in another order than it is."""
_HIDDEN = (
    r"\u00ad\u034f\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""What takes no room: zero-width characters, fillers, tags, and annotations."""
_SURROGATES = r"\ud800-\udfff"
"""Bytes of file names that are no UTF-8, as Python keeps them."""
_JOINERS = "\u200c\u200d"
"""They shape letters of some scripts and join emoji; anywhere else they only hide."""
_SCRIPT = rf"[^\x00-\x7f{_JOINERS}{_CONTROLS}{_ORDER}]"
_UNSAFE = (
    rf"[{_CONTROLS}{_BREAKS}{_ORDER}{_HIDDEN}{_SURROGATES}]"
    rf"|(?<!{_SCRIPT})[{_JOINERS}]|[{_JOINERS}](?!{_SCRIPT})"
)
_IN_LINES = re.compile(_UNSAFE)
_IN_A_LINE = re.compile(rf"[\t\n]|{_UNSAFE}")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return text with every character that would act, reorder or hide written as Python writes it.

    Parameters
    ----------
    text : str
    lines : bool
        Whether tabs and newlines are structure, and stay. In a name they would forge a line.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\u202egnp\n"))
    a\x1b[2Jb\u202egnp\n
    >>> printable("Zürich, 東京, نمی‌دانم") == "Zürich, 東京, نمی‌دانم"
    True
    """
    return (_IN_LINES if lines else _IN_A_LINE).sub(_escaped, text)


def printable_facts(facts: Any) -> Any:
    """Return plain data with all its text printable, keys too; texts that become alike stay apart.

    Parameters
    ----------
    facts : mapping, list, tuple or scalar
    """
    match facts:
        case str():
            return printable(facts)
        case Mapping():
            return _with_keys(facts)
        case list() | tuple():
            return [printable_facts(one) for one in facts]
        case _:
            return facts


def _with_keys(facts: Mapping[Any, Any]) -> dict[Any, Any]:
    shown: dict[Any, Any] = {}
    for key, value in facts.items():
        name = printable(key) if isinstance(key, str) else key
        while name in shown:  # a name that really holds a backslash and x1b, beside the one that is shown so
            name += "'"
        shown[name] = printable_facts(value)
    return shown


def json_text(facts: Any, *, indent: int | None = None) -> str:
    r"""Return plain data as JSON that can be shown: what is not `printable` is escaped, and parses to what it was.

    Examples
    --------
    >>> print(json_text({"name": "café\x9b\u202e"}))
    {"name": "café\u009b\u202e"}
    """
    text = json.dumps(facts, indent=indent, ensure_ascii=False)
    return _IN_LINES.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _escaped(found: re.Match[str]) -> str:
    named = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
    character = found[0]
    if character in named:
        return named[character]
    code = ord(character)
    return rf"\x{code:02x}" if code < 0x100 else rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"
