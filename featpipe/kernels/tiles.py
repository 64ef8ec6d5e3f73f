"""Register tiles of fused multiply-adds, as LLVM code for Numba.

Each sum begins with its bias and stays in a register lane while one loop runs over the kernel's taps. ``llvm.fma``
rounds once on every machine, so a sum of products has the same bits whatever the vector width, the block or the place
of a value in its row.

A tile of kernels holds pixels × vectors of kernels, a tile of pixels kernels × vectors of neighbouring pixels::

              vectors of kernels                       vectors of neighbouring pixels
            ┌─────┬─────┬─────┬─────┐                 ┌─────┬─────┬─────┬─────┐
    pixel 0 │     │     │     │     │        kernel 0 │     │     │     │     │
    pixel 1 │     │     │     │     │        kernel 1 │     │     │     │     │
      …     └─────┴─────┴─────┴─────┘          …      └─────┴─────┴─────┴─────┘
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

    Made at its top with the sums' first values: ``tap``, ``offset`` and the sums so far, ``held``, are at hand.
    ``close`` ends it with the sums after the tap.
    """

    def __init__(self, builder: Any, offsets: Any, first: list[list[Any]]) -> None:
        self.builder, self.first = builder, first
        self.taps = builder.extract_value(offsets.shape, 0)
        self.fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )
        self.before = builder.block
        self.loop, self.done = builder.append_basic_block("taps"), builder.append_basic_block("done")
        builder.branch(self.loop)
        builder.position_at_end(self.loop)
        self.tap = builder.phi(I64)
        self.held = [[builder.phi(VECTOR) for _ in row] for row in first]
        self.offset = builder.load(builder.gep(offsets.data, [self.tap]))

    def close(self, after: list[list[Any]]) -> None:
        """End the loop, with the sums after the tap; go on where all taps are done."""
        builder = self.builder
        following = builder.add(self.tap, ir.Constant(I64, 1))
        self.tap.add_incoming(ir.Constant(I64, 0), self.before)
        self.tap.add_incoming(following, self.loop)
        for rows in zip(self.held, self.first, after, strict=True):
            for phi, first, new in zip(*rows, strict=True):
                phi.add_incoming(first, self.before)
                phi.add_incoming(new, self.loop)
        builder.cbranch(builder.icmp_signed("<", following, self.taps), self.loop, self.done)
        builder.position_at_end(self.done)


def _store(builder: Any, rows: list[list[Any]], out: Any, pitch: Any) -> None:
    """Store rows of vectors ``pitch`` apart."""
    for r, row in enumerate(rows):
        start = builder.gep(out, [builder.mul(pitch, ir.Constant(I64, r))])
        for v, value in enumerate(row):
            place = builder.gep(start, [ir.Constant(I64, v * LANES)])
            builder.store(value, builder.bitcast(place, VECTOR.as_pointer())).align = 4


def _scale(builder: Any, rows: list[list[Any]], scaled: Any, scales: Any, shifts: list[Any]) -> list[list[Any]]:
    """Return sums · scale + shift where ``scaled`` is not 0, with a scale for each row."""
    before, change, join = builder.block, builder.append_basic_block("scale"), builder.append_basic_block("scaled")
    builder.cbranch(builder.icmp_signed("!=", scaled, ir.Constant(I64, 0)), change, join)
    builder.position_at_end(change)
    changed = []
    for r, row in enumerate(rows):
        scale = _spread(builder, builder.load(builder.gep(scales, [ir.Constant(I64, r)])))
        changed.append([builder.fadd(builder.fmul(v, scale), s) for v, s in zip(row, shifts, strict=True)])
    builder.branch(join)
    builder.position_at_end(join)
    joined = []
    for old, new in zip(rows, changed, strict=True):
        phis = [builder.phi(VECTOR) for _ in old]
        for phi, a, b in zip(phis, old, new, strict=True):
            phi.add_incoming(a, before)
            phi.add_incoming(b, change)
        joined.append(phis)
    return joined


