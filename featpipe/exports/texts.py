"""Texts that a format cannot hold as they are: refused before anything is written, for a reader would find others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from featpipe.errors import Problem, StoreError
from featpipe.exports.table import Table

NUL = "\0"


def json_text(facts: Any) -> str:
    """Return facts as JSON, in letters as they are; escaped where they are not Unicode, as odd file names."""
    text = json.dumps(facts, ensure_ascii=False)
    return text if _is_unicode(text) else json.dumps(facts)


def check_texts(table: Table, form: str) -> None:
    """Refuse a table with texts that a format changes or cannot hold.

    Parameters
    ----------
    table : Table
    form : str
        ``npz``, ``parquet`` or ``anndata``.

    Raises
    ------
    StoreError
        With the first text of each kind: images, classes, splits, columns, labels.
    """
    problems = []
    for kind, texts in _texts(table):
        found = next(((text, why) for text in texts if (why := _flaw(text, form))), None)
        if found is not None:
            text, why = found
            change = "Rename it and run the pipeline again" + (", or export to .parquet." if NUL in text else ".")
            problems.append(Problem(str(table.stack.path), f"the {kind} {text!a} {why}.", change))
    if problems:
        raise StoreError(problems)


def _texts(table: Table) -> Iterator[tuple[str, Iterable[str]]]:
    yield "image", map(str, table.paths)
    yield "class", table.stack.classes
    yield "split", table.stack.split_names
    yield "column", table.names
    yield "label", (text for values in table.facts.values() if values.dtype.kind == "U" for text in values.tolist())


def _flaw(text: str, form: str) -> str:
    """Return what is wrong with a text in a format; empty if nothing is."""
    if form == "anndata" and NUL in text:
        return "holds a NUL, at which texts in HDF5 end"
    if form == "npz" and text.endswith(NUL):
        return "ends with a NUL, which NumPy's texts lose"
    if form != "npz" and not _is_unicode(text):
        return "is not Unicode"
    return ""


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
