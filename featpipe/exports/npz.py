"""The table as NumPy arrays in one file, which NumPy reads without pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.exports.table import Table
from featpipe.exports.texts import json_text

ROWS = 1 << 14
"""Texts written at once."""
STAMP = (1980, 1, 1, 0, 0, 0)
"""The same features make the same file."""


def write_npz(table: Table, path: Path) -> None:
    """Write the table, features by blocks of rows.

    The arrays are ``X`` (n, d) float32 and ``y`` (n,) int64 as of `Stack.xy`; ``image``, ``path`` and ``split`` of
    every row; ``class_names`` and ``split_names``; ``column`` (d,), the names of the columns, and ``column_map``,
    ``column_y``, ``column_x`` and ``column_<label>``; ``featpipe``, JSON. Texts are of NumPy's fixed length.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        shape = (len(table), table.width)
        _add(file, "X", np.dtype(np.float32), shape, (values for _, values in table.blocks()))
        _add_array(file, "y", table.labels)
        _add_array(file, "image", table.rows.astype(np.int64))
        paths = table.paths
        longest = max((len(path) for path in paths), default=1)
        _add(file, "path", np.dtype(f"U{max(1, longest)}"), paths.shape, _pieces(paths))
        _add_array(file, "split", table.splits)
        _add_array(file, "class_names", np.array(table.stack.classes, np.str_))
        _add_array(file, "split_names", np.array(table.stack.split_names, np.str_))
        _add_array(file, "column", np.array(table.names, np.str_))
        for key, values in table.facts.items():
            _add_array(file, f"column_{key}", values)
        _add_array(file, "featpipe", np.array(json_text(table.provenance())))


def _add_array(file: zipfile.ZipFile, name: str, values: npt.NDArray[Any]) -> None:
    _add(file, name, values.dtype, values.shape, [values])


def _add(
    file: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[npt.NDArray[Any]]
) -> None:
    """Write an array whose rows come in parts."""
    little = dtype.newbyteorder("<")
    header = {"descr": np.lib.format.dtype_to_descr(little), "fortran_order": False, "shape": shape}
    with file.open(zipfile.ZipInfo(f"{name}.npy", STAMP), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for part in parts:
            member.write(np.ascontiguousarray(part, little).data.cast("B") if part.size else b"")


def _pieces(texts: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(texts), ROWS):
        yield texts[start : start + ROWS]