def _kernel_tile(vectors: int) -> Any:
    """Make an intrinsic that sums all taps for PIXELS pixels × ``vectors`` · LANES kernels.

    Pixel p begins at ``x[base + starts[pixel + p]]``; tap t lies ``offsets[t]`` after that. Weights are (taps, kernels)
    from ``weights[first]`` on, biases lie from ``bias[kernel]`` on; pixel after pixel goes to ``out[at + p * pitch]``.
    Where ``scaled``, sums begin with 0 and are multiplied by ``scales[scale + pixel + p]`` before the bias is added.
    """

    def typed(
        _typing_context: Any,
        x: Any,
        base: Any,
        starts: Any,
        pixel: Any,
        weights: Any,
        first: Any,
        offsets: Any,
        bias: Any,
        kernel: Any,
        scaled: Any,
        scales: Any,
        scale: Any,
        out: Any,
        at: Any,
        pitch: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given = (0, 2, 4, 6, 7, 10, 12)
            arrays = {i: context.make_array(signature.args[i])(context, builder, values[i]) for i in given}
            origin = builder.gep(arrays[0].data, [values[1]])
            begins = builder.gep(arrays[2].data, [values[3]])
            pixels = [
                builder.gep(origin, [builder.load(builder.gep(begins, [ir.Constant(I64, p)]))]) for p in range(PIXELS)
            ]
            biases = builder.gep(arrays[7].data, [values[8]])
            shifts = [_load(builder, biases, v * LANES) for v in range(vectors)]
            none = ir.Constant(VECTOR, [0.0] * LANES)
            begun = builder.icmp_signed("==", values[9], ir.Constant(I64, 0))
            sums = [builder.select(begun, shift, none) for shift in shifts]
            loop = _TapLoop(builder, arrays[6], [sums] * PIXELS)
            step = builder.mul(loop.tap, ir.Constant(I64, vectors * LANES))
            row = builder.gep(arrays[4].data, [builder.add(values[5], step)])
            loaded = [_load(builder, row, v * LANES) for v in range(vectors)]
            after = []
            for start, held in zip(pixels, loop.held, strict=True):
                spread = _spread(builder, builder.load(builder.gep(start, [loop.offset])))
                after.append([builder.call(loop.fused, [spread, w, h]) for w, h in zip(loaded, held, strict=True)])
            loop.close(after)
            first_scale = builder.gep(arrays[10].data, [builder.add(values[11], values[3])])
            rows = _scale(builder, after, values[9], first_scale, shifts)
            _store(builder, rows, builder.gep(arrays[12].data, [values[13]]), values[14])
            return context.get_dummy_value()

        pixels = (x, base, starts, pixel)
        kernels = (weights, first, offsets, bias, kernel)
        return types.void(*pixels, *kernels, scaled, scales, scale, out, at, pitch), generate

    return intrinsic(typed)


PIXELS = 6
"""Pixels in a tile of kernels; with its widest vectors they fill the registers (32 of AVX-512 and NEON, 16 of AVX2)."""
KERNEL_TILES = (4, 3, 2, 1) if LANES != 8 else (2, 1)
"""Vectors of kernels in a tile, the widest first."""
kernel_tile_4 = _kernel_tile(4)
kernel_tile_3 = _kernel_tile(3)
kernel_tile_2 = _kernel_tile(2)
kernel_tile_1 = _kernel_tile(1)


def _row_tile(kernels: int) -> Any:
    """Make an intrinsic that sums all taps for ``kernels`` kernels × ROW_PIXELS neighbouring pixels.

    Pixel 0 begins at ``x[start]``; tap t lies ``offsets[t]`` after that. Weights are (taps, kernels) from
    ``weights[first]`` on, biases lie from ``bias[kernel]`` on; kernel after kernel goes to ``out[at + k * pitch]``.
    """

    def typed(
        _typing_context: Any,
        x: Any,
        start: Any,
        weights: Any,
        first: Any,
        offsets: Any,
        bias: Any,
        kernel: Any,
        out: Any,
        at: Any,
        pitch: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            arrays = {i: context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2, 4, 5, 7)}
            origin = builder.gep(arrays[0].data, [values[1]])
            biases = builder.gep(arrays[5].data, [values[6]])
            sums = [
                [_spread(builder, builder.load(builder.gep(biases, [ir.Constant(I64, k)])))] * ROW_VECTORS
                for k in range(kernels)
            ]
            loop = _TapLoop(builder, arrays[4], sums)
            pixels = builder.gep(origin, [loop.offset])
            loaded = [_load(builder, pixels, v * LANES) for v in range(ROW_VECTORS)]
            step = builder.mul(loop.tap, ir.Constant(I64, kernels))
            row = builder.gep(arrays[2].data, [builder.add(values[3], step)])
            after = []
            for k, held in enumerate(loop.held):
                spread = _spread(builder, builder.load(builder.gep(row, [ir.Constant(I64, k)])))
                after.append([builder.call(loop.fused, [spread, p, h]) for p, h in zip(loaded, held, strict=True)])
            loop.close(after)
            _store(builder, after, builder.gep(arrays[7].data, [values[8]]), values[9])
            return context.get_dummy_value()

        arguments = (x, start, weights, first, offsets, bias, kernel, out, at, pitch)
        return types.void(*arguments), generate

    return intrinsic(typed)


ROW_TILES = (6, 4, 2, 1)
"""Kernels in a tile of pixels, the most first."""
ROW_VECTORS = 4 if LANES != 8 else 2
ROW_PIXELS = ROW_VECTORS * LANES
"""Neighbouring pixels in a tile of pixels."""
row_tile_6 = _row_tile(6)
row_tile_4 = _row_tile(4)
row_tile_2 = _row_tile(2)
row_tile_1 = _row_tile(1)


TURNED = 8
"""Features and pixels that are turned around at once."""


@intrinsic  # type: ignore[untyped-decorator]
def turn(_typing_context: Any, rows: Any, start: Any, pitch: Any, out: Any, at: Any, stride: Any) -> Any:
    """Copy TURNED rows of TURNED pixels, ``pitch`` apart, to pixels of TURNED features, ``stride`` apart.

    Vectors are merged in three steps: after each, a vector holds twice as many features of half as many pixels::

        a0 a1 a2 a3     a0 b0 a1 b1     a0 b0 c0 d0
        b0 b1 b2 b3  →  a2 b2 a3 b3  →  a1 b1 c1 d1
        c0 c1 c2 c3     c0 d0 c1 d1     a2 b2 c2 d2
        d0 d1 d2 d3     c2 d2 c3 d3     a3 b3 c3 d3
    """
    vector = ir.VectorType(F32, TURNED)

    def shuffle(builder: Any, first: Any, second: Any, order: list[int]) -> Any:
        return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, TURNED), order))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, values[0]).data
        target = context.make_array(signature.args[3])(context, builder, values[3]).data

        def place(base: Any, origin: Any, step: Any, i: int) -> Any:
            index = builder.add(origin, builder.mul(step, ir.Constant(I64, i)))
            return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

        held = []
        for i in range(TURNED):
            held.append(builder.load(place(source, values[1], values[2], i)))
            held[-1].align = 4
        size = 1  # features that lie together so far
        while size < TURNED:
            merged = [None] * TURNED
            # held[f * size + q] has `size` features, from f * size on, of the pixels q * TURNED // size and on
            for f in range(0, TURNED // size, 2):
                for q in range(size):
                    a, b = held[f * size + q], held[(f + 1) * size + q]
                    for half in (0, 1):
                        order = []
                        for pixel in range(TURNED // size // 2):
                            begin = (half * (TURNED // size // 2) + pixel) * size
                            order += [*range(begin, begin + size), *range(TURNED + begin, TURNED + begin + size)]
                        merged[f * size + 2 * q + half] = shuffle(builder, a, b, order)
            held, size = merged, size * 2
        for i, value in enumerate(held):
            builder.store(value, place(target, values[4], values[5], i)).align = 4
        return context.get_dummy_value()

    return types.void(rows, start, pitch, out, at, stride), generate
