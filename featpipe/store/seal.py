"""Metadata that vouch for themselves, so that any bit that flips in them is seen.

A *seal* is the SHA-256 of a ``zarr.json``, worked out with 64 zeros in its own place. A *sealed group* lists the
SHA-256 of all its other files in its sealed metadata, which are written last: it is whole, or says that it is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from featpipe.store.format import KEY, NODE, node_key, parse_node
from featpipe.store.place import LocalPlace, Place

SEAL = "seal"
BLANK = "0" * 64
READERS = 16
"""Threads that read small files, where each takes its time to come."""
Files = dict[str, bytes]
"""Path within a group to content."""
MENDS = "Run its pipeline again: it mends this."
State = Literal["whole", "unsealed", "lost", "damaged"]


class Sum(NamedTuple):
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class SealedGroup:
    """A group whose files are as they were written."""

    facts: Mapping[str, Any]
    """Its attribute ``featpipe``."""
    files: Files


def sum_of(content: bytes) -> Sum:
    """Return size and SHA-256 of a file's content."""
    return Sum(len(content), hashlib.sha256(content).hexdigest())


def sealed(node: Mapping[str, Any]) -> bytes:
    """Return zarr metadata as the bytes of their file, with a seal in the attribute ``featpipe``."""
    attributes = dict(node.get("attributes") or {})
    facts = {key: value for key, value in attributes.get(KEY, {}).items() if key != SEAL}
    attributes[KEY] = {**facts, SEAL: BLANK}
    content = json.dumps({**node, "attributes": attributes}, indent=2).encode()
    return content.replace(_token(BLANK), _token(hashlib.sha256(content).hexdigest()), 1)


def seal_state(content: bytes | None) -> State:
    """Return what the seal of some metadata says of them: ``lost`` where nothing is there, or nothing was written."""
    if not content:
        return "lost"
    node = parse_node(content)
    attributes = (node or {}).get("attributes")
    facts = attributes.get(KEY) if isinstance(attributes, dict) else None
    if node is None or not isinstance(facts, dict):
        return "damaged"
    if SEAL not in facts:
        return "unsealed"
    token = _token(str(facts[SEAL]))
    if content.count(token) != 1:
        return "damaged"
    whole = hashlib.sha256(content.replace(token, _token(BLANK))).hexdigest()
    return "whole" if whole == facts[SEAL] else "damaged"


def _token(seal: str) -> bytes:
    return f'"{SEAL}": "{seal}"'.encode()


def write_sealed(place: Place, group: str, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> dict[str, Sum]:
    """Write a group with a seal, its metadata last; return what was written.

    Parameters
    ----------
    place : Place
    group : str
    files : mapping of str to bytes
        Of the group, its metadata among them.
    facts : mapping
        JSON-able, for its attribute ``featpipe``.
    """
    node = parse_node(files[NODE])
    assert node is not None
    others = {name: files[name] for name in sorted(files) if name != NODE}
    sums = {f"{group}/{name}": sum_of(content) for name, content in others.items()}
    node["attributes"] = {KEY: {**facts, "files": {name: sums[f"{group}/{name}"].sha256 for name in others}}}
    for name, content in others.items():
        place.write(f"{group}/{name}", [content])
    content = sealed(node)
    place.write(node_key(group), [content])
    return {**sums, node_key(group): sum_of(content)}


def read_sealed(place: Place, group: str) -> SealedGroup | None:
    """Return a sealed group; None where it is not there, has no seal, or is not as it was written."""
    found = _sealed_facts(place, group)
    if found is None:
        return None
    content, facts = found
    listed: Mapping[str, str] = facts["files"]
    files = dict(read_all(place, [f"{group}/{name}" for name in listed]))
    if any(sum_of(files[f"{group}/{name}"] or b"").sha256 != sha256 for name, sha256 in listed.items()):
        return None
    return SealedGroup(facts, {NODE: content, **{name: files[f"{group}/{name}"] or b"" for name in listed}})


def sealed_facts(place: Place, group: str) -> Mapping[str, Any] | None:
    """Return the attribute ``featpipe`` of a sealed group, whatever its other files hold; None as `read_sealed`."""
    found = _sealed_facts(place, group)
    return None if found is None else found[1]


def damaged_in_sealed(place: Place, group: str) -> list[str]:
    """Return the keys of a sealed group that are not as they were written."""
    facts = sealed_facts(place, group)
    if facts is None:
        return [node_key(group)]
    keys = {f"{group}/{name}": sha256 for name, sha256 in facts["files"].items()}
    return [key for key, content in read_all(place, keys) if content is None or sum_of(content).sha256 != keys[key]]


def _sealed_facts(place: Place, group: str) -> tuple[bytes, Mapping[str, Any]] | None:
    content = place.read(node_key(group))
    if content is None or seal_state(content) != "whole":
        return None
    facts = (parse_node(content) or {})["attributes"][KEY]
    return (content, facts) if isinstance(facts.get("files"), dict) else None


def read_all(place: Place, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield keys with their content; of an object store many are under way at once."""
    listed = list(keys)
    if isinstance(place, LocalPlace) or len(listed) < 2:
        for key in listed:
            yield key, place.read(key)
        return
    with ThreadPoolExecutor(READERS) as pool:
        yield from zip(listed, pool.map(place.read, listed), strict=True)
