"""What a layer can be told, for the page's forms: read off the models of the pipeline file and the list of banks."""

from __future__ import annotations

from typing import Any, get_args

import yaml
from pydantic_core import PydanticUndefined

from featpipe.kernels.catalog import BankEntry, list_banks
from featpipe.spec.activations import ACTIVATIONS, ActivationName, SoftThreshold, Split
from featpipe.spec.banks import CLASSIC_NAMES, FileBank, InlineBank, RandomBank
from featpipe.spec.base import Spec
from featpipe.spec.combining import Bif, Code
from featpipe.spec.fits import FITS
from featpipe.spec.importing import Import
from featpipe.spec.layers import BARE, LAYER_EXAMPLES, OPS, Convolve, LocalContrast, Normalize, Reduce
from featpipe.spec.local import Local
from featpipe.spec.padding import PADDING_WORDS, Padding
from featpipe.spec.pipeline import Images
from featpipe.spec.pooling import POOLINGS, Pool
from featpipe.spec.shape import LARGEST_COUNT, LARGEST_EDGE
from featpipe.spec.textures import TEXTURES

IMAGE_OPTIONS = ("color", "size", "fit", "values")
"""Options of the images that the page shows."""
KERNELS: dict[str, list[list[float]]] = {
    "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "rising edges": [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]],
    "vertical lines": [[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]],
    "spots": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "sharper": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "mean": [[0.2] * 5] * 5,
}
"""Kernels to begin one's own with."""
SUMMARIES = {
    "convolve": "Slide kernels over the map",
    "activate": "A function of each value",
    "modulus": "Pairs of features to their magnitude",
    "reduce": "Combine features over a label",
    "pool": "Summarise windows",
    "normalize": "Even out brightness or contrast",
    "products": "Products of derivatives: the structure tensor",
    "eigenvalues": "Of 2 × 2 matrices at each position",
    "bif": "Basic image features",
    "code": "Features to one whole number",
    "local": "Kernels of its own at every position",
    "import": "A trained stack from a file",
    "save": "Keep this map too",
}
"""Of each layer, for the menu that adds one."""


def describe_forms() -> dict[str, Any]:
    """Return all that the page's forms are made of, as JSON.

    Returns
    -------
    dict
        ``layers``: for each op its ``summary``, an ``example`` of its value, its ``variants`` (of a convolution the
        banks, of a pooling the statistics, ...) with the fields of each, and the ``options`` that all of them share;
        ``images``: the fields of the images; ``kernels``: some to begin with.
    """
    return {
        "layers": {op: {"op": op, "summary": SUMMARIES.get(op, ""), **_layer(op)} for op in OPS},
        "kernels": KERNELS,
        "images": [field for field in fields_of(Images) if field["key"] in IMAGE_OPTIONS],
    }


def fields_of(model: type[Spec], *but: str) -> list[dict[str, Any]]:
    """Return a form's fields for the parameters of a model.

    Examples
    --------
    >>> [(field["key"], field["kind"], field["default"]) for field in fields_of(Split)]
    [('threshold', 'number', 0.0)]
    """
    schema = model.model_json_schema()
    properties, found = schema["properties"], []
    for name, info in model.model_fields.items():
        key = info.alias or name
        if name in but:
            continue
        default = None if info.is_required() or info.default is PydanticUndefined else info.default
        kind = {"kind": "padding", "words": PADDING_WORDS} if info.annotation is Padding else _kind(properties[key])
        if isinstance(default, Padding):
            default = "valid"
        help_text = " ".join((info.description or "").replace("``", "").split())
        found.append({
            "key": key, "required": info.is_required(), "default": default if _is_plain(default) else None,
            "help": help_text, **kind,
        })  # fmt: skip
    return found


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list))


def _kind(schema: dict[str, Any]) -> dict[str, Any]:
    """Return which control a JSON schema asks for; text, in YAML, where nothing simpler does."""
    choices = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        return {**_kind(choices[0]), "optional": True}
    if [one.get("type") for one in choices] in (["integer", "array"], ["number", "array"]):
        # One may stand for a list of one
        return _kind(choices[1])
    if "enum" in schema:
        return {"kind": "choice", "words": schema["enum"]}
    match schema.get("type"):
        case "boolean":
            return {"kind": "flag"}
        case "integer" | "number" as number:
            bounds = {
                "min": ("minimum", "exclusiveMinimum", "ge", "gt"),
                "max": ("maximum", "exclusiveMaximum", "le", "lt"),
            }
            limits = {k: schema[key] for k, keys in bounds.items() for key in keys if key in schema}
            if limits.get("max") in (LARGEST_COUNT, LARGEST_EDGE):
                del limits["max"]
            return {"kind": number, **limits, "open": bool({"exclusiveMinimum", "gt"} & schema.keys())}
        case "array" if schema.get("minItems") == schema.get("maxItems") == 2:
            return {"kind": "pair"}
        case "array" if schema["items"].get("type") in ("integer", "number") or "enum" in schema["items"]:
            return {"kind": "list", "words": schema["items"].get("enum")}
    return {"kind": "text"}


