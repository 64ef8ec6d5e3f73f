"""Register tiles of fused multiply-adds, as LLVM code for Numba.

Each sum stays in a register lane while one loop runs over the kernel's taps. ``llvm.fma`` rounds once on every machine,
so a sum of products has the same bits whatever the vector width, the block or the place of a value in its row.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _lanes() -> int:
    """Return the float32 lanes of the vectors that Numba compiles for: NUMBA_CPU_FEATURES or else this machine."""
    told = config.CPU_FEATURES
    if told is None:
        features = {name for name, there in binding.get_host_cpu_features().items() if there}
    else:
        features = {name[1:] for name in told.split(",") if name.startswith("+")}
    return 16 if "avx512f" in features else 8 if "avx2" in features else 4


LANES = _lanes()
WIDE = 4 if LANES != 8 else 2
"""Vectors of kernels in the widest tile: its sums fill the registers (32 of AVX-512 and NEON, 16 of AVX2)."""


VECTOR = ir.VectorType(F32, LANES)


def _load(builder: Any, pointer: Any, index: int) -> Any:
    """Load the vector that begins ``index`` floats after ``pointer``."""
    place = builder.gep(pointer, [ir.Constant(I64, index)])
    load = builder.load(builder.bitcast(place, VECTOR.as_pointer()))
    load.align = 4
    return load


def _spread(builder: Any, value: Any) -> Any:
    """Return a vector with ``value`` in every lane."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


class _TapLoop:
    """A loop over the taps that holds ``rows`` × ``vectors`` sums in registers.

    Made at its top: ``tap``, ``offset`` and the sums so far, ``held``, are at hand. ``close`` ends it with the sums
    after the tap and stores them, row after row, when all taps are done.
    """

    def __init__(self, builder: Any, offsets: Any, rows: int, vectors: int) -> None:
        self.builder = builder
        self.taps = builder.extract_value(offsets.shape, 0)
        self.fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )
        self.before = builder.block
        self.loop, self.done = builder.append_basic_block("taps"), builder.append_basic_block("done")
        builder.branch(self.loop)
        builder.position_at_end(self.loop)
        self.tap = builder.phi(I64)
        self.held = [[builder.phi(VECTOR) for _ in range(vectors)] for _ in range(rows)]
        self.offset = builder.load(builder.gep(offsets.data, [self.tap]))

    def close(self, after: list[list[Any]], sums: Any) -> None:
        builder = self.builder
        following = builder.add(self.tap, ir.Constant(I64, 1))
        self.tap.add_incoming(ir.Constant(I64, 0), self.before)
        self.tap.add_incoming(following, self.loop)
        for held, new in zip(self.held, after, strict=True):
            for phi, value in zip(held, new, strict=True):
                phi.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), self.before)
                phi.add_incoming(value, self.loop)
        builder.cbranch(builder.icmp_signed("<", following, self.taps), self.loop, self.done)
        builder.position_at_end(self.done)
        for i, value in enumerate(value for row in after for value in row):
            place = builder.gep(sums, [ir.Constant(I64, i * LANES)])
            builder.store(value, builder.bitcast(place, VECTOR.as_pointer())).align = 4


def _tile(pixels: int, vectors: int) -> Any:
    """Make an intrinsic that sums all taps for ``pixels`` pixels × ``vectors`` · LANES kernels in registers.

    Each tap costs ``vectors`` weight loads, ``pixels`` spread loads and their product of multiply-adds. ``weights`` is
    (taps, ``width``), read from column ``column``; ``sums`` gets pixel after pixel.
    """

    def typed(
        _typing_context: Any, x: Any, at: Any, step: Any, weights: Any, column: Any, width: Any, offsets: Any, sums: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            arrays = {i: context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 3, 6, 7)}
            strides = [builder.mul(values[2], ir.Constant(I64, p)) for p in range(pixels)]
            starts = [builder.gep(arrays[0].data, [builder.add(values[1], stride)]) for stride in strides]
            loop = _TapLoop(builder, arrays[6], pixels, vectors)
            row = builder.gep(arrays[3].data, [builder.add(values[4], builder.mul(loop.tap, values[5]))])
            loaded = [_load(builder, row, v * LANES) for v in range(vectors)]
            after = []
            for start, held in zip(starts, loop.held, strict=True):
                spread = _spread(builder, builder.load(builder.gep(start, [loop.offset])))
                after.append([builder.call(loop.fused, [spread, w, h]) for w, h in zip(loaded, held, strict=True)])
            loop.close(after, arrays[7].data)
            return context.get_dummy_value()

        return types.void(x, at, step, weights, column, width, offsets, sums), generate

    return intrinsic(typed)


PIXELS = 6
"""Pixels in a register tile."""
tile_wide = _tile(PIXELS, WIDE)
tile_narrow = _tile(PIXELS, 1)
pixel_wide = _tile(1, WIDE)
pixel_narrow = _tile(1, 1)


def _row_tile(kernels: int, vectors: int) -> Any:
    """Make an intrinsic that sums all taps for ``kernels`` kernels × ``vectors`` · LANES pixels of a row in registers.

    The counterpart of `_tile` for few kernels: pixels fill the vectors, and the weights are spread. ``weights`` is
    (taps, ``width``), read from column ``column``; ``sums`` gets kernel after kernel.
    """

    def typed(
        _typing_context: Any, x: Any, at: Any, weights: Any, column: Any, width: Any, offsets: Any, sums: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            arrays = {i: context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2, 5, 6)}
            loop = _TapLoop(builder, arrays[5], kernels, vectors)
            pixels = builder.gep(arrays[0].data, [builder.add(values[1], loop.offset)])
            loaded = [_load(builder, pixels, v * LANES) for v in range(vectors)]
            row = builder.gep(arrays[2].data, [builder.add(values[3], builder.mul(loop.tap, values[4]))])
            after = []
            for k, held in enumerate(loop.held):
                spread = _spread(builder, builder.load(builder.gep(row, [ir.Constant(I64, k)])))
                after.append([builder.call(loop.fused, [spread, p, h]) for p, h in zip(loaded, held, strict=True)])
            loop.close(after, arrays[6].data)
            return context.get_dummy_value()

        return types.void(x, at, weights, column, width, offsets, sums), generate

    return intrinsic(typed)


ROW_KERNELS = 4
ROW_VECTORS = 4 if LANES != 8 else 2
ROW_PIXELS = ROW_VECTORS * LANES
"""Neighbouring pixels in a row tile."""
row_tile_4 = _row_tile(4, ROW_VECTORS)
row_tile_2 = _row_tile(2, ROW_VECTORS)
row_tile_1 = _row_tile(1, ROW_VECTORS)
