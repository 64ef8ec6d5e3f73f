"""Some images and their responses, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.errors import FeatpipeError
from featpipe.geometry.axis import Span
from featpipe.images.glance import Glance, middle
from featpipe.images.region import Spans
from featpipe.pages.pictures import EDGE, bar, response, scale, thumbnail
from featpipe.pages.statistics import MapStatistics, stacked_map
from featpipe.stack import Stack
from featpipe.store.read import StoredMap

Floats = npt.NDArray[np.floating]
MOST_IMAGES = 4
MOST_FEATURES = 6
"""Shown of a map."""
WHOLE_EDGE = 2048
"""Of images, in pixels, up to which they are shown whole."""
PART_EDGE = 512
MOST_BARS = 512
TINY = 4
"""Positions along an axis."""


@dataclass(frozen=True)
class SampleImage:
    """An image that is shown."""

    row: int
    name: str
    of: str
    """Its class, where it has one."""
    picture: str
    """A data URI; empty where there is none."""
    why: str
    """Why there is no picture."""
    part: str
    """Which part of it is shown; empty for all."""


@dataclass(frozen=True)
class SampleFeature:
    """One feature's responses to the images, in the colours of one scale."""

    name: str
    low: float
    high: float
    bar: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class SampleMap:
    """What is shown of a map: some features as pictures, or all of them as bars."""

    name: str
    shape: tuple[int, ...]
    """(y, x, feature) of the first image."""
    features: tuple[SampleFeature, ...]
    bars: tuple[tuple[float, ...], ...] = ()
    """Values of each image, where the map is one position."""
    low: float = 0.0
    high: float = 0.0
    """Ends of the bars' scale, 0 included."""
    more: int = 0
    """Features that are not shown."""

    @property
    def tiny(self) -> bool:
        """Whether there are so few positions that small pictures show them all."""
        return max(self.shape[:2]) <= TINY


@dataclass(frozen=True)
class Samples:
    """Images and their responses, map by map."""

    images: tuple[SampleImage, ...]
    maps: tuple[SampleMap, ...]


def choose_images(stack: Stack, done: npt.NDArray[np.bool_] | None = None, most: int = MOST_IMAGES) -> list[int]:
    """Return some images that have features: of classes as different as can be, the first of each."""
    ok = stack.ok if done is None else stack.ok & done
    rows = np.flatnonzero(ok)
    labels = stack.labels[rows]
    classes, first = np.unique(labels, return_index=True)
    if len(classes) > 1:
        spread = np.unique(np.linspace(0, len(classes) - 1, most).round().astype(int))
        return [int(rows[first[i]]) for i in spread]
    if not len(rows):
        return []
    spread = np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))
    return [int(rows[i]) for i in spread]


def draw_samples(
    stack: Stack, rows: Sequence[int], glance: Glance | None, statistics: Sequence[MapStatistics]
) -> Samples:
    """Draw images and their responses.

    Parameters
    ----------
    stack : Stack
    rows : sequence of int
        Images.
    glance : Glance, optional
        Opens the images; none is shown unless given.
    statistics : sequence of MapStatistics
        Of the maps to draw: the features that vary most are chosen.
    """
    sizes = {row: image_size(stack, row) for row in rows}
    edge = EDGE if len(rows) > 1 else 2 * EDGE
    maps = []
    for one in statistics:
        members = {row: a_map for row in rows if (a_map := _member(stack, one.name, row)) is not None}
        if members and one.features:
            maps.append(_map(members, sizes, one, edge))
    images = tuple(_image(stack, row, glance, sizes[row], edge) for row in rows)
    return Samples(images, tuple(maps))


def image_size(stack: Stack, row: int) -> tuple[int, int]:
    """Return height and width of an image as the chain saw it, in pixels."""
    root: Any = zarr.open_group(stack.place.open_zarr(), mode="r")
    return int(root["height"][row]), int(root["width"][row])


