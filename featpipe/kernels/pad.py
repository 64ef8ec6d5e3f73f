"""Cutting the samples that a layer wants out of a block, padding where they leave the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import PaddingMode, Span, sources

Float32 = npt.NDArray[np.float32]


def cut_block(
    block: Float32,
    have: tuple[Span, Span],
    wanted: tuple[Span, Span],
    lengths: tuple[int, int],
    modes: tuple[PaddingMode, PaddingMode],
    fill: float = 0.0,
) -> Float32:
    """Return the virtual samples ``wanted`` of a map, of which ``block`` holds the real samples ``have``.

    Parameters
    ----------
    block : (n, y, x, c) float32
    have : (Span, Span)
        Which samples of the map the block holds along y and x.
    wanted : (Span, Span)
        Samples asked for; those outside ``[0, length)`` are padding.
    lengths : (int, int)
        Samples of the whole map along y and x.
    modes : (str, str)
        Padding mode of each axis.
    fill : float
        What mode ``zero`` puts there: 0, or the value that never wins a max or min.

    Returns
    -------
    (n, wanted y, wanted x, c) float32
        A view where no padding is needed.
    """
    out = block
    for axis in (0, 1):
        out = _cut_axis(out, axis + 1, have[axis], wanted[axis], lengths[axis], modes[axis], fill)
    return out


def _cut_axis(
    block: Float32, axis: int, have: Span, wanted: Span, length: int, mode: PaddingMode, fill: float
) -> Float32:
    index: list[slice | npt.NDArray[np.int64]] = [slice(None)] * 4
    if wanted.start >= have.start and wanted.stop <= have.stop:
        index[axis] = wanted.within(have)
        return block[tuple(index)]
    shape = list(block.shape)
    shape[axis] = wanted.length
    out = np.empty(shape, np.float32)
    inside = Span(min(max(wanted.start, 0), length), max(min(wanted.stop, length), 0))
    before, after = Span(wanted.start, min(wanted.stop, 0)), Span(max(wanted.start, length), wanted.stop)
    for part in (before, inside, after):
        if part.length <= 0:
            continue
        index[axis] = part.within(wanted)
        target = out[tuple(index)]
        if part == inside:
            index[axis] = part.within(have)
            target[...] = block[tuple(index)]
        elif mode == "zero":
            target[...] = fill
        else:
            index[axis] = sources(part, length, mode) - have.start
            target[...] = block[tuple(index)]
    return out
