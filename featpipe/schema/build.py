"""The whole schema: what the file may hold, and what an editor tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import yaml

from featpipe.kernels.catalog import BankEntry, list_banks
from featpipe.schema.generate import Schema, model_schemas, plain
from featpipe.schema.shapes import LINK, Schemas, reshape
from featpipe.spec.layers import LAYER_EXAMPLES
from featpipe.spec.shape import type_text

FILE_NAME = "featpipe.schema.json"
DRAFT = "http://json-schema.org/draft-07/schema#"
BRANCH = {"layers": [{"convolve": {"bank": "sobel", "padding": "reflect"}}, "modulus", {"pool": {"mean": 8}}]}


def pipeline_schema() -> Schema:
    """Return the JSON Schema (draft 7) of the pipeline file, with help for editors.

    Returns
    -------
    dict
        What a key may hold is as the loader has it; what must hold between keys is the loader's alone. Defaults stand
        in the help, not under ``default``: editors would write them into the file with every key.

    Examples
    --------
    >>> schema = pipeline_schema()
    >>> list(schema["properties"]), schema["definitions"]["Cells"]["required"]
    (['images', 'features', 'store', 'cluster'], ['grid'])
    """
    schema = described_schema()
    schema["properties"]["features"]["defaultSnippets"] = [
        {"label": "edges", "description": "A branch of three layers.", "body": {"${1:edges}": BRANCH}}
    ]
    for one in _schemas_in(schema):
        _help(one)
    return {"$schema": DRAFT, **schema}


def described_schema() -> Schema:
    """Return the schema as a reference has it: descriptions in Markdown, and defaults."""
    top, schemas = model_schemas()
    reshape(schemas)
    _tell(schemas)
    top["properties"]["store"].pop("default", None)
    schemas["Pipeline"] = top
    for one in _schemas_in(list(schemas.values())):
        _insert(one, schemas)
    used = _used(top, schemas)
    return {**top, "definitions": {name: value for name, value in schemas.items() if name in used}}


def _insert(one: Schema, schemas: Schemas) -> None:
    """Replace a reference to alternatives that is described beside it: editors show an alternative's own words."""
    target = schemas.get(one.get("$ref", "").removeprefix(LINK), {})
    if "description" in one and "anyOf" in target and "type" not in target:
        one |= {**deepcopy(target), "description": one["description"]}
        del one["$ref"]


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(pipeline_schema(), indent=1, ensure_ascii=False) + "\n"


def _tell(schemas: Schemas) -> None:
    """Put what the catalogue says of each bank where its name is given, and an example with each layer."""
    entries = {entry.name: entry for entry in list_banks()}
    for one in (*schemas["Bank"]["anyOf"], *schemas["Fit"]["anyOf"]):
        if "const" in one:
            one["description"] = _note(entries[one["const"]])
    layers = schemas["Layer"]["oneOf"][0]["properties"]
    for op, layer in layers.items():
        written = f"{op}: {LAYER_EXAMPLES[op]}" if op in LAYER_EXAMPLES else op
        layer["description"] += f"\n\nExample: `- {written}`"


def _note(entry: BankEntry) -> str:
    return "\n\n".join(text for text in (entry.summary, f"Example: `{entry.example}`", entry.source) if text)


def _help(one: Schema) -> None:
    """Give a description its Markdown, with the default, and the plain text without."""
    told = one.get("description", "")
    plainly = plain(told)
    if "default" in one:
        told += f"\n\nDefault: `{flow_text(one.pop('default'))}`"
    if told:
        one["markdownDescription"], one["description"] = one.get("markdownDescription", told), plainly
    for choice in one.get("anyOf", ()):  # editors tell alternatives apart by what they say of themselves
        if told and "type" in choice and "description" not in choice:
            choice["markdownDescription"], choice["description"] = told, f"{plainly} ({type_text(choice)})"


def flow_text(value: object) -> str:
    """Return plain data as one line of YAML.

    Examples
    --------
    >>> flow_text({"max": [2, 2]}), flow_text("valid"), flow_text(False)
    ('{max: [2, 2]}', 'valid', 'false')
    """
    if isinstance(value, float):
        return f"{value:g}"
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _schemas_in(part: Any) -> Iterator[Schema]:
    """Yield every schema inside a schema, itself included."""
    if isinstance(part, list):
        for item in part:
            yield from _schemas_in(item)
    elif isinstance(part, dict):
        yield part
        for key, value in part.items():
            if key in ("properties", "definitions"):
                for inner in value.values():
                    yield from _schemas_in(inner)
            elif key in ("items", "additionalProperties", "anyOf", "oneOf", "allOf", "if", "then"):
                yield from _schemas_in(value)


def _used(top: Schema, schemas: Schemas) -> set[str]:
    """Return the names of the definitions that the file can reach."""
    used: set[str] = set()
    waiting = [top]
    while waiting:
        for one in _schemas_in(waiting.pop()):
            name = str(one.get("$ref", "")).removeprefix(LINK).split("/")[0]
            if name and name not in used:
                used.add(name)
                waiting.append(schemas[name])
    return used
