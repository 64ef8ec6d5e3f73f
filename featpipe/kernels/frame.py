"""What the loop over rows is told and given, as named tuples that compiled code takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.kernels.compiled import F32, F64, I64, given, named_tuple, result

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
COPY, BY_KERNEL, BY_ROW, SEPARABLY = range(4)


class Frame(NamedTuple):
    """Where the rows come from and how they lie."""

    front: int
    """How they are made: COPY, BY_KERNEL, BY_ROW or SEPARABLY."""
    features: int
    widest: int
    """The most features at any stage."""
    height: int
    width: int
    """Rows and columns to make."""
    origin: int
    """In the flat block, of the first output's first sample."""
    image: int
    """From one image to the next."""
    row: int
    """From one output row to the next."""
    pixel: int
    line: int
    """Positions from one row in work to the next; more than ``width`` where rows are made in one run."""
    together: int
    """Rows in work at once."""
    phases: int
    phase: int
    pitch: int
    """Positions that the rows in work have room for."""
    scratch: int
    """The same of each row between the passes of separable kernels."""
    ranks: int
    products: int
    """Rows between those passes: columns, and products of columns and rows."""
    top: int
    """Row of the output for the first row made, where nothing is pooled."""


class Sums(NamedTuple):
    """The kernels of a pass; empty for COPY."""

    weights: Float32
    tiles: Int64
    offsets: Int64
    bias: Float32
    steps: Int64
    across: Float32
    across_tiles: Int64
    across_offsets: Int64
    """The pass along x of separable kernels, whose other arrays are of that along y."""
    none: Float32
    """Zeros, for the sums of the pass along y."""
    scales: Float32
    """(n · y · x + PIXELS,): what responses are multiplied by; empty where by nothing."""
    shift: Float32
    """Added after that, by feature."""


class Work(NamedTuple):
    """Memory for the rows in work."""

    first: Float32
    second: Float32
    """(widest · pitch,): rows before and after a stage."""
    scratch: Float32
    products: Float32
    """Rows between the passes of separable kernels."""
    starts: Int64
    """Where each pixel in work begins."""
    slots: Float32
    """(windows that share a row, halves, features · width): their rows, gathered."""
    column: Float32
    cell: Float64
    """Values of all windows along x, and of all features."""


FRAME = named_tuple(Frame, [I64] * len(Frame._fields))
SUMS = named_tuple(
    Sums,
    [
        given(F32, 1),
        given(I64, 1),
        given(I64, 1),
        given(F32, 1),
        given(I64, 2),
        given(F32, 1),
        given(I64, 1),
        given(I64, 1),
        given(F32, 1),
        given(F32, 1),
        given(F32, 1),
    ],
)
WORK = named_tuple(
    Work,
    [
        result(F32, 1),
        result(F32, 1),
        result(F32, 1),
        result(F32, 1),
        result(I64, 1),
        result(F32, 3),
        result(F32, 1),
        result(F64, 1),
    ],
)
