"""What the machine can do at most: multiply-adds and copied bytes per second, measured."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FEATURES = binding.get_host_cpu_features()
LANES = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx2") else 4
CHAINS = 12 if LANES == 8 else 24
"""Independent sums: more than latency × units, and they fit the registers."""


@intrinsic  # type: ignore[untyped-decorator]
def _multiply_add(_typing_context: Any, count: Any, factor: Any, term: Any) -> Any:
    """Do ``count`` rounds of CHAINS vector multiply-adds, s = s · factor + term, all in registers; return one lane."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        wide, integer, short = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64), ir.IntType(32)
        name = f"llvm.fma.v{LANES}f32"
        fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(wide, [wide] * 3), name)
        undefined, mask = ir.Constant(wide, ir.Undefined), ir.Constant(ir.VectorType(short, LANES), [0] * LANES)
        spread = [
            builder.shuffle_vector(builder.insert_element(undefined, value, ir.Constant(short, 0)), undefined, mask)
            for value in values[1:]
        ]
        before, loop = builder.block, builder.append_basic_block("rounds")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(integer)
        sums = [builder.phi(wide) for _ in range(CHAINS)]
        after = [builder.call(fused, [held, *spread]) for held in sums]
        following = builder.add(index, ir.Constant(integer, 1))
        index.add_incoming(ir.Constant(integer, 0), before)
        index.add_incoming(following, loop)
        for chain, (held, new) in enumerate(zip(sums, after, strict=True)):
            held.add_incoming(ir.Constant(wide, [float(chain)] * LANES), before)
            held.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[0]), loop, done)
        builder.position_at_end(done)
        total = after[0]
        for new in after[1:]:
            total = builder.fadd(total, new)
        return builder.extract_element(total, ir.Constant(short, 0))

    return types.float32(count, factor, term), generate


@njit("float32(int64, float32, float32)", nogil=True)  # type: ignore[untyped-decorator]
def _work(count: int, factor: float, term: float) -> float:
    result: float = _multiply_add(count, factor, term)
    return result


def measure(quick: bool = False) -> dict[str, Any]:
    """Return the machine's description and limits.

    Returns
    -------
    dict
        ``gflops`` and ``copy_gbs`` (bytes read plus bytes written), each for 1 and 2 threads.
    """
    rounds = 1_000_000 if quick else 10_000_000
    floats = 4_000_000 if quick else 64_000_000
    arrays = [(np.ones(floats, np.float32), np.empty(floats, np.float32)) for _ in range(2)]

    def compute(_thread: int) -> None:
        _work(rounds, 0.999, 0.001)

    def copy(thread: int) -> None:
        np.copyto(arrays[thread][1], arrays[thread][0])

    flop, moved = 2.0 * CHAINS * LANES * rounds, 8.0 * floats
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "lanes": LANES,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "gflops": {str(n): n * flop / _best(compute, n) / 1e9 for n in (1, 2)},
        "copy_gbs": {str(n): n * moved / _best(copy, n) / 1e9 for n in (1, 2)},
    }


def _best(job: Callable[[int], None], threads: int) -> float:
    """Return the shortest of several runs on so many threads at once, in seconds."""
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            start = time.perf_counter()
            list(pool.map(job, range(threads)))
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
