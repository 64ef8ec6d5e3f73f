"""How kernels are compiled: for one signature each, without Python's lock, cached on disk.

One signature means one entry in Numba's cache. With several, processes that compile at the same time could name each
other's code in its index, and a later process would run the wrong one. And Numba looks for changes in the kernel's own
file only, so kernels are cached under a name that tells the state of all files here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from numba import config, njit, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic, typeof_impl

from featpipe.errors import PlanError, Problem

if config.DISABLE_JIT:
    what = "is set, and featpipe's kernels run compiled only."
    raise PlanError(Problem("NUMBA_DISABLE_JIT", what, "Unset it, also on the workers of a cluster."))

Function = TypeVar("Function", bound=Callable[..., Any])

I64, F32, F64 = types.int64, types.float32, types.float64
PAIR = types.UniTuple(I64, 2)


def given(dtype: Any, ndim: int) -> Any:
    """Return the type of a C-contiguous array that a kernel reads and may not change."""
    return types.Array(dtype, ndim, "C", readonly=True)


def result(dtype: Any, ndim: int) -> Any:
    """Return the type of a C-contiguous array that a kernel writes."""
    return types.Array(dtype, ndim, "C")


def _digest() -> str:
    """Return a digest of this package's source files."""
    files = sorted((file for file in resources.files(__package__).iterdir() if file.name.endswith(".py")), key=_name)
    return blake2b(b"\0".join(file.read_bytes() for file in files), digest_size=6).hexdigest()


def _name(file: Traversable) -> str:
    return file.name


DIGEST = _digest()
unkept: list[str] = []
"""Kernels for which there is no directory to keep them in: both this package's and the user's cannot be written."""


def ready_file() -> Path | None:
    """Return the file that tells that all kernels have been compiled, for this machine and state of the sources.

    It lies where Numba keeps them; None where it can keep none.
    """
    try:
        folder = FunctionCache(_digest)._cache_path
    except RuntimeError:
        return None
    cpu = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    sources = [(file.name, file.stat().st_mtime_ns) for file in sorted(Path(__file__).parent.glob("*.py"))]
    state = repr((DIGEST, numba.__version__, sys.version, sys.flags.optimize, cpu, sources))
    return Path(folder) / f"ready-{blake2b(state.encode(), digest_size=12).hexdigest()}"


def kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile a function of these argument types that returns nothing; see the module."""
    signature = types.void(*arguments)

    def compile_named(function: Function) -> Function:
        function.__qualname__ += f"_{DIGEST}"
        compiled: Function
        try:
            compiled = njit(signature, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            unkept.append(function.__qualname__)
            compiled = njit(signature, nogil=True, error_model="numpy")(function)
        return compiled

    return compile_named


def named_tuple(values: type, parts: Sequence[Any]) -> Any:
    """Return the type of a named tuple of parts of these types; Numba would search for it, and long the first time."""
    alike = len(set(parts)) == 1
    found = types.NamedUniTuple(parts[0], len(parts), values) if alike else types.NamedTuple(tuple(parts), values)

    @typeof_impl.register(values)  # type: ignore[untyped-decorator]
    def _(_value: Any, _context: Any) -> Any:
        return found

    return found


def part(function: Function) -> Function:
    """Compile a function into the kernels that call it."""
    compiled: Function = njit(nogil=True, error_model="numpy")(function)
    return compiled


@intrinsic  # type: ignore[untyped-decorator]
def borrow(_typing_context: Any, value: Any) -> Any:
    """Return an array, or a tuple with arrays, without its part in the arrays' ownership.

    Numba counts references to an array at every slice, with locked instructions; not to one that owns nothing. The
    caller of the kernel must hold the array.
    """

    def give(context: Any, builder: Any, kind: Any, held: Any) -> Any:
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, held)
            array.meminfo = array.meminfo.type(None)
            array.parent = array.parent.type(None)
            return array._getvalue()
        if isinstance(kind, types.BaseTuple):
            parts = [give(context, builder, part, builder.extract_value(held, i)) for i, part in enumerate(kind.types)]
            return context.make_tuple(builder, kind, parts)
        return held

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return give(context, builder, signature.args[0], values[0])

    return value(value), generate
