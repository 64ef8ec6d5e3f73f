"""Reading a feature stack: by map, by label, or as the matrix that scikit-learn takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.spec.words import suggest
from featpipe.store.create import damaged
from featpipe.store.dataset import Dataset
from featpipe.store.fits import learned_banks
from featpipe.store.format import FORMAT, NODE, no_stack, read_header
from featpipe.store.images import StoredImages
from featpipe.store.place import Place, open_place
from featpipe.store.read import Indices, StoredMap, read_matrix, reading
from featpipe.store.select import compose, pick, select_features
from featpipe.store.target import is_store
from featpipe.store.tree import open_tree


class FeatureMap(StoredMap):
    """One map of a stack, or some of its features: an array on disk, indexed as NumPy's are."""

    def dask(self) -> Any:
        """Return the map as a lazy dask array, a chunk per shard."""
        from featpipe.graph import lazy_array

        lazy = lazy_array(self.zarr)
        return lazy if self.chosen is None else lazy[..., self.chosen]


def open_stack(path: str | os.PathLike[str]) -> Stack:
    """Open a feature stack for reading.

    Parameters
    ----------
    path : path or str
        Of the directory that ``featpipe run`` wrote, or its URL.

    Returns
    -------
    Stack

    Raises
    ------
    StoreError
        If there is none, or a newer featpipe wrote it.
    """
    place = open_place(path)
    header = read_header(place)
    if header is None:
        raise damaged(place, NODE) if is_store(place) else no_stack(place)
    if header["format"] > FORMAT:
        what = f"is of format {header['format']}; this featpipe reads format {FORMAT}."
        raise StoreError(Problem(str(place), what, "Upgrade featpipe."))
    return Stack(place, header)


