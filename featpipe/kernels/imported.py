"""Convolutions from a PyTorch state_dict: which modules there are, which are missing, batch norms folded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location, Problem, SpecError
from featpipe.kernels.files import LARGEST_BANK, UNREADABLE
from featpipe.kernels.weights import RefusedError, Tensors, Wanted, by, check_finite, open_tensors, refuse

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

LARGEST_STACK = 2**30
"""Of all kernels of a stack, in bytes of float32."""
_WEIGHTS = Wanted((4,), "(k, c, y, x): kernels, channels, rows, columns", LARGEST_BANK)
_VECTOR = Wanted((1,), "(k,): one number per kernel", LARGEST_BANK, one="number", fewer="Import a smaller network.")
_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of the stack, its batch norm folded in.

    Parameters
    ----------
    index : int
        Of the module.
    last : int
        The same, or of its batch norm.
    weights : (k, y, x, c) float32
    bias : (k,) float32
    silent : int
        Modules without weights after it, of which the first is the activation and the second a pooling.
    """

    index: int
    last: int
    weights: Float32
    bias: Float32
    silent: int


def read_stack(
    path: str, prefix: str, until: int | None, epsilon: float, where: str, location: Location = ()
) -> tuple[Convolution, ...]:
    """Read a sequence of convolutions.

    Parameters
    ----------
    path : str
        ``.safetensors`` file of a state_dict.
    prefix : str
        What stands before the indices of the modules.
    until : int or None
        The first module that is left out; None ends with the activation after the last convolution.
    epsilon : float
        Of the batch norms, added to the variance.
    where, location
        The layer's place, for errors.

    Raises
    ------
    SpecError
        If the file holds no such sequence.
    """
    key = ""
    try:
        with open_tensors(path) as tensors:
            return tuple(_Stack(tensors, prefix, until, epsilon).convolutions())
    except _BeyondError as refusal:
        key, (what, change) = "until", refusal.args
    except _PrefixError as refusal:
        key, (what, change) = "prefix", refusal.args
    except RefusedError as refusal:
        key, (what, change) = "file", refusal.args
    except FileNotFoundError:
        key, what, change = "file", "there is no such file.", "Paths are relative to the pipeline file."
    except UNREADABLE as error:
        key, what, change = "file", f"cannot be read ({error}).", "Save it with safetensors."
    at = (*location, key) if location else ()
    raise SpecError(Problem(f"{where}.{key}", f"{path}: {what}", change, at))


class _PrefixError(RefusedError):
    """No modules at the prefix."""


class _BeyondError(RefusedError):
    """What lies before ``until`` is no convolution."""


