"""How kernels are compiled: for one signature each, without Python's lock, cached on disk.

One signature means one entry in Numba's cache. With several, processes that compile at the same time could name each
other's code in its index, and a later process would run the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types

Function = TypeVar("Function", bound=Callable[..., Any])

I64, F32, F64 = types.int64, types.float32, types.float64
PAIR, TRIPLE = types.UniTuple(I64, 2), types.UniTuple(I64, 3)


def given(dtype: Any, ndim: int) -> Any:
    """Return the type of a C-contiguous array that a kernel reads and may not change."""
    return types.Array(dtype, ndim, "C", readonly=True)


def result(dtype: Any, ndim: int) -> Any:
    """Return the type of a C-contiguous array that a kernel writes."""
    return types.Array(dtype, ndim, "C")


def kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile a function of these argument types that returns nothing; see the module."""
    compile_function: Callable[[Function], Function] = njit(
        types.void(*arguments), nogil=True, cache=True, error_model="numpy"
    )
    return compile_function


def part(function: Function) -> Function:
    """Compile a function into the kernels that call it."""
    compiled: Function = njit(nogil=True, error_model="numpy")(function)
    return compiled
