"""Images that gave no features, by reason, with a look at some of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featpipe.errors import FeatpipeError
from featpipe.images.glance import Glance
from featpipe.pages.pictures import thumbnail

MOST_REASONS = 12
MOST_NAMES = 24
"""Of one reason."""
MOST_LOOKED_AT = 4
"""Of one reason."""
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True)
class FailedImage:
    """One of them."""

    name: str
    picture: str
    """A data URI; empty where there is none."""
    why: str
    """Why there is no picture."""


@dataclass(frozen=True)
class Reason:
    """Images that failed for one reason, but for the numbers in it."""

    text: str
    """Of the first of them."""
    alike: bool
    """Whether others' numbers differ."""
    count: int
    looked_at: tuple[FailedImage, ...]
    names: tuple[str, ...]
    """Of others."""

    @property
    def more(self) -> int:
        return self.count - len(self.looked_at) - len(self.names)


@dataclass(frozen=True)
class Failures:
    """All of them."""

    count: int
    reasons: tuple[Reason, ...]
    more_reasons: int
    more_images: int
    """Of these reasons."""


def group_failures(failures: Mapping[int, str], paths: Sequence[str], glance: Glance | None) -> Failures:
    """Group images that failed by their reasons, the commonest first, and look at some of each.

    Parameters
    ----------
    failures : mapping of int to str
        Image to reason.
    paths : sequence of str
        Names of all images.
    glance : Glance, optional
        Opens images; none is looked at unless given.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for image in sorted(failures):
        name = str(paths[image])
        text = failures[image].removeprefix(f"{name}: ")
        groups.setdefault(_NUMBER.sub("0", text), []).append((name, text))
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    reasons = tuple(_reason(group, glance) for group in ordered[:MOST_REASONS])
    others = ordered[MOST_REASONS:]
    return Failures(len(failures), reasons, len(others), sum(map(len, others)))


def _reason(group: Sequence[tuple[str, str]], glance: Glance | None) -> Reason:
    text = group[0][1]
    looked_at = [_look(name, glance) for name, _ in group[:MOST_LOOKED_AT]] if glance is not None else []
    names = tuple(name for name, _ in group[len(looked_at) : len(looked_at) + MOST_NAMES])
    return Reason(text, any(other != text for _, other in group), len(group), tuple(looked_at), names)


def _look(name: str, glance: Glance) -> FailedImage:
    try:
        seen = glance.look(name)
        return FailedImage(name, thumbnail(seen.samples.astype("float32") / seen.full), "")
    except FeatpipeError as error:
        return FailedImage(name, "", str(error).removeprefix(f"{name}: "))