class _Stack:
    def __init__(self, tensors: Tensors, prefix: str, until: int | None, epsilon: float) -> None:
        self.tensors = tensors
        self.start = f"{prefix.removesuffix('.')}." if prefix else ""
        self.epsilon = epsilon
        self.modules = self._find_modules()
        self.until = until
        self.indices = [index for index in self.modules if until is None or index < until]
        if not self.indices:
            what = f"the first module with weights is {next(iter(self.modules))}, and until is {until}."
            raise _BeyondError(what, "Raise until.")

    def _find_modules(self) -> dict[int, set[str]]:
        """Return the parts of every module with weights, in the order of their indices."""
        found: dict[int, set[str]] = {}
        starts: dict[str, None] = {}
        for name in self.tensors.names:
            parted = re.fullmatch(r"(?s)(.*?)(\d+)\.([^.\d][^.]*)", name)
            if parted and (not parted[1] or parted[1].endswith(".")):
                starts.setdefault(parted[1].removesuffix("."))
                if parted[1] == self.start:
                    found.setdefault(int(parted[2]), set()).add(parted[3])
        if not found:
            what = f"no tensor is called {self.start}N.weight, of a module N in a sequence."
            shown = ", ".join(map(repr, list(starts)[:20])) or "none"
            raise _PrefixError(what, f"(prefixes of sequences: {shown})")
        return dict(sorted(found.items()))

    def convolutions(self) -> Iterator[Convolution]:
        at, channels, taken = 0, None, 0
        while at < len(self.indices):
            index = last = self.indices[at]
            shape = self._check_convolution(index, channels)
            taken += int(np.prod(shape)) * 4
            if taken > LARGEST_STACK:
                most = f"{LARGEST_STACK // 2**20} at most"
                what = f"the kernels up to module {index} take {taken / 2**20:.0f} MiB, {most}."
                raise _BeyondError(what, f"Set until: {index}.")
            at += 1
            normed = at < len(self.indices) and self._is_norm(self.indices[at])
            if normed:
                last = self.indices[at]
                if last != index + 1:
                    what = f"the batch norm, module {last}, does not follow a convolution directly ({index} is one)."
                    raise _BeyondError(what, f"Set until: {last} at most.")
                at += 1
            weights, bias = self._folded(index, last if normed else None)
            yield Convolution(index, last, weights, bias, self._silent(last, at))
            channels = shape[0]

    def _check_convolution(self, index: int, channels: int | None) -> tuple[int, ...]:
        if self._is_norm(index):
            what = f"module {index} is a batch norm that follows no convolution."
            raise _BeyondError(what, self._end(index))
        parts = self.modules[index]
        shape = self.tensors.shape(f"{self.start}{index}.weight") if "weight" in parts else ()
        if unknown := sorted(parts - set(_PARTS)):
            raise _BeyondError(f"module {index} is no convolution: it holds {unknown[0]}.", self._end(index))
        if len(shape) != 4:
            kind = "a linear layer" if len(shape) == 2 else "no 2-D convolution"
            shown = by(shape) if shape else "none"
            raise _BeyondError(f"module {index} is {kind}: its weight is {shown}.", self._end(index))
        if channels is not None and shape[1] != channels:
            what = f"the kernels of module {index} span {shape[1]} channels, but {channels} come from the one before."
            raise _BeyondError(what, f"Groups and branches cannot be imported. {self._end(index)}")
        return shape

    def _end(self, index: int) -> str:
        first = index == self.indices[0]
        return "Give the prefix of the convolutions." if first else f"Set until: {index} at most."

    def _is_norm(self, index: int) -> bool:
        return "running_mean" in self.modules[index]

    def _silent(self, last: int, at: int) -> int:
        """Return how many modules without weights follow ``last``."""
        if at < len(self.indices):
            silent, what = self.indices[at] - last - 1, f"between the modules {last} and {self.indices[at]}"
        elif self.until is None:
            return 1
        else:
            silent, what = self.until - last - 1, f"between module {last} and until, {self.until},"
        if silent > 2:
            what = f"{what} stand {silent} without weights; an activation and a pooling are known."
            raise _BeyondError(what, f"Set until: {last + 3} at most.")
        return silent

    def _vector(self, index: int, part: str, count: int, default: float) -> Float64:
        if part not in self.modules[index]:
            return np.full(count, default)
        values = self._read(f"{self.start}{index}.{part}", _VECTOR)
        if len(values) != count:
            refuse(f"{self.start}{index}.{part} has {len(values)} values for {count} kernels.", "Save one per kernel.")
        return values

    def _read(self, name: str, wanted: Wanted) -> Float64:
        try:
            values = self.tensors.read(name, wanted).astype(np.float64)
            check_finite(values)
        except RefusedError as refusal:
            what, change = refusal.args
            raise RefusedError(what if what.startswith(name) else f"{name} {what}", change) from None
        return values

    def _folded(self, index: int, norm: int | None) -> tuple[Float32, Float32]:
        """Return kernels and biases: (y - mean) / √(variance + epsilon) · weight + bias is linear in y."""
        weights = self._read(f"{self.start}{index}.weight", _WEIGHTS).transpose(0, 2, 3, 1)
        bias = self._vector(index, "bias", len(weights), 0.0)
        name = f"{self.start}{index}"
        if norm is not None:
            name = f"{self.start}{norm}"
            mean, variance = (self._vector(norm, f"running_{part}", len(weights), 1.0) for part in ("mean", "var"))
            if variance.min() < 0:
                refuse(f"{name}.running_var has {variance.min():g}; no variance is negative.", "Save the network anew.")
            scale = self._vector(norm, "weight", len(weights), 1.0) / np.sqrt(variance + self.epsilon)
            weights = weights * scale[:, None, None, None]
            bias = self._vector(norm, "bias", len(weights), 0.0) + (bias - mean) * scale
        largest = max(float(np.abs(weights).max()), float(np.abs(bias).max()))
        if largest > float(np.finfo(np.float32).max):
            refuse(f"{name} has {largest:g}, beyond float32, in which maps are computed.", "Scale it down.")
        return np.ascontiguousarray(weights, np.float32), bias.astype(np.float32)
