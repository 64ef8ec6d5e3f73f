"""What a shell offers after Tab: the files, stores and names that fit here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from featpipe.printable import printable


def complete_pipelines(incomplete: str) -> list[str]:
    """Return the pipeline files that the beginning of a path may become, and directories on the way."""
    return _paths(incomplete, lambda path: path.suffix in (".yaml", ".yml") and path.is_file())


def complete_stores(incomplete: str) -> list[str]:
    """Return the stores that the beginning of a path may become, and directories on the way."""
    return _paths(incomplete, lambda path: path.suffix == ".zarr" and path.is_dir())


def complete_banks() -> list[str]:
    """Return the names of banks; without the catalogue, whose arrays would take longer to import."""
    from featpipe.spec.banks import BANKS
    from featpipe.spec.fits import FITS

    return [*BANKS, *FITS, "learned", "random", "inline", "file"]


def one_of(*words: str) -> Callable[[], Sequence[str]]:
    """Return a completion by words."""
    return lambda: words


def _paths(incomplete: str, fits: Callable[[Path], bool]) -> list[str]:
    typed = incomplete.rpartition("/")[0]
    before = f"{typed}/" if "/" in incomplete else ""
    try:
        found = list(_found(Path(before).expanduser(), before, incomplete, fits))
    except (OSError, RuntimeError):  # the latter of the home of nobody
        return []
    # The shell knows better than we that a directory alone wants no space after it.
    return [] if len(found) == 1 and found[0].endswith("/") else found


def _found(folder: Path, before: str, incomplete: str, fits: Callable[[Path], bool]) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        text = before + path.name
        if text.startswith(incomplete) and not path.name.startswith(".") and printable(path.name) == path.name:
            if fits(path):
                yield text
            elif path.is_dir() and not path.name.endswith((".zarr", ".zarr.run")):
                yield f"{text}/"
