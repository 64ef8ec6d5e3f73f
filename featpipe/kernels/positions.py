"""Kernels that differ from position to position: from a file, or drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from featpipe.caches import Cache
from featpipe.errors import Location, Problem, SpecError
from featpipe.kernels.files import BIASES, read_array
from featpipe.kernels.weights import Wanted

Float32 = npt.NDArray[np.float32]

LARGEST_LOCAL = 2**30
"""Of all kernels of a locally connected layer, in bytes of float32."""
WEIGHTS = Wanted(
    (6,),
    "(oy, ox, k, y, x, c): output rows and columns, kernels, their rows, columns and channels",
    LARGEST_LOCAL,
    item=4,
    fewer="Pool before this layer, or use fewer or smaller kernels or a larger stride.",
)
LOCAL_BIASES = Wanted(
    (1, 3), "(k,) or (oy, ox, k)", LARGEST_LOCAL, item=4, one="number", fewer="Save one per response."
)
_drawing = Lock()


@dataclass(frozen=True)
class LocalShape:
    """Of the kernels at one position."""

    kernels: int
    size: tuple[int, int]
    """Rows and columns, in samples."""
    channels: int

    @property
    def parameters(self) -> int:
        """Numbers at one position."""
        return self.kernels * self.size[0] * self.size[1] * self.channels


@dataclass(frozen=True, eq=False)
class GivenKernels:
    """Kernels from a file.

    Parameters
    ----------
    shape : LocalShape
    values : (oy, ox, y, x, c, k) float32
        Neighbouring kernels lie side by side, so that a vector takes several.
    """

    shape: LocalShape
    values: Float32

    @property
    def positions(self) -> tuple[int, int] | None:
        """Rows and columns of the output for which there are kernels; None for any."""
        return self.values.shape[0], self.values.shape[1]

    def over(self, positions: tuple[int, int]) -> Float32:
        """Return the kernels of all positions of an output of so many rows and columns."""
        assert positions == self.positions
        return self.values


@dataclass(frozen=True, eq=False)
class SeededKernels:
    """Kernels drawn when first used: those of row i from ``default_rng([seed, i])``, from left to right.

    So they depend on the seed and the position alone. Normal with mean 0 and variance 2 / (y · x · c).

    References
    ----------
    He et al. 2015, Delving deep into rectifiers, eq. 10.
    """

    shape: LocalShape
    seed: int

    @property
    def positions(self) -> tuple[int, int] | None:
        """None: there are kernels for any position."""
        return None

    def over(self, positions: tuple[int, int]) -> Float32:
        """Return the kernels of all positions of an output, drawn once, (oy, ox, y, x, c, k) float32."""
        with _drawing:
            return _DRAWN.get(self, positions, lambda: self._draw(positions))

    def _draw(self, positions: tuple[int, int]) -> Float32:
        one, (rows, cols) = self.shape, positions
        values = np.empty((rows, cols, *one.size, one.channels, one.kernels), np.float32)
        scale = math.sqrt(2 / (one.size[0] * one.size[1] * one.channels))
        for i in range(rows):
            drawn = np.random.default_rng([self.seed, i]).standard_normal((cols, one.kernels, *one.size, one.channels))
            values[i] = (drawn * scale).transpose(0, 2, 3, 4, 1)
        return values


_DRAWN: Cache[Float32] = Cache(1)
LocalKernels = GivenKernels | SeededKernels


def read_local(path: str, where: str, location: Location) -> GivenKernels:
    """Read the kernels of a locally connected layer, (oy, ox, k, y, x, c), from a file as `read_array` does."""
    values = read_array(path, WEIGHTS, where, location).astype(np.float32, copy=False)
    _, _, count, height, width, channels = values.shape
    shape = LocalShape(count, (height, width), channels)
    return GivenKernels(shape, np.ascontiguousarray(values.transpose(0, 1, 3, 4, 5, 2)))


def read_bias(path: str, where: str, location: Location, *, local: bool = False) -> Float32:
    """Read biases from a file: (k,) float32, or (oy, ox, k) where ``local`` allows it."""
    values = read_array(path, LOCAL_BIASES if local else BIASES, where, location)
    largest = float(np.abs(values).max())
    if largest > float(np.finfo(np.float32).max):
        raise SpecError(Problem(where, f"{path}: has {largest:g}, beyond float32.", "Scale it down.", location))
    return values.astype(np.float32)
