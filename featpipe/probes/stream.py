"""The matrix of a stack, a block of images at a time, and work on its blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.geometry.grid import cut
from featpipe.probes.standard import Moments, Standard
from featpipe.report.units import count_text
from featpipe.stack import Stack
from featpipe.store.read import Indices, read_matrix

Item = TypeVar("Item")
Done = TypeVar("Done")
Floats = npt.NDArray[np.float64]

BLOCK_BYTES = 16 << 20
"""Features of one block, as float32. Sums go block by block, so this number is part of the last bits of results."""
BLOCK_ROWS = 2048


class Progress(Protocol):
    """Is told how far a stage is."""

    def __call__(self, stage: str, done: int, total: int | None, unit: str) -> None: ...


class Table:
    """The stacked maps of a store as one matrix, images × features, that is read by rows.

    Parameters
    ----------
    stack : Stack
    threads : int
        That work on blocks at once; no result depends on them.
    progress : Progress, optional
    """

    def __init__(self, stack: Stack, threads: int, progress: Progress | None = None) -> None:
        self.maps = stack.stacked()
        self.path = stack.path
        self.paths = stack.paths
        self.width = sum(one.columns_per_image for one in self.maps)
        self.threads = threads
        self.progress = progress
        self.block_rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, 4 * self.width)))

    @property
    def block_bytes(self) -> int:
        """Most that one block takes while it is standardised: as stored, as float64, and a copy."""
        return self.block_rows * self.width * (4 + 8 + 8)

    def blocks(self, rows: Indices) -> list[Indices]:
        """Cut rows into those of every block."""
        return [rows[span.start : span.stop] for span in cut(len(rows), self.block_rows)]

    def read(self, rows: Indices) -> npt.NDArray[np.float32]:
        """Return the features of some images, (n, d)."""
        return read_matrix(self.maps, rows)

    def standardised(self, rows: Indices, standard: Standard) -> Iterator[tuple[Indices, Floats]]:
        """Yield every block's rows and its standardised features, (n, d); the next block is read meanwhile."""
        yield from in_order(lambda block: (block, standard.apply(self.read(block))), self.blocks(rows), 1)

    def map(self, work: Callable[[Indices], Done], rows: Indices, stage: str) -> Iterator[tuple[Indices, Done]]:
        """Yield every block's rows and what ``work`` makes of them, in order, and tell how far it is."""
        self.tell(stage, 0, len(rows))
        done = 0
        for block, result in in_order(lambda block: (block, work(block)), self.blocks(rows), self.threads):
            yield block, result
            done += len(block)
            self.tell(stage, done, len(rows))

    def tell(self, stage: str, done: int, total: int | None = None, unit: str = "image") -> None:
        """Tell how far a stage is, if anyone listens."""
        if self.progress is not None:
            self.progress(stage, done, total, unit)

    def measure(self, rows: Indices, apart: npt.NDArray[np.bool_]) -> tuple[Moments, Moments]:
        """Return the moments of the features of some images, in one pass, and of those set apart by themselves.

        Parameters
        ----------
        rows : (n,) int
        apart : (images,) bool
            By image, of all in the store.

        Returns
        -------
        Moments, Moments
            Of the images not set apart, and of those set apart.

        Raises
        ------
        StoreError
            If a feature is not a finite number.
        """

        def work(block: Indices) -> tuple[Moments, Moments]:
            values = self.read(block)
            both = Moments.of(values[~apart[block]]), Moments.of(values[apart[block]])
            if not all(np.isfinite(one.mean).all() and np.isfinite(one.squares).all() for one in both):
                self.check_finite(values, block)
            return both

        kept, others = Moments.empty(self.width), Moments.empty(self.width)
        for _, (one, other) in self.map(work, rows, "means and deviations"):
            kept, others = kept.join(one), others.join(other)
        return kept, others

    def check_finite(self, values: npt.NDArray[np.floating], rows: Indices) -> None:
        """Raise `StoreError` naming an image with features that are no finite numbers, if there is one."""
        bad = ~np.isfinite(values)
        if bad.any():
            image = int(np.flatnonzero(bad.any(axis=1))[0])
            at = int(np.flatnonzero(bad[image])[0])
            name, start = "", 0
            for one in self.maps:
                name, start = one.name, start + one.columns_per_image
                if at < start:
                    break
            features = count_text(int(bad[image].sum()), "feature")
            what = f"image {self.paths[rows[image]]} has {features} that are NaN or infinite, the first in {name}."
            raise StoreError(Problem(str(self.path), what, "Leave that map out with --map, or mend the pipeline."))


def in_order(work: Callable[[Item], Done], items: Iterable[Item], threads: int) -> Iterator[Done]:
    """Yield ``work(item)`` for every item, in the items' order, on threads that are at most one item ahead each."""
    pending: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
