"""Kernels, and other weights, from NumPy's files and from safetensors."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location, Problem, SpecError
from featpipe.kernels.weights import RefusedError, Wanted, check_finite, check_shape, open_tensors, refuse
from featpipe.reading.files import open_buffered
from featpipe.spec.checks import TENSORS, split_file

Float64 = npt.NDArray[np.float64]
Order = Literal["auto", "kyxc", "kcyx"]

LARGEST_BANK = 256 * 2**20
"""Of all kernels of a bank, in bytes of float64."""
KERNELS = Wanted((2, 3, 4), "(k, y, x) or (k, y, x, c): kernels, rows, columns, channels", LARGEST_BANK)
BIASES = Wanted((1,), "(k,): one number per kernel", LARGEST_BANK, one="number", fewer="Save one per kernel.")
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
    zipfile.BadZipFile,
    zlib.error,
)


def read_kernels(
    path: str, where: str = "kernels", location: Location = (), *, order: Order = "auto", inputs: int | None = None
) -> Float64:
    """Read kernels from a file that ``numpy.save``, ``numpy.savez`` or safetensors has written.

    PyTorch's kernels are (k, c, y, x). Those of safetensors are taken as such; those of NumPy's files where axis 1, and
    not axis 3, is as long as there are input features. All others are (k, y, x, c), unless ``order`` says so.

    Parameters
    ----------
    path : str
        ``FILE.npy``, ``FILE.npz:NAME`` or ``FILE.safetensors:NAME``.
    where : str
        The key that names the file, for errors.
    location : tuple
        The same in parts, so that an error can tell line and column.
    order : {"auto", "kyxc", "kcyx"}
        Of the axes of an array of four.
    inputs : int, optional
        How many features the kernels will see.

    Returns
    -------
    (k, y, x) or (k, y, x, c) float64
        An array of two dimensions is one kernel.

    Raises
    ------
    SpecError
        If there are no finite real numbers of that shape, or they take more than `LARGEST_BANK`.
    """
    found = read_array(path, KERNELS, where, location)
    if found.ndim == 4 and _channels_first(path, found.shape, order, inputs):
        found = found.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(found[None] if found.ndim == 2 else found, np.float64)


def _channels_first(path: str, shape: tuple[int, ...], order: Order, inputs: int | None) -> bool:
    if order != "auto":
        return order == "kcyx"
    return split_file(path)[0].endswith(TENSORS) or (shape[1] == inputs != shape[3])


def read_array(path: str, wanted: Wanted, where: str, location: Location = ()) -> npt.NDArray[np.floating[Any]]:
    """Read an array of finite numbers.

    Parameters
    ----------
    path : str
        ``FILE.npy``, ``FILE.npz:NAME`` or ``FILE.safetensors:NAME``.
    wanted : Wanted
    where, location
        As for `read_kernels`.

    Returns
    -------
    array of float32 or float64
        As ``wanted.item`` says.

    Raises
    ------
    SpecError
        If there is no such array.
    """
    file, key = split_file(path)
    try:
        if file.endswith(TENSORS):
            if key is None:
                refuse("does not say which of its tensors.", f"Write it as FILE{TENSORS}:NAME.")
            with open_tensors(file) as tensors:
                found = tensors.read(key, wanted)
        else:
            with _open_array(path) as stream:
                _check_header(stream, wanted)
            with _open_array(path) as stream:
                found = np.lib.format.read_array(stream, allow_pickle=False)
        with np.errstate(over="ignore"):  # a wider float may overflow; then it is not finite
            values: npt.NDArray[np.floating[Any]] = found.astype(f"f{wanted.item}", copy=False)
        check_finite(values)
        return values
    except RefusedError as refusal:
        what, change = refusal.args
    except FileNotFoundError:
        what, change = "there is no such file.", "Paths are relative to the pipeline file."
    except UNREADABLE as error:
        what, change = f"cannot be read ({error}).", "Write it with numpy.save or numpy.savez."
    raise SpecError(Problem(where, f"{path}: {what}", change, location))


@contextmanager
def _open_array(path: str) -> Iterator[IO[bytes]]:
    """Open an array's bytes in NumPy's format, be they a file or a member of an archive."""
    file, key = split_file(path)
    if key is None:
        with open_buffered(file) as stream:
            if stream.read(2) == b"PK":
                refuse("is an .npz archive and does not say which of its arrays.", "Write it as FILE.npz:NAME.")
            stream.seek(0)
            yield stream
        return
    with open_buffered(file) as opened, zipfile.ZipFile(opened) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        if key not in keys:
            refuse(f"there is no array {key!r} in it.", f"(arrays: {', '.join(keys[:20]) or 'none'})")
        with archive.open(archive.namelist()[keys.index(key)]) as stream:
            yield stream


def _check_header(stream: IO[bytes], wanted: Wanted) -> None:
    """Refuse what is no array of weights before any of it takes memory."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.kind == "c":
        refuse("holds complex numbers.", "Save the real and the imaginary parts as kernels of their own.")
    if dtype.kind not in "iuf":
        refuse(f"holds no numbers but {'Python objects' if dtype.hasobject else dtype}.", "Save an array of floats.")
    check_shape(shape, dtype.itemsize, wanted)
