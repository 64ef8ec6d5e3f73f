"""Where the file's shape is not its models': layers, banks, poolings and the like, from the loader's own tables.

Each function changes the schemas of the models in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featpipe.schema.generate import Schema
from featpipe.spec.activations import FORMULAS
from featpipe.spec.banks import BANKS
from featpipe.spec.fits import FITS
from featpipe.spec.layers import BARE, OPS
from featpipe.spec.padding import PADDING_NOTES, PADDING_WORDS
from featpipe.spec.pooling import NOTES as STATISTICS
from featpipe.spec.pooling import POOLINGS

Schemas = dict[str, Schema]
LINK = "#/definitions/"
BANK = "The bank: a name, its parameters beside it; or `{fit: …}` and `{file: …}` for one that is made or learned."
MADE = "A bank learned from the images or drawn at random, `{fit: kmeans, kernels: 100}`, or `{file: bank.npz}`."
FIT = "How the kernels are made."
KERNELS = "The kernels themselves, `(k, y, x)` or `(k, y, x, c)` numbers; or a file with them, e.g. `bank.npz:edges`."


def reshape(schemas: Schemas) -> None:
    """Turn the models' schemas to the file's."""
    _shape_padding(schemas)
    _shape_activation(schemas)
    _shape_pool(schemas)
    _shape_convolve(schemas)
    _shape_banks(schemas)
    _shape_layers(schemas)


def link(name: str) -> Schema:
    """Return a reference to a definition."""
    return {"$ref": LINK + name}


def words(notes: dict[str, str]) -> Schema:
    """Return the schema of a choice of words, each with what it means."""
    return {"type": "string", "enum": list(notes), "markdownEnumDescriptions": list(notes.values())}


def choices(notes: dict[str, str]) -> list[Schema]:
    """Return alternatives of one word each; editors show the help of the one that is chosen."""
    return [{"type": "string", "const": word, "description": note} for word, note in notes.items()]


def mapping(description: str, properties: dict[str, Any], required: Iterable[str] = (), **more: Any) -> Schema:
    """Return the schema of a mapping that has these keys and no other."""
    named = {"required": list(required)} if required else {}
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": properties, **named, "additionalProperties": False, **more}


def _shape_padding(schemas: Schemas) -> None:
    explicit = schemas["ExplicitPadding"]["properties"]
    pair = explicit["widths"]["items"]
    whole = pair["items"]
    per_axis = {"type": "array", "items": {"anyOf": [whole, pair]}, "minItems": 2, "maxItems": 2}
    explicit["widths"] = {"anyOf": [whole, per_axis], "description": explicit["widths"]["description"]}
    named = words({word: PADDING_NOTES[word] for word in PADDING_WORDS})
    text = schemas["Padding"]["description"]
    schemas["Padding"] = {"anyOf": [named, whole, per_axis, link("ExplicitPadding")], "description": text}


def _shape_activation(schemas: Schemas) -> None:
    model = schemas["Activation"]
    with_numbers = {  # null is as good as none, and one must be given
        key: {**value["anyOf"][0], "description": value["description"]}
        for key, value in model["properties"].items()
        if key != "name"
    }
    schemas["Activation"] = {
        "anyOf": [words(FORMULAS), mapping("", with_numbers, minProperties=1, maxProperties=1)],
        "description": model["description"],
    }


def _shape_pool(schemas: Schemas) -> None:
    model = schemas["Pool"]
    options = {key: value for key, value in model["properties"].items() if key not in ("by", "over")}
    over = model["properties"]["over"]
    statistics = {key: {**over, "description": f"{STATISTICS[key]}. {over['description']}"} for key in POOLINGS}
    one: Schema = {"oneOf": [{"required": [key]} for key in POOLINGS], "dependencies": {"histogram": ["bins"]}}
    schemas["Pool"] = mapping(model["description"], {**statistics, **options}, **one)


def _shape_convolve(schemas: Schemas) -> None:
    """Let the bank decide which parameters stand beside the layer's options."""
    model = schemas["Convolve"]
    options = {key: value for key, value in model["properties"].items() if key != "source"}
    schemas["ConvolveOptions"] = {"properties": options}
    shared = {key: {"$ref": f"{LINK}ConvolveOptions/properties/{key}"} for key in options}
    kernels = {key: schemas[name]["properties"] for key, name in (("values", "InlineBank"), ("file", "FileBank"))}
    schemas["Kernels"] = {"anyOf": [kernels[key].pop(key) for key in kernels], "description": KERNELS}
    source = {"bank": link("Bank"), "kernels": link("Kernels")}
    rules = [_rule({"bank": {"const": name}}, bank.__name__) for name, bank in BANKS.items()]
    rules.append(_rule({"bank": {"type": "object"}}, "BankOptions"))
    rules += [_rule({"kernels": {"type": "string"}}, "FileBank"), _rule({"kernels": {"type": "array"}}, "InlineBank")]
    schemas["BankOptions"] = {"description": MADE, "properties": {}}
    for rule in rules:
        name = rule["then"]["$ref"].removeprefix(LINK)
        (given,) = rule["if"]["required"]
        if given not in schemas[name]["properties"]:
            parameters, required = _parameters(schemas[name])
            schemas[name] = mapping(
                schemas[name]["description"], {given: source[given], **parameters, **shared}, [given, *required]
            )
    schemas["Convolve"] = {
        "type": "object",
        "description": model["description"],
        "anyOf": [{"required": ["bank"]}, {"required": ["kernels"]}],
        "allOf": [{"properties": {**source, **shared}}, *rules],
    }


