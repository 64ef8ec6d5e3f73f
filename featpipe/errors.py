"""The errors featpipe raises, each a list of problems written for the person who can mend them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from featpipe.printable import printable

Location = tuple[str | int, ...]
"""A path of keys and list positions into the pipeline file, e.g. ``("features", "texture", "layers", 2)``."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what (with values and units), and what to change."""

    where: str
    what: str
    change: str = ""
    location: Location = ()

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.what}" + (f" {self.change}" if self.change else ""))

    def at(self, place: str) -> Problem:
        """Return the same problem with ``place`` (``file:line:column``) before its ``where``."""
        return replace(self, where=f"{place} {self.where}" if self.where else place)


class FeatpipeError(Exception):
    """Base of every error featpipe raises on purpose; the command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, problems: Problem | str | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem("featpipe", problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[FeatpipeError], tuple[Any, ...]]:
        return type(self), (self.problems,)


class SpecError(FeatpipeError):
    """The pipeline file is wrong."""

    exit_code = 2


class PlanError(FeatpipeError):
    """The pipeline is well-formed but cannot run on these images or in this memory."""

    exit_code = 2


class ImageError(FeatpipeError):
    """An image cannot be read as asked."""


class UnavailableError(ImageError):
    """An image could not be reached, however often it was tried; nothing says that it is broken."""


class SourceError(ImageError):
    """The collection of images itself cannot be read."""

    exit_code = 2


class UnavailableSourceError(UnavailableError, SourceError):
    """The collection could not be reached; nothing says that anything is wrong with it, or with the pipeline."""

    exit_code = 1


class StoreError(FeatpipeError):
    """The store cannot be written or read."""

    exit_code = 2


class WriteError(StoreError):
    """The store's place fails while it is written: full, gone, or no longer ours."""

    exit_code = 1

    def __init__(self, problems: Problem | str | Iterable[Problem], errno: int | None = None) -> None:
        super().__init__(problems)
        self.errno = errno

    def __reduce__(self) -> tuple[type[FeatpipeError], tuple[Any, ...]]:
        return type(self), (self.problems, self.errno)


class RunError(FeatpipeError):
    """The run failed after it had started."""


class InterruptedRunError(FeatpipeError):
    """Somebody asked the run to stop, and it has."""

    exit_code = 130


def key_path(location: Location) -> str:
    """Write a location the way the error messages do.

    Examples
    --------
    >>> key_path(("features", "texture", "layers", 2, "pool"))
    'features.texture.layers[2].pool'
    """
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
