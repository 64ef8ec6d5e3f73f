"""Which maps of one image make an image pyramid, and where their samples lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.geometry.axis import Span
from featpipe.geometry.window import Window
from featpipe.kernels.bank import Labels
from featpipe.spec.words import suggest
from featpipe.stack import Stack
from featpipe.store.read import StoredMap

Pair = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Level:
    """One image's map, by (y, x, feature)."""

    map: StoredMap
    row: int | None
    """The image's row in a map that is stacked; None for a map of its own."""
    scale: Pair
    """Distance of neighbouring samples along y and x, in image pixels."""
    translation: Pair
    """Where the first sample lies: the centre of its window, in image pixels."""

    @property
    def name(self) -> str:
        """Of the map, within the image."""
        return self.map.name.split("/", 2)[2] if self.row is None else self.map.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, features."""
        height, width, features = self.map.shape[-3:]
        return height, width, features

    @property
    def labels(self) -> list[Labels]:
        """What is known of every feature but its scale."""
        return [{key: value for key, value in one.items() if key != "scale"} for one in self.map.labels]

    @property
    def channels(self) -> list[str]:
        """Names of the features, less their scale."""
        words = (name.split(" ") for name in self.map.features)
        return [" ".join(word for word in name if not word.startswith("scale=")) for name in words]

    def read(self, y: Span, x: Span) -> npt.NDArray[np.float32]:
        """Return some samples, (y, x, feature)."""
        key: tuple[Any, ...] = (slice(y.start, y.stop), slice(x.start, x.stop))
        return np.asarray(self.map[key if self.row is None else (self.row, *key)], np.float32)


def find_image(stack: Stack, asked: int | str | None) -> int:
    """Return the row of an image that is given by it, by its name, or by being the only one.

    Raises
    ------
    StoreError
        If there is no such image, it has no features, or it must be chosen.
    """
    if asked is None:
        readable = np.flatnonzero(stack.ok)
        if len(readable) != 1:
            change = f"Choose it with --image: a row, 0 to {stack.n - 1}, or a path."
            raise StoreError(Problem(stack.path, f"has {len(readable)} images, and an OME-Zarr holds one.", change))
        return int(readable[0])
    row = int(asked) if not isinstance(asked, str) or asked.isdecimal() else -1
    if not 0 <= row < stack.n:
        paths = stack.paths.tolist()
        if asked not in paths:
            near = suggest(asked, paths[:10_000])
            change = f"{near} Give a row, 0 to {stack.n - 1}, or a path as in stack.paths.".lstrip()
            raise StoreError(Problem(stack.path, f"has no image {asked!r}.", change))
        row = paths.index(asked)
    if not stack.ok[row]:
        raise StoreError(Problem(stack.path, f"image {stack.paths[row]} has no features: it could not be read."))
    return row


def find_levels(stack: Stack, image: int) -> tuple[list[Level], dict[str, str]]:
    """Return an image's maps of one branch as the levels of a pyramid, the finest first.

    Parameters
    ----------
    stack : Stack
        Of maps of one branch at one scale or several.
    image : int

    Returns
    -------
    levels : list of Level
    left_out : dict of str to str
        Maps that are no level of it, and why.

    Raises
    ------
    StoreError
        If there are several branches, or a map has no regular grid of samples.
    """
    stems = list(dict.fromkeys(name.rpartition("/")[0] for name in stack.maps))
    if len(stems) > 1:
        change = "Choose one with --select branch=NAME, or a map with --map NAME."
        what = f"has maps of several branches, and an OME-Zarr holds one: {', '.join(stems)}."
        raise StoreError(Problem(stack.path, what, change))
    found = sorted((_level(stack, name, image) for name in stack.maps), key=lambda level: level.scale)
    levels, left_out = found[:1], {}
    for level in found[1:]:
        if reason := _misfit(levels[0], levels[-1], level):
            left_out[level.name] = reason
        else:
            levels.append(level)
    return levels, left_out


def _level(stack: Stack, name: str, image: int) -> Level:
    own = not stack.is_stacked(name)
    one = stack[f"images/{image}/{name}"] if own else stack[name]
    window = one.attrs["window"]
    if window is None:
        what = f"map {name} has a cell for each part of the image, and no grid of pixels to be shown on."
        raise StoreError(Problem(stack.path, what, "Choose a map that ends in no grid pooling, with --map NAME."))
    windows = [Window(**window[axis]) for axis in "yx"]
    scale = float(windows[0].stride), float(windows[1].stride)
    # The stored centres count from the whole image's corner, also where a region of it was read
    first = tuple(w.centre(0) if one.relative else float(at[0]) for w, at in zip(windows, (one.y, one.x), strict=True))
    return Level(one, None if own else image, scale, (first[0], first[1]))


def _misfit(finest: Level, above: Level, level: Level) -> str:
    """Return why a map is no level of a pyramid, in words; empty if it is one."""
    if level.labels != finest.labels:
        return "it has other features"
    ratios = [level.scale[axis] / finest.scale[axis] for axis in (0, 1)]
    if not isclose(*ratios) or not ratios[0].is_integer() or level.scale[0] <= above.scale[0]:
        steps = f"{level.scale[0]:g} × {level.scale[1]:g} px against {finest.scale[0]:g} × {finest.scale[1]:g} px"
        return f"its samples lie {steps} apart, and a pyramid's are whole multiples, the same along y and x"
    for axis in (0, 1):
        ends = [_reach(one, axis) for one in (finest, level)]
        # Viewers stretch every level over the first one's field
        if any(abs(a - b) > level.scale[axis] for a, b in zip(*ends, strict=True)):
            fields = [f"{low:g} to {high:g} px" for low, high in ends]
            change = "padding: reflect in every layer lets them meet"
            return f"it covers {fields[1]} of {'yx'[axis]}, {finest.name} {fields[0]} ({change})"
    return ""


def _reach(level: Level, axis: int) -> Pair:
    """Return where a map's samples begin and end along an axis, in image pixels."""
    begin = level.translation[axis] - level.scale[axis] / 2
    return begin, begin + level.scale[axis] * level.shape[axis]
