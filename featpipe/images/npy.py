"""Arrays in ``.npy`` files, of which parts are read as they are asked for.

They are not mapped into memory: an error of the disk would kill the process that touches a page, and pages count as
memory of the process for as long as the system likes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import prod
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.geometry.grid import cut
from featpipe.reading.files import ChangedFileError, SteadyFile, mark_of

PIECE_BYTES = 2**20
"""Read at once where more is read than is wanted, at most, or one row of an array."""
_GAP_BYTES = 4 * 2**10
"""Between two rows that are read together, at most: the system reads whole pages, and a call takes about as long."""


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
        """Read a box of the array as it lies in the file."""
        box = _Box.of(spans, shape, self.dtype.itemsize)
        out = np.empty(box.wanted, self.dtype)
        if not out.size:
            return out
        with SteadyFile(self.path) as file:
            if mark_of(file.found) != self._mark:
                raise ChangedFileError(self.path)
            level = box.level if box.apart else max(box.level - 1, 0)
            for at in itertools.product(*map(range, box.wanted[:level])):
                start = self._start + box.first + sum(map(mul, at, box.strides))
                if box.apart:
                    self._fill(file, start, out[at], box)
                else:  # rows that lie in one piece each, or all together
                    self._rows(file, start, box.strides[level], out[at] if box.level else out[None])
        return out

    def _fill(self, file: SteadyFile, start: int, out: npt.NDArray[Any], box: _Box) -> None:
        """Read some rows of a box at once, with what lies between them, and keep what is wanted."""
        strides = box.strides[box.level :]
        last = sum((n - 1) * stride for n, stride in zip(out.shape[1:], strides[1:], strict=True)) + box.itemsize
        at_once = min(max(1, PIECE_BYTES // strides[0]), len(out))
        piece = np.empty((at_once - 1) * strides[0] + last, np.uint8)
        for first, stop in cut(len(out), at_once):
            rows = out[first:stop]
            part = piece[: (len(rows) - 1) * strides[0] + last]
            self._rows(file, start + first * strides[0], 0, part[None])
            rows[...] = np.ndarray(rows.shape, self.dtype, part, strides=strides)

    def _rows(self, file: SteadyFile, start: int, stride: int, out: npt.NDArray[Any]) -> None:
        if not file.read_rows(start, stride, out):
            raise ChangedFileError(self.path)


@dataclass(frozen=True)
class _Box:
    """Where a box of an array lies in a file, and how it is read: in bytes, and from the outermost axis inwards."""

    wanted: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    first: int
    level: int
    """The axis some rows of which are read at once; a loop goes over those before it."""

    @classmethod
    def of(cls, spans: list[tuple[int, int]], shape: tuple[int, ...], itemsize: int) -> _Box:
        """Choose how to read a box: rows are read together where little lies between them."""
        wanted = tuple(stop - start for start, stop in spans)
        strides = tuple(itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape)))
        first = sum(start * stride for (start, _), stride in zip(spans, strides, strict=True))
        level, covered = max(len(shape) - 1, 0), itemsize
        while level > 0:
            covered += (wanted[level] - 1) * strides[level]
            if strides[level - 1] > PIECE_BYTES or strides[level - 1] - covered > _GAP_BYTES:
                break
            level -= 1
        return cls(wanted, strides, itemsize, first, level)

    @property
    def apart(self) -> bool:
        """Whether something lies between what is read at once."""
        inner = self.itemsize
        for n, stride in [*zip(self.wanted, self.strides, strict=True)][self.level :][::-1]:
            if n > 1 and stride != inner:
                return True
            inner *= n
        return False


def _span(part: Any, length: int) -> tuple[int, int]:
    """Return the first sample of an axis, and the one after the last."""
    if isinstance(part, slice):
        start, stop, step = part.indices(length)
        if step != 1:
            raise IndexError("an array in a .npy file is read without steps.")
        return start, max(start, stop)
    at = range(length)[part]
    return at, at + 1
