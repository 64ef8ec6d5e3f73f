"""How this package says no: to one image, and to the whole collection."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from featpipe.errors import ImageError, Problem, SourceError, key_path
from featpipe.spec.pipeline import Images

MOST_PROBLEMS = 10
"""Listed of one kind; more would hide the others."""


class Refused(Exception):  # noqa: N818 - it is no error yet: who catches it knows the image's name and makes it one
    """Why one image cannot be used, as the end of the sentence ``photo.jpg: ...``."""


def explain(error: Exception, what: str = "image", decoder: str = "") -> Refused:
    """Return the refusal that an exception of the file system or of a decoder means.

    Parameters
    ----------
    error : Exception
    what : str
        That was to be read.
    decoder : str
        Who was to read it.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, FileNotFoundError):
        return Refused("no such file")
    if isinstance(error, OSError) and error.strerror:
        return Refused(f"cannot be opened ({error.strerror.lower()})")
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return Refused(f"not a readable {what} ({decoder}: {text})" if decoder else f"not a readable {what} ({text})")


def image_error(name: str, reason: str) -> ImageError:
    """Return the error that one image, called ``name`` in its collection, cannot be read."""
    return ImageError(Problem(name, reason))


def source_problem(key: str, what: str, change: str = "") -> Problem:
    """Return a problem with ``images.<key>`` of the pipeline file."""
    location = ("images", key)
    return Problem(key_path(location), what, change, location)


def source_error(key: str, what: str, change: str = "") -> SourceError:
    """Return the error that the collection is wrong with ``images.<key>``."""
    return SourceError(source_problem(key, what, change))


def nearest(wanted: str, names: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?``, or nothing."""
    close = difflib.get_close_matches(wanted, list(names), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def check_readable(images: Images, paths: Sequence[str], unreadable: Mapping[int, str]) -> None:
    """Raise if no image is readable, or one is not and ``on_error`` is ``fail``."""
    if not unreadable or (images.on_error == "skip" and len(unreadable) < len(paths)):
        return
    problems = [Problem(paths[i], f"{why}.", location=("images", "path")) for i, why in unreadable.items()]
    problems = list(dict.fromkeys(problems))
    if len(unreadable) == len(paths):
        head = source_problem("path", f"none of the {len(paths):,} images can be read.")
    else:
        change = "Mend or remove them, or set images.on_error: skip."
        head = source_problem("on_error", f"{len(unreadable):,} of {len(paths):,} images cannot be read.", change)
    raise SourceError([head, *problems[:MOST_PROBLEMS]])