@dataclass(frozen=True)
class _Member:
    """One image's map."""

    stored: StoredMap
    at: tuple[int, ...]
    """Index along the axis of images, where there is one."""

    def read(self, part: Spans | None, features: Sequence[int]) -> Floats:
        """Return (y, x, feature) responses; of a part of the image, those whose windows are centred there."""
        y, x = (slice(None), slice(None)) if part is None else (self._within("y", part[0]), self._within("x", part[1]))
        values = self.stored.zarr.oindex[(*self.at, y, x, list(features))]
        return np.asarray(values)

    def _within(self, axis: str, span: Span) -> slice:
        centres = getattr(self.stored, axis)
        start, stop = np.searchsorted(centres - centres[0] + self._first(axis), [span.start, span.stop])
        return slice(int(start), max(int(stop), int(start) + 1))

    def _first(self, axis: str) -> float:
        """Return the centre of the first window within the image, which need not begin where the file does."""
        window = self.stored.attrs["window"]
        return 0.0 if window is None else float(window[axis]["offset"] + (window[axis]["size"] - 1) / 2)


def _member(stack: Stack, name: str, row: int) -> _Member | None:
    stored = stacked_map(stack, name)
    if stored is not None:
        return _Member(stored, (row,))
    try:
        return _Member(stack.image(row)[name], ())
    except FeatpipeError:
        return None


def _part(size: tuple[int, int]) -> Spans | None:
    """Return the middle of a large image; None where it is shown whole."""
    if max(size) <= WHOLE_EDGE:
        return None
    return middle(size[0], PART_EDGE), middle(size[1], PART_EDGE)


def _image(stack: Stack, row: int, glance: Glance | None, size: tuple[int, int], edge: int) -> SampleImage:
    name, label = str(stack.paths[row]), int(stack.labels[row])
    of = stack.classes[label] if 0 <= label < len(stack.classes) else ""
    picture = why = shown = ""
    part = _part(size)
    if part is not None:
        shown = f"the middle {part[0].length}×{part[1].length} of {size[0]}×{size[1]} pixels"
    if glance is not None:
        try:
            picture = thumbnail(glance.read(name, part), edge)
        except FeatpipeError as error:
            why = str(error).removeprefix(f"{name}: ")
    return SampleImage(row, name, of, picture, why, shown)


def _map(
    members: Mapping[int, _Member], sizes: Mapping[int, tuple[int, int]], statistics: MapStatistics, edge: int
) -> SampleMap:
    height, width, count = next(iter(members.values())).stored.shape[-3:]
    if height == width == 1:
        return _bars(members, statistics)
    chosen = choose_features([one.std for one in statistics.features])
    values = {}
    for row, member in members.items():
        part = _part(sizes[row]) if member.stored.attrs["window"] is not None else None
        values[row] = member.read(part, chosen)
    features = []
    for place, feature in enumerate(chosen):
        seen = [one[..., place] for one in values.values()]
        low, high = scale(np.concatenate([one.reshape(-1) for one in seen]))
        pictures = tuple(response(values[row][..., place], low, high, edge) if row in values else "" for row in sizes)
        features.append(SampleFeature(statistics.features[feature].name, low, high, bar(low, high), pictures))
    return SampleMap(statistics.name, (height, width, count), tuple(features), more=count - len(chosen))


def _bars(members: Mapping[int, _Member], statistics: MapStatistics) -> SampleMap:
    count = len(statistics.features)
    shown = range(min(count, MOST_BARS))
    rows = [np.nan_to_num(one.read(None, shown).reshape(-1).astype(np.float64)) for one in members.values()]
    low, high = min(0.0, *(float(row.min()) for row in rows)), max(0.0, *(float(row.max()) for row in rows))
    bars = tuple(tuple(row.tolist()) for row in rows)
    return SampleMap(statistics.name, (1, 1, count), (), bars, low, high, count - len(shown))


def choose_features(deviations: Sequence[float], most: int = MOST_FEATURES) -> list[int]:
    """Return which features to show: of as many equal runs of neighbours, each one's that varies most.

    Examples
    --------
    >>> choose_features([1.0, 3.0, 2.0, 5.0, 4.0], 2)
    [1, 3]
    """
    runs = np.array_split(np.arange(len(deviations)), min(most, len(deviations)))
    varying = np.nan_to_num(np.asarray(deviations, np.float64), nan=-1.0)
    return [int(run[np.argmax(varying[run])]) for run in runs]
