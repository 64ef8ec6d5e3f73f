"""What the values of every feature of a map are like: read piece by piece, sampled where they are very many.

A piece is some whole chunks. Its first reading gives counts, ends, means and deviations, the second the histograms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import FeatpipeError, StoreError
from featpipe.probes.stream import in_order
from featpipe.stack import Stack
from featpipe.store.read import StoredMap

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]
MOST_VALUES = 1 << 26
"""Values of a map that are looked at, about; of more, a sample of its pieces is."""
PIECE_VALUES = 1 << 20
MOST_GROUPS = 400
"""Images that are looked at where each has a map of its own."""
BINS = 24
SATURATED = 0.99
"""Share of a feature's values at one end of its range, beyond which it says little."""
THREADS = 4


@dataclass(frozen=True)
class FeatureStatistics:
    """What the values of one feature are like."""

    name: str
    count: int
    """Finite values that were looked at."""
    nonfinite: int
    least: float
    mean: float
    std: float
    most: float
    zeros: float
    """Share of the finite values that are 0."""
    at_least: float
    """Share of them that are the least there is."""
    at_most: float
    histogram: tuple[int, ...]
    """In equal bins from ``least`` to ``most``."""
    dead: str = ""
    """Why the feature tells nothing; empty if it does."""
    saturated: str = ""
    """Why it tells little; empty if it does not."""


@dataclass(frozen=True)
class MapStatistics:
    """What the values of one map are like."""

    name: str
    features: tuple[FeatureStatistics, ...]
    values: int
    """Looked at, of all features together."""
    of: int
    """In the map."""
    sampled: str = ""
    """How values were chosen, where not all were looked at."""

    @property
    def dead(self) -> int:
        return sum(bool(one.dead) for one in self.features)

    @property
    def saturated(self) -> int:
        return sum(bool(one.saturated) for one in self.features)

    @property
    def flagged(self) -> list[tuple[int, FeatureStatistics]]:
        """The features that are dead or saturated, with their numbers."""
        return [(i, one) for i, one in enumerate(self.features) if one.dead or one.saturated]


@dataclass(frozen=True)
class _Piece:
    one: StoredMap
    region: tuple[slice, ...]
    """Along all axes but the features'."""
    ok: npt.NDArray[np.bool_] | None
    """(images,) of a stacked map: which have features."""


@dataclass(frozen=True)
class _Summary:
    """Count, ends, mean and squares of every feature of some values."""

    count: Counts
    nonfinite: Counts
    zeros: Counts
    least: Floats
    at_least: Counts
    most: Floats
    at_most: Counts
    mean: Floats
    squares: Floats

    @classmethod
    def of(cls, values: Values) -> _Summary:
        """Summarise (feature, n) values."""
        finite = np.isfinite(values)
        count = np.count_nonzero(finite, axis=1)
        whole = bool(finite.all())
        low, high = (values, values) if whole else (np.where(finite, values, np.inf), np.where(finite, values, -np.inf))
        clean = values if whole else np.where(finite, values, 0)
        least, most = low.min(axis=1, initial=np.inf), high.max(axis=1, initial=-np.inf)
        mean = clean.sum(axis=1, dtype=np.float64) / np.maximum(1, count)
        apart = clean - mean[:, None]
        if not whole:
            apart[~finite] = 0
        return cls(
            count, values.shape[1] - count, np.count_nonzero(values == 0, axis=1),
            least.astype(np.float64), np.count_nonzero(low == least[:, None], axis=1),
            most.astype(np.float64), np.count_nonzero(high == most[:, None], axis=1),
            mean, np.einsum("ij,ij->i", apart, apart),
        )  # fmt: skip

    def join(self, other: _Summary) -> _Summary:
        """Return the summary of two sets of values together, the means as Chan, Golub and LeVeque join them."""
        count = self.count + other.count
        share = other.count / np.maximum(1, count)
        step = other.mean - self.mean
        least, most = np.minimum(self.least, other.least), np.maximum(self.most, other.most)
        return _Summary(
            count, self.nonfinite + other.nonfinite, self.zeros + other.zeros,
            least, self.at_least * (self.least == least) + other.at_least * (other.least == least),
            most, self.at_most * (self.most == most) + other.at_most * (other.most == most),
            self.mean + step * share, self.squares + other.squares + step**2 * self.count * share,
        )  # fmt: skip


