"""Images of a store: their names, classes and splits, and which of them have features."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from featpipe.errors import Problem, StoreError
from featpipe.store.finished import finished_images
from featpipe.store.place import Place
from featpipe.store.read import member, reading
from featpipe.store.receipts import Journal, Receipt


class StoredImages:
    """The images of a store, a row each.

    Parameters
    ----------
    place : Place
    header : dict
        The root's ``featpipe`` attribute.
    """

    def __init__(self, place: Place, header: dict[str, Any]) -> None:
        self.place = place
        self._header = header

    @property
    def path(self) -> str:
        """Where the store lies."""
        return str(self.place)

    @cached_property
    def paths(self) -> npt.NDArray[Any]:
        """(n,) name of every image."""
        return self._array("path")

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """(n,) class of every image, as an index into ``classes``; -1 for none."""
        return self._array("label")

    @cached_property
    def splits(self) -> npt.NDArray[np.int8]:
        """(n,) split of every image, as an index into ``split_names``; -1 for none."""
        return self._array("split")

    @cached_property
    def ok(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the image has features; those of the others are NaN.

        In a store that is not complete, these are the images that have been computed whole so far.
        """
        stored = self._array("ok")
        if self.status == "complete":
            return stored
        return finished_images(self.place, self._header["maps"], self._receipts, len(stored))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._attributes("label").get("classes", ()))

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(self._attributes("split").get("splits", ()))

    @property
    def n(self) -> int:
        """Images, the unreadable ones included."""
        return len(self.ok)

    @property
    def status(self) -> str:
        """``complete``, or ``partial`` while or after a run that did not end."""
        return str(self._header["status"])

    @property
    def failures(self) -> dict[str, str]:
        """Path of every image without features, and why."""
        with reading(f"{self.path}/ok"):
            reasons = {int(image): str(why) for image, why in self._attributes("ok").get("reasons", {}).items()}
        for receipt in self._receipts:
            reasons |= receipt.failures or {}
        return {str(self.paths[image]): reasons[image] for image in sorted(reasons) if image < self.n}

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Paths of the images among those that failed that could not be reached; the next run tries them again."""
        with reading(f"{self.path}/ok"):
            away = set(self._attributes("ok").get("unavailable", ()))
        away = away.union(*(receipt.unavailable for receipt in self._receipts))
        return tuple(str(self.paths[image]) for image in sorted(away) if image < self.n)

    @cached_property
    def _receipts(self) -> list[Receipt]:
        """What has been written of a store that is not complete; nothing of one that is."""
        if self.status == "complete":
            return []
        return list({receipt.place: receipt for receipt in Journal(self.place).read()}.values())

    @cached_property
    def _root(self) -> zarr.Group:
        with reading(self.path):
            return zarr.open_group(self.place.open_zarr(), mode="r")

    def _group(self, name: str) -> zarr.Group:
        group: zarr.Group = member(self._root, name)
        return group

    def _array(self, name: str) -> npt.NDArray[Any]:
        array = member(self._root, name)
        with reading(f"{self.path}/{name}"):
            return np.asarray(array[...])

    def _attributes(self, name: str) -> dict[str, Any]:
        array = member(self._root, name)
        with reading(f"{self.path}/{name}"):
            return dict(array.attrs)

    def _wrong(self, what: str, change: str = "") -> StoreError:
        return StoreError(Problem(self.path, what, change))
