"""Arrays of weights: what one must be like, and those of safetensors files, in which no code can hide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from featpipe.reading.files import check_regular, stat_file
from featpipe.reading.retry import retry
from featpipe.spec.words import suggest

Float64 = npt.NDArray[np.float64]

NUMBERS = {"F64": 8, "F32": 4, "F16": 2, **{f"{sign}{8 * n}": n for sign in "IU" for n in (1, 2, 4, 8)}}
"""The number types of safetensors that NumPy has too, in bytes."""


class RefusedError(Exception):
    """What is wrong with a file, and what to change."""


def refuse(what: str, change: str) -> NoReturn:
    """Raise `RefusedError`."""
    raise RefusedError(what, change)


@dataclass(frozen=True)
class Wanted:
    """What an array may be."""

    dims: tuple[int, ...]
    """Numbers of dimensions."""
    layout: str
    """What they are, for errors."""
    largest: int
    """Bytes that it may take, in the file and as numbers of ``item`` bytes."""
    item: int = 8
    one: str = "kernel"
    fewer: str = "Save fewer or smaller kernels."


def check_shape(shape: Sequence[int], item: int, wanted: Wanted) -> None:
    """Refuse an array by its shape and the bytes of its numbers, before it takes memory."""
    size = math.prod(shape)
    if len(shape) not in wanted.dims:
        refuse(f"has {len(shape)} dimensions.", f"Save {wanted.layout}.")
    if size == 0:
        refuse(f"is empty, {by(shape)}.", f"Save one {wanted.one} or more.")
    taken = size * max(item, wanted.item)
    if taken > wanted.largest:
        what = f"{by(shape)} values take {taken / 2**20:.0f} MiB, {wanted.largest / 2**20:.0f} at most."
        refuse(what, wanted.fewer)


def check_finite(values: npt.NDArray[np.floating[Any]]) -> None:
    """Refuse NaN and infinity."""
    finite = np.isfinite(values)
    if not finite.all():
        first = tuple(map(int, np.argwhere(~finite)[0]))
        what = f"{finite.size - finite.sum()} of {finite.size} values are not finite, first at {list(first)}."
        refuse(what, "Save finite numbers.")


def by(shape: Sequence[int]) -> str:
    """Write a shape as ``64×3×3×3``."""
    return "×".join(map(str, shape))


class Tensors:
    """The named arrays of an open safetensors file."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.names: tuple[str, ...] = tuple(opened.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return an array's shape, without reading it."""
        self._check_name(name)
        return tuple(self._opened.get_slice(name).get_shape())

    def read(self, name: str, wanted: Wanted) -> npt.NDArray[Any]:
        """Return an array of numbers, as they are in the file."""
        self._check_name(name)
        about = self._opened.get_slice(name)
        dtype = about.get_dtype()
        if dtype not in NUMBERS:
            words = {"BF16": "bfloat16, which NumPy does not have", "BOOL": "truth values", "C64": "complex numbers"}
            what = f"{name} holds {words.get(dtype, f'numbers of type {dtype}')}."
            refuse(what, f"Save it as float32, in PyTorch state[{name!r}].float().")
        check_shape(about.get_shape(), NUMBERS[dtype], wanted)
        array: npt.NDArray[Any] = self._opened.get_tensor(name)
        return array

    def _check_name(self, name: str) -> None:
        if name not in self.names:
            shown = ", ".join(self.names[:20]) or "none"
            refuse(f"there is no tensor {name!r} in it.", f"{suggest(name, self.names)} (tensors: {shown})".strip())


@contextmanager
def open_tensors(path: str) -> Iterator[Tensors]:
    """Open a safetensors file.

    Parameters
    ----------
    path : str

    Yields
    ------
    Tensors
        Which are read from the disk one by one.

    Raises
    ------
    RefusedError
        If the library is missing, or the file is none of safetensors; a file that cannot be opened raises `OSError`.

    References
    ----------
    The format: https://huggingface.co/docs/safetensors
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        refuse("needs the library safetensors to be read.", "pip install 'featpipe[weights]'")
    try:
        check_regular(path, stat_file(path))
        with retry(lambda: safe_open(path, framework="np")) as opened:
            yield Tensors(opened)
    except SafetensorError as error:
        refuse(f"is no whole safetensors file ({error}).", "Save it with safetensors.torch.save_file(state, FILE).")