@dataclass
class _Chosen:
    pieces: list[_Piece] = field(default_factory=list)
    total: int = 0
    sampled: str = ""


def map_statistics(stack: Stack, name: str, *, most_values: int = MOST_VALUES, seed: int = 0) -> MapStatistics:
    """Return what the values of every feature of a map are like.

    Images that failed and what a partial store lacks are left out.

    Parameters
    ----------
    stack : Stack
    name : str
        Of the map.
    most_values : int
        To look at, about.
    seed : int
        Of the draw of pieces, where there are more.
    """
    chosen = _choose(stack, name, most_values, np.random.default_rng(seed))
    labels = _any_map(stack, name)
    if labels is None:
        return MapStatistics(name, (), 0, chosen.total, chosen.sampled)
    partial = stack.status != "complete"
    summary: _Summary | None = None
    for one in in_order(lambda piece: _Summary.of(_values(piece, partial)), chosen.pieces, THREADS):
        summary = one if summary is None else summary.join(one)
    looked_at = int((summary.count + summary.nonfinite).sum()) if summary is not None else 0
    if summary is None or not looked_at:
        return MapStatistics(name, (), 0, chosen.total, chosen.sampled)
    counts = np.zeros((len(labels.features), BINS), np.int64)
    for part in in_order(lambda piece: _histogram(_values(piece, partial), summary), chosen.pieces, THREADS):
        counts += part
    largest = float(np.finfo(labels.dtype).max)
    features = [_feature(text, i, summary, counts[i], largest) for i, text in enumerate(labels.features)]
    return MapStatistics(name, tuple(features), looked_at, chosen.total, chosen.sampled)


def stacked_map(stack: Stack, name: str) -> StoredMap | None:
    """Return a map that is one array over all images; None where each image has its own."""
    try:
        return stack[name]
    except StoreError:
        return None


def _any_map(stack: Stack, name: str) -> StoredMap | None:
    return next((one for _, one in _members(stack, name, [])), None)


def _members(stack: Stack, name: str, images: list[int]) -> Iterator[tuple[int, StoredMap]]:
    """Yield the arrays of a map that are there: one, or those of some images."""
    one = stacked_map(stack, name)
    if one is not None:
        yield -1, one
        return
    for image in images or np.flatnonzero(stack.ok).tolist():
        try:
            yield image, stack.image(image)[name]
        except FeatpipeError:  # of a partial store, or of an image whose size was never known
            continue


