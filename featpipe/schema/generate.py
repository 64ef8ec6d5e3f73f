"""The models' own JSON Schema, in the words of draft 7 and with what the models say of each key."""

from __future__ import annotations

import re
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from featpipe.spec.activations import Activation
from featpipe.spec.defaults import written
from featpipe.spec.docs import field_docs, text_of
from featpipe.spec.padding import Padding
from featpipe.spec.pipeline import Pipeline
from featpipe.spec.pooling import Pool

Schema = dict[str, Any]

_WORDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum", "oneOf": "anyOf"}
"""Pydantic's words for limits behind a validator; its alternatives exclude each other, and any is as good."""


class Generator(GenerateJsonSchema):
    """Pydantic's generator, with descriptions from the sources and defaults as the file writes them."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Return a model's schema."""
        made, model = super().model_schema(schema), schema["cls"]
        aliases = {name: field.alias or name for name, field in model.model_fields.items()}
        described = {aliases[name]: text for name, text in field_docs(model).items() if name in aliases}
        for key, text in described.items():
            if key in made.get("properties", {}):
                made["properties"][key]["description"] = prose(text)
        return {**made, "description": prose(text_of(model))}

    def encode_default(self, dft: Any) -> Any:
        """Return a default as the file writes it."""
        if isinstance(dft, (Padding, Pool, Activation)):
            return written(dft)
        return super().encode_default(dft)


def prose(text: str) -> str:
    """Return a docstring with its paragraphs on one line each, and code as Markdown marks it."""
    return "\n\n".join(" ".join(part.split()) for part in text.replace("``", "`").split("\n\n"))


def model_schemas() -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of the whole file in the models' own shape, and those of its parts by the models' names."""
    made = Pipeline.model_json_schema(
        mode="validation", by_alias=True, ref_template="#/definitions/{model}", schema_generator=Generator
    )
    tidied = _tidy(made)
    definitions = tidied.pop("$defs")
    return tidied, definitions


def _tidy(part: Any, names: bool = False) -> Any:
    """Return a schema without titles and empty defaults.

    ``names`` tells that the keys of ``part`` are names that somebody has chosen, not words of JSON Schema.
    """
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    if names:
        return {key: _tidy(value) for key, value in part.items()}
    made: Schema = {}
    for key, value in part.items():
        word = str(_WORDS.get(key, key))
        if word == "title" or (word == "default" and value is None):
            continue
        made[word] = value if word in ("default", "const", "enum") else _tidy(value, word in ("properties", "$defs"))
    if "patternProperties" in made:
        ((pattern, value),) = made.pop("patternProperties").items()
        made |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}
    return _flat(made)


def _flat(part: Schema) -> Schema:
    """Return a schema whose alternatives hold no alternatives of their own."""
    inner: list[Schema] = []
    for one in part.get("anyOf", ()):
        inner += one["anyOf"] if set(one) == {"anyOf"} else [one]
    return {**part, "anyOf": inner} if inner else part


def plain(markdown: str) -> str:
    """Return a description without Markdown's marks."""
    return re.sub(r"`|\*\*", "", markdown)
