"""Values nobody should write, and pipelines that hold them: changed from good ones, or drawn from the schema."""

# ruff: noqa: E501 - tables of odd values

from __future__ import annotations

import json
from random import Random
from typing import Any

import yaml

TEXTS = (
    "", " ", "\t", "null", "~", "1e9", "-", "a" * 300, "../..", "/", ".", "..", "CON", "nul", "a/b", "x.zarr", "images", "scale1",
    "zarr.json", "é", "e\u0301", "\u202egnp", "\x1b[2J", "\x9b", "\ud800", "\U0001f600", "{}", "[]", "%s%n", "${HOME}", "~root",
    "s3://", "s3://b/p.zarr", "http://127.0.0.1:1/x", "file:///etc/passwd", "-1", "0x10", "1_000", "12:30:45", "2001-01-01", "yes",
    "no", "NaN", "k.npz", "k.npz:", "k.npz:a", "b.npy", "fifo", "zero", "loop", "sock", "deep", "p.yaml", "s.zarr", "ph", "*", "**", "[",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 8, 255, 256, 65535, 10**6, 10**9, 2**31 - 1, 2**31, 2**40, 2**63, 10**18, 10**30, 10**400, -(10**9), 0.5, 1.5,
    -0.0, 1e-9, 1e-300, 5e-324, 1e9, 1e17, 1e300, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"), 0.1 + 0.2,
)  # fmt: skip
STRUCTURES: tuple[Any, ...] = (
    [],
    {},
    [[]],
    [[[]]],
    {"": None},
    [None],
    True,
    False,
    None,
    [1, 2, 3],
    ["a"],
    {"a": {"a": {}}},
)


def odd_value(random: Random) -> Any:
    """Return a value of a wrong kind or of an unheard-of size."""
    kind = random.randrange(12)
    if kind < 5:
        return random.choice(NUMBERS)
    if kind < 9:
        return random.choice(TEXTS)
    if kind < 11:
        return random.choice(STRUCTURES)
    return [random.choice(NUMBERS) for _ in range(random.choice((2, 4, 30, 3000)))]


def changed(data: Any, random: Random, times: int) -> Any:
    """Return plain data with some of its parts replaced, removed, renamed, repeated or put elsewhere."""
    data = json.loads(json.dumps(data))
    for _ in range(times):
        places = list(_places(data))
        if not places:
            return odd_value(random)
        holder, key = random.choice(places)
        _change(holder, key, random, [value for h, k in places for value in (h[k],)])
    return data


def _places(data: Any) -> Any:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        yield data, key
        yield from _places(value)


def _change(holder: Any, key: Any, random: Random, others: list[Any]) -> None:
    way = random.randrange(10)
    if way < 5:
        holder[key] = odd_value(random)
    elif way == 5:
        holder[key] = json.loads(json.dumps(random.choice(others)))
    elif way == 6:
        del holder[key]
    elif way == 7 and isinstance(holder, dict):
        holder[random.choice(TEXTS)] = holder.pop(key)
    elif isinstance(holder, list):
        holder.insert(random.randrange(len(holder) + 1), holder[key])
    else:
        holder[key] = [holder[key]] if way == 8 else {"mean": holder[key]}


def garbled(text: str, random: Random) -> str:
    """Return text with some of its characters changed."""
    way = random.randrange(8)
    at = random.randrange(len(text) + 1)
    if way == 0:
        return text[:at]
    if way == 1:
        return text[:at] + random.choice(TEXTS) + text[at:]
    if way == 2:
        return text[:at] + chr(random.randrange(0x110000)) + text[at + 1 :]
    if way == 3:
        lines = text.splitlines(keepends=True)
        line = random.choice(lines)
        lines.insert(random.randrange(len(lines) + 1), line)
        return "".join(lines)
    if way == 4:
        return text[:at] + random.choice("[{") * random.choice((2, 40, 2000)) + text[at:]
    if way == 5:
        return (
            text[:at]
            + random.choice(("&a ", "*a", "!!python/object:os.system ", "!!binary ", "<<: ", "---\n", "? ", "| "))
            + text[at:]
        )
    if way == 6:
        lines = text.splitlines(keepends=True)
        random.shuffle(lines)
        return "".join(lines)
    return text.replace(":", random.choice((": :", "", ":\t")), random.randrange(1, 4))


def written(data: Any, random: Random) -> str:
    """Return plain data as YAML or as JSON, which is YAML."""
    if random.random() < 0.5:
        return json.dumps(data, ensure_ascii=random.random() < 0.5, allow_nan=True)
    text: str = yaml.safe_dump(
        data, sort_keys=False, allow_unicode=True, default_flow_style=random.choice((None, False))
    )
    return text


class Grammar:
    """Draws pipelines from their JSON Schema: what is drawn is right in kind, and often huge.

    Parameters
    ----------
    schema : dict
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def draw(self, random: Random) -> Any:
        """Return a pipeline."""
        return self._draw(self.schema, random, 0)

    def _draw(self, part: Any, random: Random, depth: int) -> Any:
        if random.random() < 0.01:
            return odd_value(random)
        while "$ref" in part:
            target: Any = self.schema
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            part = target
        for key in ("anyOf", "oneOf"):
            if key in part:
                return self._draw(random.choice(part[key]), random, depth)
        if "allOf" in part:
            return self._draw(part["allOf"][0], random, depth)
        if "const" in part:
            return part["const"]
        if "enum" in part:
            return random.choice(part["enum"])
        kind = part.get("type")
        kind = random.choice(kind) if isinstance(kind, list) else kind
        if kind == "object" or "properties" in part:
            return self._object(part, random, depth)
        if kind == "array":
            count = max(part.get("minItems", 0), min(part.get("maxItems", 4), random.choice((0, 1, 1, 2, 3))))
            return [self._draw(part.get("items", {}), random, depth + 1) for _ in range(count)]
        return self._scalar(part, kind, random)

    def _object(self, part: Any, random: Random, depth: int) -> Any:
        made = {}
        known = part.get("properties", {})
        if {"convolve", "pool"} <= known.keys():  # a layer is one op
            op = random.choice(list(known))
            return {op: self._draw(known[op], random, depth + 1)}
        for key, value in known.items():
            if key in part.get("required", ()) or random.random() < 0.25:
                made[key] = self._draw(value, random, depth + 1)
        if not made and "additionalProperties" in part and isinstance(part["additionalProperties"], dict):
            made = {
                name: self._draw(part["additionalProperties"], random, depth + 1)
                for name in ("a", "b")[: random.randint(1, 2)]
            }
        if "patternProperties" in part:
            for value in part["patternProperties"].values():
                made[random.choice("abcd")] = self._draw(value, random, depth + 1)
        return made

    def _scalar(self, part: Any, kind: Any, random: Random) -> Any:
        if kind in ("integer", "number"):
            low = part.get("minimum", part.get("exclusiveMinimum", 0))
            high = part.get("maximum", part.get("exclusiveMaximum", 2**31 - 1))
            drawn = random.choice((low, low + 1, 2, 3, 5, 8, 32, high if random.random() < 0.3 else 4))
            drawn = min(max(drawn, low), high)
            return drawn if kind == "integer" else drawn + random.choice((0, 0.1, 0.25))
        if kind == "boolean":
            return random.random() < 0.5
        if kind == "null":
            return None
        return random.choice(
            ("a", "full", "k.npz:a", "k.npy", "w.safetensors", "w.safetensors:a", "bank.npz", random.choice(TEXTS))
        )