def _choose(stack: Stack, name: str, most: int, draw: np.random.Generator) -> _Chosen:
    """Return the pieces of a map to look at."""
    chosen = _Chosen()
    one = stacked_map(stack, name)
    if one is not None:
        chosen.total = one.size
        grid, shape = _grid(one)
        kept = _drawn(prod(grid), one.size, most, draw)
        chosen.pieces = [_Piece(one, _region(one, grid, shape, i), stack.ok) for i in kept]
        if len(kept) < prod(grid):
            chosen.sampled = f"{len(kept):,} of {prod(grid):,} pieces of the map, drawn at random"
        return chosen
    images = np.flatnonzero(stack.ok)
    some = np.sort(draw.choice(images, min(len(images), MOST_GROUPS), replace=False)) if len(images) else images
    members = [one for _, one in _members(stack, name, some.tolist())] if len(some) else []
    size = sum(one.size for one in members)
    chosen.total = round(size * len(images) / max(1, len(members)))
    for one in members:
        grid, shape = _grid(one)
        kept = _drawn(prod(grid), one.size, most * one.size // max(1, size), draw)
        chosen.pieces += [_Piece(one, _region(one, grid, shape, i), None) for i in kept]
    if len(members) < len(images):
        chosen.sampled = f"{len(members):,} of {len(images):,} images, drawn at random"
    elif size > most:
        chosen.sampled = "pieces of every image's map, drawn at random"
    return chosen


def _grid(one: StoredMap) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many pieces a map has along each axis but the last, and the shape of one: whole chunks."""
    shape = list(one.chunks[:-1])
    while prod(shape) * one.shape[-1] < PIECE_VALUES:
        axis = next((i for i in reversed(range(len(shape))) if shape[i] < one.shape[i]), None)
        if axis is None:
            break
        shape[axis] = min(2 * shape[axis], one.chunks[axis] * ceil(one.shape[axis] / one.chunks[axis]))
    return tuple(ceil(n / edge) for n, edge in zip(one.shape, shape, strict=False)), tuple(shape)


def _drawn(pieces: int, size: int, most: int, draw: np.random.Generator) -> list[int]:
    """Return which pieces to look at, in order: all, or as many as hold so many values."""
    kept = pieces if size <= most else max(1, pieces * most // size)
    return sorted(draw.choice(pieces, kept, replace=False).tolist()) if kept < pieces else list(range(pieces))


def _region(one: StoredMap, grid: tuple[int, ...], shape: tuple[int, ...], index: int) -> tuple[slice, ...]:
    at = np.unravel_index(index, grid)
    return tuple(
        slice(int(i) * edge, min((int(i) + 1) * edge, n)) for i, edge, n in zip(at, shape, one.shape, strict=False)
    )


def _values(piece: _Piece, partial: bool) -> Values:
    """Return a piece's values, (feature, n), less those of images that failed and those that are not there yet."""
    stored: Any = piece.one[piece.region]
    if piece.ok is not None:
        stored = stored[piece.ok[piece.region[0]]]
    # A feature's values beside each other: NumPy goes along them many times faster than across
    values: Values = np.ascontiguousarray(stored.reshape(-1, stored.shape[-1]).T, np.float32)
    return values[:, ~np.isnan(values).all(axis=0)] if partial else values


def _histogram(values: Values, summary: _Summary) -> Counts:
    """Count (feature, n) values in equal bins between the ends of each feature."""
    features = len(values)
    span = summary.most - summary.least
    steps = np.divide(BINS, span, out=np.zeros(features), where=np.isfinite(span) & (span > 0))
    finite = np.isfinite(values)
    whole = bool(finite.all())
    clean = values if whole else np.where(finite, values, 0)
    least = np.where(np.isfinite(summary.least), summary.least, 0)
    place = clean - least[:, None]
    place *= steps[:, None]
    bins = np.clip(place, 0, BINS - 1, out=place).astype(np.int32) + np.arange(features, dtype=np.int32)[:, None] * BINS
    counted: Counts = np.bincount((bins if whole else bins[finite]).ravel(), minlength=features * BINS)
    return counted.reshape(features, BINS)


def _feature(name: str, i: int, summary: _Summary, histogram: Counts, largest: float) -> FeatureStatistics:
    count, nonfinite = int(summary.count[i]), int(summary.nonfinite[i])
    if not count:
        nan = float("nan")
        why = "none of its values is a finite number" if nonfinite else ""
        return FeatureStatistics(name, 0, nonfinite, nan, nan, nan, nan, 0.0, 0.0, 0.0, (), why)
    least, most = float(summary.least[i]), float(summary.most[i])
    at_least, at_most = summary.at_least[i] / count, summary.at_most[i] / count
    dead = saturated = ""
    if least == most and count > 1:
        dead = "always 0" if least == 0 else f"always {least:.6g}"
    elif nonfinite:
        saturated = f"{nonfinite:,} values are NaN or infinite"
    elif max(abs(least), abs(most)) >= largest:
        saturated = f"reaches {largest:.6g}, the largest number of its type"
    elif max(at_least, at_most) > SATURATED and least < most:
        end, share = ("least", at_least) if at_least >= at_most else ("largest", at_most)
        saturated = f"{_share(share)} of its values are its {end}, {least if end == 'least' else most:.6g}"
    return FeatureStatistics(
        name, count, nonfinite, least, float(summary.mean[i]), float(np.sqrt(summary.squares[i] / count)), most,
        float(summary.zeros[i] / count), float(at_least), float(at_most), tuple(histogram.tolist()), dead, saturated,
    )  # fmt: skip


def _share(share: float) -> str:
    """Write a share below one so that it does not read as all.

    Examples
    --------
    >>> _share(0.9951), _share(0.99999)
    ('99.5 %', '99.9 %')
    """
    return f"{min(99.9, 100 * share):.1f} %"
