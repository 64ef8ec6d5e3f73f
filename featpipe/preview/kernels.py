"""The kernels of a layer as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.plan.program import ConvolveOp, LocallyConnectedOp
from featpipe.report.units import shape_text

Float32 = npt.NDArray[np.float32]
MOST_INPUTS = 16
"""Input features of a kernel that are shown."""


@dataclass(frozen=True, eq=False)
class KernelPictures:
    """Kernels, in the numbers that are applied."""

    pictures: tuple[Float32, ...]
    """(y, x), (y, x, 3) where they are for colours; several inputs side by side, NaN between them."""
    sizes: str
    """Of all kernels, in words."""
    notes: tuple[str, ...] = ()

    @property
    def aspect(self) -> float:
        """Width by height of a picture."""
        height, width = self.pictures[0].shape[:2]
        return float(width / height)


def kernel_panels(
    op: ConvolveOp | LocallyConnectedOp,
    chosen: Sequence[int],
    shape: tuple[int, int],
    *,
    negative_half: bool,
    colours: bool,
) -> KernelPictures:
    """Return some kernels of a layer.

    Parameters
    ----------
    op : ConvolveOp or LocallyConnectedOp
    chosen : sequence of int
        Of its kernels.
    shape : (int, int)
        Rows and columns of the layer's map.
    negative_half : bool
        Whether they stand in the op as -2 w, as those of distances do.
    colours : bool
        Whether three inputs are red, green and blue.
    """
    notes = []
    if isinstance(op, LocallyConnectedOp):
        middle = (shape[0] // 2, shape[1] // 2)
        here = op.kernels.over(shape)[middle]
        kernels = [np.ascontiguousarray(here[..., k]) for k in chosen]
        notes.append(f"those of the middle, row {middle[0]}, column {middle[1]}")
        sizes = [op.kernels.shape.size]
    else:
        kernels = [_kernel(op, k) for k in chosen]
        sizes = sorted({(group.weights.shape[1], group.weights.shape[2]) for group in op.groups})
    if negative_half:
        kernels = [one / np.float32(-2) for one in kernels]
    depth = kernels[0].shape[2]
    several = f" to {shape_text(sizes[-1])}" if len(sizes) > 1 else ""
    text = f"{shape_text(sizes[0])}{several}" + (f"×{depth}" if depth > 1 else "")
    if depth == 1:
        return KernelPictures(tuple(one[..., 0] for one in kernels), text, tuple(notes))
    if depth == 3 and colours:
        return KernelPictures(tuple(kernels), text, tuple(notes))
    if depth > MOST_INPUTS:
        energy = sum(np.square(one.astype(np.float64)).sum(axis=(0, 1)) for one in kernels)
        inputs = np.sort(np.argsort(-energy, kind="stable")[:MOST_INPUTS])
        kernels = [one[..., inputs] for one in kernels]
        notes.append(f"{MOST_INPUTS} of {depth} inputs shown, of the largest weights")
    else:
        notes.append(f"{depth} inputs side by side")
    return KernelPictures(tuple(_side_by_side(one) for one in kernels), text, tuple(notes))


def _kernel(op: ConvolveOp, kernel: int) -> Float32:
    group = next(group for group in op.groups if kernel in group.columns)
    weights: Float32 = group.weights[int(np.flatnonzero(group.columns == kernel)[0])]
    return weights


def _side_by_side(weights: Float32) -> Float32:
    """Return the inputs of a kernel in a square, with a sample of nothing between them."""
    y, x, depth = weights.shape
    columns = int(np.ceil(np.sqrt(depth)))
    rows = -(-depth // columns)
    out = np.full((rows * (y + 1) - 1, columns * (x + 1) - 1), np.nan, np.float32)
    for i in range(depth):
        row, column = divmod(i, columns)
        out[row * (y + 1) :, column * (x + 1) :][:y, :x] = weights[..., i]
    return out
