"""Arrays in ``.npy`` files, of which parts are read as they are asked for.

They are not mapped into memory: an error of the disk would kill the process that touches a page, and pages count as
memory of the process for as long as the system likes.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.reading.files import ChangedFileError, SteadyFile, mark_of


class NpyFile:
    """An array in a ``.npy`` file, indexed by whole numbers and slices without steps; for many threads at once.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no array of numbers, or less is there than its header says.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with SteadyFile(path) as file:
            self._mark = mark_of(file.found)
            version = np.lib.format.read_magic(file)
            old = version == (1, 0)
            read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            self.shape, self._fortran, self.dtype = read(file)
            self._start = file.tell()
        if self.dtype.hasobject:
            raise ValueError("it holds Python objects")
        needed = self._start + prod(self.shape) * self.dtype.itemsize
        if needed > self._mark[0]:
            raise ValueError(f"it has {self._mark[0]:,} bytes, and its header says {needed:,}")

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        parts = (*(key if isinstance(key, tuple) else (key,)),)
        parts += (slice(None),) * (len(self.shape) - len(parts))
        spans = [_span(part, length) for part, length in zip(parts, self.shape, strict=True)]
        found = self._read(spans[::-1], self.shape[::-1]).T if self._fortran else self._read(spans, self.shape)
        whole: npt.NDArray[Any] = found[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)]
        return whole

    def _read(self, spans: list[tuple[int, int]], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read a box of the array as it lies in the file, run by run of what lies together."""
        axis = max((i for i, (span, n) in enumerate(zip(spans, shape, strict=True)) if span != (0, n)), default=0)
        wanted = tuple(stop - start for start, stop in spans)
        strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
        run = prod(wanted[axis:])
        if not prod(wanted):
            return np.empty(wanted, self.dtype)
        first = spans[axis][0] * strides[axis] if shape else 0
        places = (
            first + sum(i * stride for i, stride in zip(at, strides, strict=False))
            for at in itertools.product(*(range(*span) for span in spans[:axis]))
        )
        with SteadyFile(self.path) as file:
            if mark_of(file.found) != self._mark:
                raise ChangedFileError(self.path)
            if run == prod(wanted):
                return self._run(file, next(places), run).reshape(wanted)
            out = np.empty(prod(wanted), self.dtype)
            for i, place in enumerate(places):
                out[i * run : (i + 1) * run] = self._run(file, place, run)
        return out.reshape(wanted)

    def _run(self, file: SteadyFile, first: int, count: int) -> npt.NDArray[Any]:
        content = file.read_at(self._start + first * self.dtype.itemsize, count * self.dtype.itemsize)
        if len(content) < count * self.dtype.itemsize:
            raise ChangedFileError(self.path)
        return np.frombuffer(content, self.dtype)


def _span(part: Any, length: int) -> tuple[int, int]:
    """Return the first sample of an axis, and the one after the last."""
    if isinstance(part, slice):
        start, stop, step = part.indices(length)
        if step != 1:
            raise IndexError("an array in a .npy file is read without steps.")
        return start, max(start, stop)
    at = range(length)[part]
    return at, at + 1