class Stack(StoredImages):
    """The features of a collection of images.

    Parameters
    ----------
    place : Place
    header : dict
        The root's ``featpipe`` attribute.
    chosen : dict, optional
        Maps to the features chosen from each; None stands for all.
    """

    def __init__(
        self, place: Place, header: dict[str, Any], chosen: Mapping[str, Indices | None] | None = None
    ) -> None:
        super().__init__(place, header)
        self._facts = {fact["name"]: fact for fact in header["maps"]}
        self._chosen = dict.fromkeys(self._facts) if chosen is None else dict(chosen)

    # -- maps ---------------------------------------------------------------------------------------------------------

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps, ``branch/scale1``, in the order of the columns of `xy`."""
        return tuple(self._chosen)

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __contains__(self, name: object) -> bool:
        return name in self._chosen

    def __getitem__(self, name: str) -> FeatureMap:
        """Return a map by its name, ``texture/scale1``, or one image's own, ``images/7/texture/scale1``."""
        own = str(name).split("/", 2)
        if own[0] == "images" and len(own) == 3 and own[1].isdecimal():
            return self._own_map(int(own[1]), own[2])
        self._check_name(name)
        if not self._facts[name]["stacked"]:
            what = f"has a map {name} for each image, as they differ in shape."
            raise self._wrong(what, f'Use stack.image(n)["{name}"].')
        return FeatureMap(self._group(name), name, self._chosen[name])

    def image(self, n: int | str) -> dict[str, FeatureMap]:
        """Return the own maps of an image, by its row or its path; there are none where all images have one shape."""
        if isinstance(n, str) and n in (paths := self.paths.tolist()):
            n = paths.index(n)
        if isinstance(n, str) or not -self.n <= n < self.n:
            raise self._wrong(f"has no image {n!r}.", f"There are {self.n}, from 0; stack.paths has their names.")
        n %= self.n
        names = [name for name in self._chosen if not self._facts[name]["stacked"]]
        if not names:
            raise self._wrong("stacks its maps over the images.", f'Use stack["{self.maps[0]}"][{n}].')
        return {name: self._own_map(n, name) for name in names}

    def select(
        self, *, branch: str | list[str] | None = None, scale: Any = None, map: Any = None, **labels: Any
    ) -> Stack:
        """Return a stack of some of the maps and features.

        Parameters
        ----------
        branch, scale, map : scalar or list, optional
            Maps to keep.
        **labels : scalar or list
            Label and the value, or the values, that a feature must have; numbers may differ by rounding.

        Returns
        -------
        Stack

        Raises
        ------
        StoreError
            If nothing is left, naming what there is.

        Examples
        --------
        ``stack.select(branch="texture", frequency=[0.1, 0.2], component="even")``
        """
        kept = dict(self._chosen)
        for key, what, wanted in (("branch", "branch", branch), ("scale", "scale", scale), ("name", "map", map)):
            if wanted is not None:
                known = dict.fromkeys(self._facts[name][key] for name in kept)
                found = pick(known, wanted, what, self.path)
                kept = {name: chosen for name, chosen in kept.items() if self._facts[name][key] in found}
        if not kept:
            raise self._wrong("has no such map of that branch and scale.", f"There are {', '.join(self._chosen)}.")
        if labels:
            members = {name: any_map.labels for name in kept if (any_map := self._any(name)) is not None}
            picked = select_features(members, labels, self.path)
            kept = {name: compose(kept[name], indices) for name, indices in picked.items()}
        return Stack(self.place, self._header, kept)

    def is_stacked(self, name: str) -> bool:
        """Return whether a map is one array over all images."""
        return bool(self._facts[name]["stacked"])

    def stacked(self) -> list[FeatureMap]:
        """Return the maps that `xy` flattens, of one shape for all images; raises `StoreError` if there are none."""
        maps = [self[name] for name in self._chosen if self.is_stacked(name)]
        if not maps:
            what = "has no map of one shape for all images, so there is no matrix."
            raise self._wrong(what, "End a branch with pool: {mean: {grid: [2, 2]}}, or give images.size.")
        return maps

    # -- the matrix ---------------------------------------------------------------------------------------------------

    def xy(
        self, split: str | None = None, *, ok_only: bool = True, allow_partial: bool = False
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return features and classes as scikit-learn takes them.

        Parameters
        ----------
        split : str, optional
            Only the images of this split; all unless given.
        ok_only : bool
            Leave out images that could not be read; their features are NaN.
        allow_partial : bool
            Take a store that is not complete; the features not yet written are NaN.

        Returns
        -------
        X : (n, d) float32
            All stacked maps, each flattened (y, x, feature), one after another; `columns` tells what is where.
        y : (n,) int64
            Index into ``classes``; -1 for an image without a class, so all of them where the images have none.

        Raises
        ------
        StoreError
            If there is no such split, no map is stacked, or the store is not complete.
        """
        rows = self.rows(split, ok_only=ok_only, allow_partial=allow_partial)
        return read_matrix(self.stacked(), rows), self.labels[rows]

    def rows(self, split: str | None = None, *, ok_only: bool = True, allow_partial: bool = False) -> Indices:
        """Return the images that `xy` takes, ascending; arguments and errors are the same."""
        if self.status != "complete" and not allow_partial:
            change = "Run the pipeline again: it goes on where it stopped. allow_partial=True takes it as it is."
            raise self._wrong("is not complete.", change)
        keep = self.ok.copy() if ok_only else np.ones(self.n, np.bool_)
        if split is not None:
            keep &= self.splits == self._split_code(split)
        return np.flatnonzero(keep)

    def dataset(self, split: str | None = None, map: str | None = None) -> Dataset:
        """Return the images one by one, as torch's DataLoader takes them; torch is not needed.

        Parameters
        ----------
        split : str, optional
            Only the images of this split; all unless given. Images that could not be read are left out.
        map : str, optional
            A stacked map to give as it is, (y, x, feature); all of them, flattened as in `xy`, unless given.

        Returns
        -------
        Dataset
            Of (features, label) for each image. It may be sent to other processes, which open the store themselves.

        Raises
        ------
        StoreError
            If there is no such split or map, no map is stacked, or the store is not complete.
        """
        rows = self.rows(split)
        maps = self.stacked() if map is None else [self[map]]
        return Dataset(self.place, {one.name: one.chosen for one in maps}, rows, self.labels[rows], flat=map is None)

    def columns(self) -> list[dict[str, Any]]:
        """Return, for every column of `xy`, its map, its cell (``y``, ``x``) and its feature's labels."""
        return [column for one in self.stacked() for column in one.columns()]

    def to_xarray(self) -> Any:
        """Return the stacked maps as an xarray.DataTree, read when used, with classes and labels as text.

        The codes stay: ``label`` and ``split`` beside ``class_name`` and ``split_name``, and ``bank_code`` beside
        ``bank``. Maps that each image has for itself are opened one by one, all of them.
        """
        groups: dict[str, Indices | None] = {}
        for name, chosen in self._chosen.items():
            if self._facts[name]["stacked"]:
                groups[name] = chosen
            else:
                groups.update({f"images/{n}/{name}": chosen for n in self._sized()})
        with reading(self.path):
            return open_tree(self.place, groups, self.ok)

    # -- facts --------------------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> dict[str, Any]:
        """The pipeline that made the stack, defaults filled in."""
        return dict(self._header["pipeline"])

    def info(self) -> dict[str, Any]:
        """Return all facts as plain data, ready for JSON."""
        return {
            "path": self.path,
            "status": self.status,
            "images": self.n,
            "ok": int(self.ok.sum()),
            "classes": _counts(self.labels, self.classes),
            "splits": _counts(self.splits, self.split_names),
            "maps": [self._map_info(name) for name in self._chosen],
            "stored_bytes": sum(size for _, size in self.place.files()),
            "failures": self.failures,
            "unavailable": list(self.unavailable),
            "learned": learned_banks(self.place),
            **{key: self._header[key] for key in ("format", "versions", "digests", "pipeline")},
        }

    def __repr__(self) -> str:
        lines = [f"<Stack {self.path}: {self.n} images, {len(self.classes)} classes, {self.status}>"]
        for name in self._chosen:
            if self._facts[name]["stacked"]:
                lines.append(f"  {self[name]!r}")
            else:
                lines.append(f"  {name}: a map for each image")
        return "\n".join(lines)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check_name(self, name: str) -> None:
        if name not in self._chosen:
            near = suggest(name, self._chosen) if "/" in str(name) else ""
            change = near or f"There are {', '.join(self._chosen)}."
            raise self._wrong(f"has no map {name!r}.", change)

    def _own_map(self, n: int, name: str) -> FeatureMap:
        self._check_name(name)
        group = f"images/{n}/{name}"
        if group not in self._root:
            reason = "the maps are stacked" if self._facts[name]["stacked"] else "no such image, or it cannot be read"
            raise self._wrong(f"has no map {group!r}: {reason}.")
        return FeatureMap(self._group(group), group, self._chosen[name])

    def _sized(self) -> list[int]:
        """Return the images that have maps of their own: those whose size is known."""
        return [int(n) for n in np.flatnonzero(self._array("height") > 0)]

    def _any(self, name: str) -> FeatureMap | None:
        """Return a map, or where each image has its own, some image's: their features are the same."""
        if self._facts[name]["stacked"]:
            return self[name]
        sized = self._sized()
        return self._own_map(sized[0], name) if sized else None

    def _split_code(self, split: str) -> int:
        if split not in self.split_names:
            there = ", ".join(self.split_names)
            change = f"There are {there}." if there else "Its images are not split: set images.split, and run again."
            near = suggest(split, self.split_names)
            raise self._wrong(f"has no split {split!r}.", f"{near} {change}" if near else change)
        return self.split_names.index(split)

    def _map_info(self, name: str) -> dict[str, Any]:
        info = {key: self._facts[name][key] for key in ("name", "branch", "scale", "stacked")}
        one = self._any(name)
        if one is None:
            return info
        return info | one.facts(stacked=info["stacked"])


def _counts(codes: npt.NDArray[np.integer], names: tuple[str, ...]) -> dict[str, int]:
    return {name: int((codes == code).sum()) for code, name in enumerate(names)}
