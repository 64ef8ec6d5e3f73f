"""How this package says no: to one image, and to the whole collection."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from featpipe.errors import ImageError, Problem, SourceError, UnavailableError, UnavailableSourceError, key_path
from featpipe.reading.files import ChangedFileError, IrregularFileError
from featpipe.reading.retry import is_transient
from featpipe.spec.pipeline import Images

MOST_PROBLEMS = 10
"""Listed of one kind; more would hide the others."""
AGAIN = "Check the disk or the network, then run again."
"""What to do about what could not be reached."""


class Refused(Exception):  # noqa: N818 - it is no error yet: who catches it knows the image's name and makes it one
    """Why one image cannot be used, as the end of the sentence ``photo.jpg: ...``."""


class Unavailable(Refused):
    """Why one image could not be reached, however often it was tried: another time it may be."""


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
    if is_transient(error):
        return Unavailable(f"could not be reached ({told_error(error)})")
    if isinstance(error, IrregularFileError | ChangedFileError | IsADirectoryError):
        return Refused(told_error(error))
    if isinstance(error, OSError) and error.strerror:
        return Refused(f"cannot be opened ({error.strerror.lower()})")
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return Refused(f"not a readable {what} ({decoder}: {text})" if decoder else f"not a readable {what} ({text})")


def told_error(error: Exception) -> str:
    """Return what the system says of an error, in lower case as within a sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:1].lower() + str(text)[1:200]


def image_error(name: str, reason: str | Refused) -> ImageError:
    """Return the error that one image, called ``name`` in its collection, cannot be read."""
    kind = UnavailableError if isinstance(reason, Unavailable) else ImageError
    return kind(Problem(name, str(reason)))


def source_problem(key: str, what: str, change: str = "") -> Problem:
    """Return a problem with ``images.<key>`` of the pipeline file."""
    location = ("images", key)
    return Problem(key_path(location), what, change, location)


def source_error(key: str, what: str, change: str = "", *, cause: Exception | None = None) -> SourceError:
    """Return the error that the collection is wrong with ``images.<key>``, or could not be reached.

    Parameters
    ----------
    key, what, change : str
    cause : Exception, optional
        Which made it wrong; where it may pass by itself, the collection is only unavailable.
    """
    passing = cause is not None and (isinstance(cause, Unavailable) or is_transient(cause))
    kind = UnavailableSourceError if passing else SourceError
    return kind(source_problem(key, what, change or (AGAIN if passing else "")))


def nearest(wanted: str, names: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?``, or nothing."""
    close = difflib.get_close_matches(wanted, list(names), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def check_readable(
    images: Images, paths: Sequence[str], unreadable: Mapping[int, str], unavailable: Collection[int] = ()
) -> None:
    """Raise if no image is readable, or one is not and ``on_error`` is ``fail``.

    Parameters
    ----------
    images : Images
    paths : sequence of str
        Names of all images.
    unreadable : mapping of int to str
        Images that cannot be read, and why.
    unavailable : collection of int
        Those of them that could only not be reached.
    """
    if not unreadable or (images.on_error == "skip" and len(unreadable) < len(paths)):
        return
    problems = [Problem(paths[i], f"{why}.", location=("images", "path")) for i, why in unreadable.items()]
    problems = list(dict.fromkeys(problems))
    if len(unreadable) == len(paths):
        head = source_problem("path", f"none of the {len(paths):,} images can be read.")
    else:
        change = "Mend or remove them, or set images.on_error: skip."
        head = source_problem("on_error", f"{len(unreadable):,} of {len(paths):,} images cannot be read.", change)
    raise (UnavailableSourceError if unavailable else SourceError)([head, *problems[:MOST_PROBLEMS]])
