"""The store as an xarray DataTree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Problem, StoreError
from featpipe.store.place import Place


def open_tree(place: Place, groups: Mapping[str, npt.NDArray[np.intp] | None], ok: npt.NDArray[np.bool_]) -> Any:
    """Return a store as a lazily loaded xarray.DataTree, codes decoded to names, that can be written as netCDF.

    NetCDF's attributes are texts, numbers and lists of either: objects become JSON, nulls are left out. It has no
    float16: such features will be written as float32.

    Parameters
    ----------
    place : Place
        Of the store.
    groups : mapping of str to array of int, or None
        Groups of maps to the features chosen from each; None for all.
    ok : (n,) bool
        Images that have features.

    Raises
    ------
    StoreError
        If xarray is not installed.
    """
    try:
        import xarray
    except ImportError:
        change = 'Install it with pip install "featpipe[xarray]".'
        raise StoreError(Problem("to_xarray", "xarray is not installed.", change)) from None

    def read(group: str | None) -> Any:
        data = xarray.open_dataset(place.open_zarr(), engine="zarr", group=group, chunks=None, consolidated=False)
        data.attrs = _portable(data.attrs)
        for variable in data.variables.values():
            variable.attrs = _portable(variable.attrs)
            if variable.dtype == np.float16:
                variable.encoding["dtype"] = "float32"
        return data

    root = read(None)
    tree = {"/": _decode_root(root.assign_coords(ok=(root["ok"].dims, ok, root["ok"].attrs)))}
    for group, chosen in groups.items():
        data = read(group)
        tree[group] = _decode(data if chosen is None else data.isel(feature=chosen))
    return xarray.DataTree.from_dict(tree, name=PurePosixPath(str(place)).stem)


def _portable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as netCDF has them."""
    kept = {key: value for key, value in attributes.items() if value is not None and value != []}
    return {key: _portable_value(value) for key, value in kept.items()}


def _portable_value(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return value


def _decode_root(data: Any) -> Any:
    names = {"class_name": ("label", "classes"), "split_name": ("split", "splits")}
    return data.assign_coords(
        {
            new: (data[code].dims, _texts(data[code].attrs[key], data[code].values))
            for new, (code, key) in names.items()
            if data[code].attrs.get(key)
        }
    )


def _decode(data: Any) -> Any:
    """Give every text label as text; its codes stay beside it as ``<label>_code``."""
    decoded: dict[str, tuple[Any, ...]] = {}
    for name, code in data.coords.items():
        if "names" in code.attrs:
            decoded[name] = (code.dims, _texts(code.attrs["names"], code.values))
            decoded[f"{name}_code"] = (code.dims, code.values, code.attrs)
    return data.assign_coords(decoded)


def _texts(names: list[str], codes: npt.NDArray[np.integer]) -> npt.NDArray[np.object_]:
    texts: npt.NDArray[np.object_] = np.array([*names, ""], object)[codes]  # code -1 is the empty text
    return texts
