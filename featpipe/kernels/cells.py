"""The statistics of a grid's cells, gathered from blocks that hold whole tiles; see `featpipe.kernels.pool`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featpipe.geometry.axis import Span
from featpipe.geometry.grid import cells
from featpipe.kernels.pool import Pooling, Statistic, pool_cells

Float32 = npt.NDArray[np.float32]


class CellPool:
    """Running statistics of every cell of a map.

    Parameters
    ----------
    by : {"max", "mean", "min", "sum", "l2", "std"}
    grid : (int, int)
        Rows and columns of cells.
    images, height, width, features : int
        Shape of the whole map; at least as many samples as cells along each axis.
    """

    def __init__(
        self, by: Statistic, grid: tuple[int, int], *, images: int, height: int, width: int, features: int
    ) -> None:
        self.by, self.grid, self.shape = by, grid, (height, width)
        self.totals = np.full((images, *grid, features), {"max": -np.inf, "min": np.inf}.get(by, 0.0))
        """(n, rows, columns, k): sums, or what is largest or smallest so far."""
        self.squares = np.zeros_like(self.totals) if by == "std" else None

    def pooling(self, y: Span, x: Span) -> Pooling:
        """Return how the samples ``y``, ``x`` are pooled; they follow the last in raster order.

        Raises
        ------
        ValueError
            If they do not begin at a tile's corner.
        """
        return pool_cells(self.by, self.grid, *self.shape, y, x)

    def result(self) -> Float32:
        """Return the (n, rows, columns, k) float32 statistics."""
        rows, cols = (
            np.array([cell.length for cell in cells(n, k)]) for n, k in zip(self.shape, self.grid, strict=True)
        )
        count = (rows[:, None] * cols)[..., None]
        values = self.totals
        if self.squares is not None:
            mean = values / count
            values = np.sqrt(np.maximum(self.squares / count - mean * mean, 0.0))
        elif self.by == "mean":
            values = values / count
        elif self.by == "l2":
            values = np.sqrt(values)
        return values.astype(np.float32)
