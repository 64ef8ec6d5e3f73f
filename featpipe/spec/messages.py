"""What pydantic finds wrong, told in the pipeline file's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from featpipe.errors import Location, Problem, key_path
from featpipe.spec.base import UNKNOWN_KEY, Flaw, describe, shorten
from featpipe.spec.keys import banks_taking, known_keys
from featpipe.spec.pooling import POOLINGS
from featpipe.spec.words import nearest, suggest


class Finding(NamedTuple):
    """A problem, and whether its key rather than its value is what to point at."""

    problem: Problem
    on_key: bool


EXAMPLES = {
    "images": "images: {path: photos/}",
    "path": "path: photos/",
    "features": "features: {edges: {layers: [{convolve: {bank: sobel}}, modulus]}}",
    "layers": "layers: [{convolve: {bank: sobel}}, modulus]",
    "sigmas": "sigmas: [1, 2, 4]",
    "frequencies": "frequencies: [0.1, 0.2]",
    "kernels": "kernels: 16",
    "threshold": "threshold: 0.1",
    "epsilon": "epsilon: 10",
    "size": "size: 9",
    "over": "over: orientation",
    "test": "test: 0.2",
    "widths": "widths: [2, 3]",
    "grid": "grid: [2, 2]",
    "bif.epsilon": "epsilon: 0.03",
    "by": "by: sign",
}
"""How each key that can be missing is written; a key's own section comes first."""

MAIN_KEYS: dict[str | int, str] = {"images": "path", "store": "path", "convolve": "bank", "pool": "max"}
"""The key that a section is mostly about."""

BOUNDS = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def findings(error: ValidationError, data: object) -> list[Finding]:
    """Return one finding a mistake, at its place in ``data``, what the user wrote."""
    found: dict[tuple[Location, str], Finding] = {}
    for detail in error.errors(include_url=False):
        loc = detail["loc"]
        location = trace(loc, data, detail["type"])
        on_key = "[key]" in loc[-1:]
        flaws = detail.get("ctx", {}).get("flaws") or [_flaw(detail, location)]
        for flaw in flaws:
            finding = _finding(flaw, location + flaw.at, on_key or flaw.on_key, data)
            found.setdefault((finding.problem.location, finding.problem.what), finding)
    return list(found.values())


def _finding(flaw: Flaw, location: Location, on_key: bool, data: object) -> Finding:
    if flaw.what == UNKNOWN_KEY and not flaw.change:
        flaw = flaw._replace(change=_known_instead(location, data))
    return Finding(Problem(where(location), flaw.what, flaw.change, location), on_key)


def where(location: Location) -> str:
    """Return the key path of a location, its keys as the user wrote them, yet on one line and not too long."""
    return key_path(tuple(part if isinstance(part, int) else shorten(part) for part in location)) or "the pipeline"


def _known_instead(location: Location, data: object) -> str:
    known = known_keys(location[:-1], data)
    if location[-2:-1] == ("convolve",) and (takers := banks_taking(location[-1])):
        return f"It is a parameter of {', '.join(takers)}."
    if found := nearest(location[-1], known):
        return f"Did you mean {found}?"
    return f"(keys here: {', '.join(known)})" if known else "No keys are known here."


def trace(loc: tuple[str | int, ...], data: object, kind: str) -> Location:
    """Return where in the user's data an error of pydantic's lies, without what the models put between.

    Parameters
    ----------
    loc : tuple of str and int
        Pydantic's location, with union tags (in parentheses) and the models' own field names.
    data : plain data
    kind : str
        Pydantic's type of the error; what is missing is not in ``data``, yet belongs to the location.
    """
    location: list[str | int] = []
    node: Any = data
    tag = ""
    for i, field in enumerate(loc):
        last, is_tag = i == len(loc) - 1, _is_tag(field)
        part = _in_file(field, tag, location, node)
        tag = str(field) if is_tag else ""
        if is_tag and _is_tag(part) and not (last and kind == "extra_forbidden"):
            continue
        if part == "source" and not (last and kind == "extra_forbidden"):
            continue
        if isinstance(part, int) and isinstance(node, Mapping):
            part = str(part)  # in the file every key is text
        inside = (isinstance(node, Mapping) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        if inside:
            node = node[part]
        if inside or (last and kind == "missing" and not is_tag):
            location.append(part)
    return tuple(location)


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("(") and part.endswith(")")


def _in_file(part: str | int, tag: str, location: list[str | int], node: Any) -> str | int:
    """Return what the file calls a field of the models."""
    if part in ("(random)", "(fit)", "(learned)"):
        return "bank"
    if (tag, part) in (("(inline)", "values"), ("(file)", "file")):
        return "kernels"
    if part == "over" and location[-1:] == ["pool"]:
        return next((key for key in node if key in POOLINGS), "over")
    return part


def _flaw(detail: Any, location: Location) -> Flaw:
    """Say in featpipe's words what one of pydantic's own checks found."""
    kind, got, limits = detail["type"], describe(detail["input"]), detail.get("ctx", {})
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return Flaw(
            f"{words} {limits[name]:g}, got {got}." if limits[name] < 10**6 else f"{words} {limits[name]}, got {got}."
        )
    match kind:
        case "missing":
            example = EXAMPLES.get(".".join(map(str, location[-2:])), EXAMPLES.get(str(location[-1]), ""))
            return Flaw("is missing.", f"Add {example}." if example else "Add it.")
        case "extra_forbidden":
            return Flaw(UNKNOWN_KEY, on_key=True)
        case "literal_error":
            return _literal_flaw(detail, got)
        case "too_short" if limits.get("field_type") == "Dictionary":
            return Flaw("has no branches.", f"Add one, e.g. {EXAMPLES['features']}.")
        case "too_long":
            return Flaw(f"may hold {limits['max_length']:,} items, got {got}.")
        case "too_short":
            return Flaw("must hold at least one item, got an empty list.")
        case "string_type":
            return Flaw(
                f"must be text, got {got}.", "" if detail["input"] is None else "Put it in quotes if it is text."
            )
        case "bool_type" | "bool_parsing":
            return Flaw(f"must be true or false, got {got}.")
        case "list_type":
            change = "Begin each item with '- '." if isinstance(detail["input"], Mapping) else ""
            return Flaw(f"must be a list, got {got}.", change)
        case "model_type" | "dict_type" | "model_attributes_type" | "mapping_type":
            return Flaw(f"must be a mapping of keys to values, got {got}.", _as_mapping(detail["input"], location))
        case _:
            return Flaw(f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {got}.")


def _as_mapping(value: Any, location: Location) -> str:
    """Return how a value that stands alone is written under its key."""
    key = MAIN_KEYS.get(location[-1] if location else "")
    if key is None or not isinstance(value, str | int) or isinstance(value, bool):
        return ""
    if location[-1] == "pool" and value in POOLINGS:
        return f"Write pool: {{{value}: 2}}."
    return f"Write {location[-1]}: {{{key}: {value}}}."


def _literal_flaw(detail: Any, got: str) -> Flaw:
    words = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    return Flaw(f"must be one of {', '.join(words)}, got {got}.", suggest(detail["input"], words))
