"""How else than in its model's shape a value may be written in the file; said beside the reader that takes it.

Only the JSON Schema of the pipeline file is made of this, so it costs nothing while a pipeline is read.
"""

from __future__ import annotations

from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

LARGEST_COUNT = 2**31 - 1
LARGEST_EDGE = 2**20
"""Of an image, a window or a step, in samples: larger than any image that there is."""


class Written:
    """Further forms of a value, as JSON Schema.

    Parameters
    ----------
    *forms : dict
        What editors should offer first comes first.
    """

    def __init__(self, *forms: dict[str, Any]) -> None:
        self.forms = forms

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [*self.forms, handler(core)]}


class OrItem:
    """One item may stand for the list."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        made = handler(core)
        return {"anyOf": [made["items"], made]}


class Limited:
    """What a reader demands beyond the type.

    Parameters
    ----------
    limits : dict
        Words of JSON Schema: ``pattern``, ``enum``, ``minLength``, ``propertyNames``.
    """

    def __init__(self, limits: dict[str, Any]) -> None:
        self.limits = limits

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), **self.limits}


OR_ITEM = OrItem()


def type_text(schema: dict[str, Any]) -> str:
    """Say in words what a JSON schema allows.

    Examples
    --------
    >>> type_text({"type": "integer", "minimum": 1})
    'whole number ≥ 1'
    >>> type_text({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}})
    'list of 2 numbers'
    """
    if choices := schema.get("oneOf", schema.get("anyOf")):
        return " or ".join(dict.fromkeys(map(type_text, choices)))
    if "const" in schema:
        return str(schema["const"])
    if words := schema.get("enum"):
        return " or ".join(map(str, words))
    if "$ref" in schema:
        return "mapping"
    kind = schema["type"]
    if kind == "array":
        return _list_text(schema)
    if kind == "string":
        return "path" if "minLength" in schema else "text"
    names = {"integer": "whole number", "boolean": "true or false", "null": "nothing", "object": "mapping"}
    return names.get(str(kind), str(kind)) + _limits_text(schema)


def _list_text(schema: dict[str, Any]) -> str:
    items = schema["items"]
    if words := items.get("enum"):
        return f"list of {', '.join(words)}"
    if items.get("type") == "array":
        return "nested lists of numbers"
    least = schema.get("minItems", 0)
    count = f"{least} " if least == schema.get("maxItems") else ""
    kind, noun, limits = type_text(items).partition("number")
    return f"list of {count}{kind}{noun}s{limits}"


def _limits_text(schema: dict[str, Any]) -> str:
    """Return `` > 0 and ≤ 1``; pydantic says limits behind a reader in words of its own."""
    signs = {
        ">": ("gt", "exclusiveMinimum"),
        "≥": ("ge", "minimum"),
        "<": ("lt", "exclusiveMaximum"),
        "≤": ("le", "maximum"),
    }
    bounds = [(sign, next((schema[key] for key in keys if key in schema), None)) for sign, keys in signs.items()]
    said = [f"{sign} {bound:,g}" for sign, bound in bounds if bound not in (None, LARGEST_COUNT, LARGEST_EDGE)]
    return f" {' and '.join(said)}" if said else ""
