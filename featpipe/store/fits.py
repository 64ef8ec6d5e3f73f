"""Learned banks beside the features that were made with them: ``fits/<key>``, a group of plain arrays each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import zarr

from featpipe.errors import Problem, StoreError
from featpipe.kernels.fitted import FittedBank, bank_arrays, bank_facts, make_fitted
from featpipe.plan.fitting import FitRequest
from featpipe.store.checksums import differing
from featpipe.store.create import encode_group
from featpipe.store.format import KEY, NODE, read_node
from featpipe.store.place import Place
from featpipe.store.seal import Sum

GROUP = "fits"
AXES = {
    "weights": ("kernel", "tap_y", "tap_x", "input"),
    "bias": ("kernel",),
    "whitening": ("component", "tap_y", "tap_x", "input"),
    "shift": ("component",),
    "squares": ("kernel",),
    "sources": ("patch", "source"),
}


def learned_banks(place: Place) -> list[dict[str, Any]]:
    """Return what is known of every learned bank in a store: its group, how it was fitted, the shape of its kernels."""
    found = []
    names = sorted({key.split("/")[1] for key, _ in place.files(GROUP) if key.count("/") > 1})
    for name in names:
        group = f"{GROUP}/{name}"
        facts, weights = bank_attributes(place, group), read_node(place, f"{group}/weights")
        if facts is not None and weights is not None and isinstance(weights.get("shape"), list):
            found.append({"group": group, "shape": weights["shape"], **facts})
    return found


def bank_attributes(place: Place, group: str) -> dict[str, Any] | None:
    """Return what is said of a learned bank; None where it is not there, or not to be understood."""
    attributes = (read_node(place, group) or {}).get("attributes")
    facts = attributes.get(KEY) if isinstance(attributes, dict) else None
    return facts if isinstance(facts, dict) else None


def fits_prefixes(keys: Iterable[str]) -> tuple[str, ...]:
    """Return what the keys of the banks of some fits begin with in a store; nothing where there are none."""
    prefixes = tuple(f"{GROUP}/{key}/" for key in keys)
    return (f"{GROUP}/{NODE}", *prefixes) if prefixes else ()


Digest = Callable[[str], str]


class StoreShelf:
    """Keeps learned banks in a store.

    Parameters
    ----------
    place : Place
        Of the store.
    images : callable, optional
        Returns the digest of the images that a fit, of this key, looks at: a bank of others is not what is asked for.
        Unless given, banks are taken whatever they were learned from, and none is saved.
    stamped : callable, optional
        Returns the digest that featpipe 0.1 wrote of the same images.
    """

    def __init__(self, place: Place, images: Digest | None = None, stamped: Digest | None = None) -> None:
        self.place = place
        self.images = images
        self.stamped = stamped

    def group(self, key: str) -> str:
        """Return the group of a fit's bank."""
        return f"{GROUP}/{key}"

    def load(self, request: FitRequest) -> FittedBank | None:
        """Return the bank of a request; None where it is not there, or not as it was written."""
        bank = self.read(request.key)
        if bank is not None and self.images is not None:
            self._write_parent()
        return bank

    def read(self, key: str) -> FittedBank | None:
        """Return the bank of a fit's key."""
        name = self.group(key)
        facts = bank_attributes(self.place, name)
        if facts is None or not self._is_asked_for(key, facts.get("images")):
            return None
        try:
            group = zarr.open_group(self.place.open_zarr(), path=name, mode="r")
            arrays: Any = {array: np.asarray(group[array][...]) for array in AXES}  # type: ignore[index]
            return make_fitted(arrays, facts)
        except Exception:  # zarr's and its codecs' errors have no other base
            return None

    def _is_asked_for(self, key: str, images: object) -> bool:
        if self.images is None or images == self.images(key):
            return True
        return self.stamped is not None and images == self.stamped(key)

    def save(self, request: FitRequest, bank: FittedBank) -> None:
        """Write a bank; its group's metadata come last, and before them it is not there."""
        assert self.images is not None

        def build(group: zarr.Group) -> None:
            for name, values in bank_arrays(bank).items():
                array = group.create_array(name, shape=values.shape, dtype=values.dtype, dimension_names=AXES[name])
                array[...] = values

        name = self.group(request.key)
        files = encode_group(build, {KEY: {**bank_facts(bank), "images": self.images(request.key)}})
        node = files.pop(NODE)
        self.place.remove([key for key, _ in list(self.place.files(name))])
        self._write_parent()
        for key, content in files.items():
            self.place.write(f"{name}/{key}", [content])
        self.place.write(f"{name}/{NODE}", [node])

    def _write_parent(self) -> None:
        """Write the metadata of the group of all banks, unless they are there as they must be."""
        content = encode_group(lambda _: None)[NODE]
        if self.place.read(f"{GROUP}/{NODE}") != content:
            self.place.write(f"{GROUP}/{NODE}", [content])

    def check(self, before: Mapping[str, Sum]) -> None:
        """Make sure that banks that were learned in place of lost ones are the same.

        Parameters
        ----------
        before : mapping of str to Sum
            What the files of the lost ones were.

        Raises
        ------
        StoreError
            If one is another: features that were computed with the lost one must not be mixed with it.
        """
        for key in differing(self.place, before, before):
            group = "/".join(key.split("/")[:2])
            self.place.remove([key for key, _ in list(self.place.files(group))])
            what = "was lost, and learned from the same images it is another bank now, of other libraries."
            change = "Set store.path to another path, or remove this store, and run again."
            raise StoreError(Problem(f"{self.place}/{group}", what, change))