def _shape_banks(schemas: Schemas) -> None:
    """Give the names of banks, and those that are made from images, numbers or a file."""
    for name in ("FitBank", "RandomBank", "LearnedBank"):
        parameters, required = _parameters(schemas[name])
        if name == "RandomBank":
            parameters, required = {"fit": {"const": "random"}, **parameters}, ["fit", *required]
        schemas[name] = mapping(schemas[name]["description"], parameters, required)
    file = schemas["LearnedBank"]["properties"]["file"]
    schemas["FitBank"]["properties"]["fit"] = schemas["RandomBank"]["properties"]["fit"] = link("Fit")
    schemas["Fit"] = {"anyOf": choices(dict.fromkeys((*FITS, "random"), "")), "description": FIT}
    schemas["MadeBank"] = {
        "type": "object",
        "description": MADE,
        "properties": {"fit": link("Fit"), "file": file},
        "anyOf": [{"required": ["fit"]}, {"required": ["file"]}],
        "allOf": [
            *(_rule({"fit": {"const": name}}, "FitBank") for name in FITS),
            _rule({"fit": {"const": "random"}}, "RandomBank"),
            {"if": {"not": {"required": ["fit"]}}, "then": link("LearnedBank")},
        ],
    }
    schemas["Bank"] = {"anyOf": [*choices(dict.fromkeys(BANKS, "")), link("MadeBank")], "description": BANK}


def _rule(given: dict[str, Any], then: str) -> Schema:
    return {"if": {"properties": given, "required": list(given)}, "then": link(then)}


def _parameters(model: Schema) -> tuple[dict[str, Any], list[str]]:
    """Return a bank's parameters and those that must be given; its name is said otherwise."""
    parameters = {key: value for key, value in model["properties"].items() if key != "name"}
    return parameters, [key for key in model.get("required", ()) if key in parameters]


def _shape_layers(schemas: Schemas) -> None:
    """Make all layers one mapping of one key: of an alternative for each, editors would tell a mistake badly."""
    layers = schemas["Branch"]["properties"]["layers"]
    found = {}
    for one in layers["items"]["anyOf"]:
        model = schemas.pop(one["$ref"].removeprefix(LINK))
        ((op, value),) = model["properties"].items()
        inner = schemas[value["$ref"].removeprefix(LINK)] if "$ref" in value else model
        if op in BARE:
            found[op] = {"type": ["object", "null"], "maxProperties": 0, "description": model["description"]}
        else:
            found[op] = {**value, "description": inner["description"]}
    bare = choices({op: found[op]["description"] for op in BARE})
    one_only = mapping("", {op: found[op] for op in OPS}, minProperties=1, maxProperties=1)
    schemas["Layer"] = {"oneOf": [one_only, *bare]}  # editors tell a wrong word and a wrong key apart by oneOf alone
    layers["items"] = link("Layer")
