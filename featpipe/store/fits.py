"""Learned banks beside the features that were made with them: ``fits/<key>``, a group of plain arrays each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from featpipe.kernels.fitted import FittedBank, bank_arrays, bank_facts, make_fitted
from featpipe.plan.fitting import FitRequest
from featpipe.store.format import KEY, NODE, cannot_write, read_node, temporary_name

GROUP = "fits"
AXES = {
    "weights": ("kernel", "tap_y", "tap_x", "input"),
    "bias": ("kernel",),
    "whitening": ("component", "tap_y", "tap_x", "input"),
    "shift": ("component",),
    "squares": ("kernel",),
    "sources": ("patch", "source"),
}


def learned_banks(path: Path) -> list[dict[str, Any]]:
    """Return what is known of every learned bank in a store: its group, how it was fitted, the shape of its kernels."""
    found = []
    for folder in sorted((path / GROUP).glob("*")):
        node, weights = read_node(folder), read_node(folder / "weights")
        if node is not None and weights is not None and KEY in node.get("attributes", {}):
            facts = node["attributes"][KEY]
            found.append({"group": f"{GROUP}/{folder.name}", "shape": weights["shape"], **facts})
    return found


class StoreShelf:
    """Keeps learned banks in a store.

    Parameters
    ----------
    path : Path
        Of the store.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path / GROUP

    def load(self, request: FitRequest) -> FittedBank | None:
        """Return the bank of a request; None where it is not there, or not as it was written."""
        folder = self.folder / request.key
        if not (folder / NODE).exists():
            return None
        try:
            group = zarr.open_group(folder, mode="r")
            facts: Any = group.attrs[KEY]
            arrays: Any = {name: np.asarray(group[name][...]) for name in AXES}  # type: ignore[index]
            return make_fitted(arrays, facts)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, request: FitRequest, bank: FittedBank) -> None:
        """Write a bank, whole or not at all."""
        folder = self.folder / request.key
        partial = temporary_name(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            zarr.open_group(self.folder, mode="a")
            group = zarr.open_group(partial, mode="w", attributes={KEY: bank_facts(bank)})
            for name, values in bank_arrays(bank).items():
                array = group.create_array(name, shape=values.shape, dtype=values.dtype, dimension_names=AXES[name])
                array[...] = values
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
