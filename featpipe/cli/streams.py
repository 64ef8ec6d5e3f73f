"""The process's own streams: closed, full or read by nobody, they never change what a command does.

Everything printed goes through one raw file for each stream, which takes whatever it is given. That results could not
be printed is told by the exit code, once the command has done its work.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any, TextIO


def mend_streams() -> Output | None:
    """Give this process streams that can be written to, and return stdout's file.

    Standard streams that are closed (as daemons and services have them) lead nowhere. Their descriptors are taken up,
    or the next file opened, a store's for instance, would be stdout.

    Returns
    -------
    Output or None
        None where stdout is not the process's own, as under a test's capture.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor is this one
    if sys.stdin is None:
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stderr, _ = _mended(sys.stderr, sys.__stderr__, 2)
    sys.stdout, output = _mended(sys.stdout, sys.__stdout__, 1)
    return output


def _mended(stream: TextIO | None, own: TextIO | None, descriptor: int) -> tuple[Any, Output | None]:
    """Return a stream whose raw file is an `Output`, with names of files shown that need not be text."""
    if stream is not own or (stream is not None and os.name == "nt" and stream.isatty()):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream, None
    if stream is not None:
        stream.flush()
    raw = Output(descriptor, "wb", closefd=False)
    encoding = "utf-8" if stream is None else stream.encoding
    line_buffering = descriptor == 2 or raw.isatty()
    text = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=line_buffering, newline=None
    )
    return text, raw


class Output(io.FileIO):
    """A raw file that takes all that it is given, and keeps the error of what it could not write."""

    lost: OSError | None = None
    """Why something could not be written. A reader who has gone (``| head``) is no reason: he has what he wanted."""

    def write(self, data: Any) -> int:
        """Write, and return the number of bytes taken: all of them where they are lost."""
        view = memoryview(data).cast("B")
        try:
            while (count := super().write(view)) is None:
                select.select([], [self], [])  # whoever made the pipe has made it non-blocking
        except BrokenPipeError:
            return len(view)
        except OSError as error:
            self.lost = error
            return len(view)
        return count