def _layer(op: str) -> dict[str, Any]:
    match op:
        case "convolve":
            banks = [_bank(entry) for entry in list_banks()]
            return {
                "example": {"bank": "sobel"},
                "variants": banks,
                "choose": "bank",
                "options": fields_of(Convolve, "source"),
            }
        case "activate":
            return {"example": "relu", "variants": _activations(), "choose": "function", "options": []}
        case "pool":
            fields = fields_of(Pool, "by", "over")
            plain = [field for field in fields if field["key"] != "bins"]
            bins = [{**field, "required": True} for field in fields if field["key"] == "bins"]
            return {"example": {"max": 2}, "variants": _poolings(bins), "choose": "statistic", "options": plain}
        case "normalize":
            return {"example": {"local": {"size": 9}}, "variants": _normalizations(), "choose": "by", "options": []}
    models: dict[str, type[Spec]] = {"reduce": Reduce, "bif": Bif, "code": Code, "local": Local, "import": Import}
    model = models.get(op)
    fields = fields_of(model) if model is not None else []
    if op == "save":
        fields = [
            {"key": "", "kind": "text", "required": True, "default": None, "help": "Name of the map in the store."}
        ]
    for field in fields:
        if field["key"] == "over":
            field["kind"] = "label"
    example = {} if op in BARE else yaml.safe_load(LAYER_EXAMPLES[op])
    return {"example": example, "variants": [_variant(op, example, fields)], "choose": "", "options": []}


def _variant(title: str, data: Any, fields: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return one way of writing a layer.

    ``data`` is an example of the layer's value; ``at`` is the path in it of the mapping that holds the fields, and
    ``match`` tells whether a value is of this variant: what stands at a path ``equals`` a word, or is there at all.
    """
    return {
        "title": title,
        "data": data,
        "fields": fields,
        "at": [],
        "match": {"path": []},
        "group": "",
        "help": "",
        **more,
    }


def _bank(entry: BankEntry) -> dict[str, Any]:
    model, name, data = type(entry.spec), entry.name, entry.layer
    fields, more = fields_of(model, "name", "fit"), {"help": entry.summary, "source": entry.source}
    if model in (InlineBank, FileBank):
        field = {**next(f for f in fields if f["key"] in ("values", "file")), "key": "kernels"}
        others = [f for f in fields if f["key"] not in ("values", "file")]
        kind = "kernels" if model is InlineBank else "text"
        match = {"path": ["kernels"], "list": model is InlineBank}
        data = {"kernels": [KERNELS["vertical edges"]]} if model is InlineBank else data
        title = "kernels written out" if model is InlineBank else "kernels from a file"
        return _variant(title, data, [{**field, "kind": kind}, *others], match=match, group="your own", **more)
    if isinstance(data["bank"], str):
        group = "classic 3×3" if name in CLASSIC_NAMES else "texture and transforms" if name in TEXTURES else "smooth"
        return _variant(name, data, fields, match={"path": ["bank"], "equals": name}, group=group, **more)
    key = "fit" if "fit" in data["bank"] else "file"
    match = {"path": ["bank", key], **({"equals": data["bank"]["fit"]} if key == "fit" else {})}
    learned = name in FITS or key == "file"
    group = "learned from images" if learned else "your own" if model is RandomBank else ""
    return _variant(name, data, fields, at=["bank"], match=match, group=group, **more)


def _activations() -> list[dict[str, Any]]:
    models = {"split": Split, "soft-threshold": SoftThreshold}
    variants = [_variant(name, name, [], match={"path": [], "equals": name}) for name in get_args(ActivationName)]
    for name in ACTIVATIONS:
        if name in models:
            data = {name: {"threshold": 0.1}}
            variants.append(_variant(name, data, fields_of(models[name]), at=[name], match={"path": [name]}))
    return variants


def _poolings(bins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a variant a statistic; the statistic is the key of what is pooled over."""
    help_text = "Edge of the window in samples, one number or y, x; or a grid of cells; or the whole map."
    variants = []
    for name in POOLINGS:
        over = {"key": name, "kind": "over", "required": True, "default": None, "help": help_text}
        data: dict[str, Any] = {name: 2}
        if name == "histogram":
            data = {name: 8, "bins": 16}
        fields = [over, *(bins if name == "histogram" else [])]
        variants.append(_variant(name, data, fields, match={"path": [name]}, main=name))
    return variants


def _normalizations() -> list[dict[str, Any]]:
    local = fields_of(LocalContrast)
    return [
        _variant("local contrast", {"local": {"size": 9}}, local, at=["local"], match={"path": ["local"]}),
        _variant("mean and std", {"mean": 0.5, "std": 0.25}, fields_of(Normalize, "local")),
    ]
