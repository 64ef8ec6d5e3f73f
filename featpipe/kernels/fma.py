"""Fused multiply-adds for Numba: a scalar one, and a register tile of them.

``llvm.fma`` rounds once on every machine, in vector lanes and in scalar tails alike, so a sum of products has the same
bits whatever the vector width, the block or the place of a value in its row.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _lanes() -> int:
    """Float32 lanes of this machine's vectors."""
    features = binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 4


LANES = _lanes()
WIDE = 4 if LANES != 8 else 2
"""Vectors of kernels in the widest tile: its sums fill the registers (32 of AVX-512 and NEON, 16 of AVX2)."""


@intrinsic  # type: ignore[untyped-decorator]
def fma(_typing_context: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001 - Numba counts them
    """Return a·b + c in float32, rounded once."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(F32, [F32] * 3), "llvm.fma.f32")
        return builder.call(function, values)

    return types.float32(types.float32, types.float32, types.float32), generate


def _tile(pixels: int, vectors: int) -> Any:
    """Make an intrinsic that sums all taps for ``pixels`` pixels × ``vectors`` · LANES kernels in registers.

    One loop runs over the taps; each costs ``vectors`` weight loads, ``pixels`` broadcast loads and their product of
    multiply-adds. ``weights`` is (taps, ``width``), read from column ``column``; ``sums`` gets pixel after pixel.
    """
    vector = ir.VectorType(F32, LANES)

    def typed(
        _typing_context: Any, x: Any, at: Any, step: Any, weights: Any, column: Any, width: Any, offsets: Any, sums: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            def array(i: int) -> Any:
                return context.make_array(signature.args[i])(context, builder, values[i])

            def constant(n: int) -> Any:
                return ir.Constant(I64, n)

            pixel_data, weight_data, offset_data, sum_data = (array(i).data for i in (0, 3, 6, 7))
            taps = builder.extract_value(array(6).shape, 0)
            fused = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
            )
            undefined = ir.Constant(vector, ir.Undefined)
            lanes = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
            starts = [
                builder.gep(pixel_data, [builder.add(values[1], builder.mul(values[2], constant(p)))])
                for p in range(pixels)
            ]
            first = builder.gep(weight_data, [values[4]])
            before = builder.block
            loop, done = builder.append_basic_block("taps"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            tap = builder.phi(I64)
            tap.add_incoming(constant(0), before)
            held = [[builder.phi(vector) for _ in range(vectors)] for _ in range(pixels)]
            offset = builder.load(builder.gep(offset_data, [tap]))
            row = builder.gep(first, [builder.mul(tap, values[5])])
            loaded = []
            for v in range(vectors):
                pointer = builder.bitcast(builder.gep(row, [constant(v * LANES)]), vector.as_pointer())
                load = builder.load(pointer)
                load.align = 4
                loaded.append(load)
            following: list[list[Any]] = []
            for p in range(pixels):
                value = builder.load(builder.gep(starts[p], [offset]))
                spread = builder.insert_element(undefined, value, ir.Constant(I32, 0))
                spread = builder.shuffle_vector(spread, undefined, lanes)
                following.append([builder.call(fused, [spread, loaded[v], held[p][v]]) for v in range(vectors)])
            after = builder.add(tap, constant(1))
            tap.add_incoming(after, loop)
            for p in range(pixels):
                for v in range(vectors):
                    held[p][v].add_incoming(ir.Constant(vector, [0.0] * LANES), before)
                    held[p][v].add_incoming(following[p][v], loop)
            builder.cbranch(builder.icmp_signed("<", after, taps), loop, done)
            builder.position_at_end(done)
            for p in range(pixels):
                for v in range(vectors):
                    place = builder.gep(sum_data, [constant((p * vectors + v) * LANES)])
                    store = builder.store(following[p][v], builder.bitcast(place, vector.as_pointer()))
                    store.align = 4
            return context.get_dummy_value()

        return types.void(x, at, step, weights, column, width, offsets, sums), generate

    return intrinsic(typed)


PIXELS = 6
"""Pixels in a register tile."""
tile_wide = _tile(PIXELS, WIDE)
tile_narrow = _tile(PIXELS, 1)
pixel_wide = _tile(1, WIDE)
pixel_narrow = _tile(1, 1)
