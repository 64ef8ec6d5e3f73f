"""Kernels from NumPy's files."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NoReturn

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location, Problem, SpecError
from featpipe.spec.checks import split_file

Float64 = npt.NDArray[np.float64]

LARGEST_BANK = 256 * 2**20
"""Of all kernels of a bank, in bytes of float64."""
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
    zipfile.BadZipFile,
    zlib.error,
)


def read_kernels(path: str, where: str = "kernels", location: Location = ()) -> Float64:
    """Read kernels from a file that ``numpy.save`` or ``numpy.savez`` has written.

    Parameters
    ----------
    path : str
        ``FILE.npy`` or ``FILE.npz:NAME``.
    where : str
        The key that names the file, for errors.
    location : tuple
        The same in parts, so that an error can tell line and column.

    Returns
    -------
    (k, y, x) or (k, y, x, c) float64
        An array of two dimensions is one kernel.

    Raises
    ------
    SpecError
        If there are no finite real numbers of that shape, or they take more than `LARGEST_BANK`.
    """
    try:
        with _open_array(path) as stream:
            _check_header(stream)
        with _open_array(path) as stream:
            found = np.lib.format.read_array(stream, allow_pickle=False)
        return _check_values(found)
    except _RefusedError as refusal:
        what, change = refusal.args
    except FileNotFoundError:
        what, change = "there is no such file.", "Paths are relative to the pipeline file."
    except UNREADABLE as error:
        what, change = f"cannot be read ({error}).", "Write it with numpy.save or numpy.savez."
    raise SpecError(Problem(where, f"{path}: {what}", change, location))


class _RefusedError(Exception):
    """What is wrong with a file, and what to change."""


@contextmanager
def _open_array(path: str) -> Iterator[IO[bytes]]:
    """Open an array's bytes in NumPy's format, be they a file or a member of an archive."""
    file, key = split_file(path)
    if key is None:
        with open(file, "rb") as stream:  # noqa: PTH123
            if stream.read(2) == b"PK":
                _refuse("is an .npz archive and does not say which of its arrays.", "Write it as FILE.npz:NAME.")
            stream.seek(0)
            yield stream
        return
    with zipfile.ZipFile(file) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        if key not in keys:
            _refuse(f"there is no array {key!r} in it.", f"(arrays: {', '.join(keys[:20]) or 'none'})")
        with archive.open(archive.namelist()[keys.index(key)]) as stream:
            yield stream


def _check_header(stream: IO[bytes]) -> None:
    """Refuse what is no array of kernels before any of it takes memory."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind == "c":
        _refuse("holds complex numbers.", "Save the real and the imaginary parts as kernels of their own.")
    if dtype.kind not in "iuf":
        _refuse(f"holds no numbers but {'Python objects' if dtype.hasobject else dtype}.", "Save an array of floats.")
    if len(shape) not in (2, 3, 4):
        _refuse(f"has {len(shape)} dimensions.", "Save (k, y, x) or (k, y, x, c): kernels, rows, columns, channels.")
    if size == 0:
        _refuse(f"is empty, {_by(shape)}.", "Save one kernel or more.")
    if max(size, math.prod(shape) * 8) > LARGEST_BANK:
        what = f"{_by(shape)} values take {math.prod(shape) * 8 / 2**20:.0f} MiB, {LARGEST_BANK / 2**20:.0f} at most."
        _refuse(what, "Save fewer or smaller kernels.")


def _check_values(found: npt.NDArray[np.generic]) -> Float64:
    with np.errstate(over="ignore"):  # a wider float may overflow; then it is not finite
        kernels = np.ascontiguousarray(found[None] if found.ndim == 2 else found, np.float64)
    finite = np.isfinite(kernels)
    if not finite.all():
        first = tuple(map(int, np.argwhere(~finite)[0]))
        what = f"{finite.size - finite.sum()} of {finite.size} values are not finite, first at {list(first)}."
        _refuse(what, "Save finite numbers.")
    return kernels


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _refuse(what: str, change: str) -> NoReturn:
    raise _RefusedError(what, change)
