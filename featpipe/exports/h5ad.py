"""The table as an AnnData file: images are observations, columns are variables."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.exports.table import Table, texts, unique
from featpipe.exports.texts import json_text
from featpipe.store.format import KEY

CHUNK_BYTES = 1 << 20


def write_h5ad(table: Table, path: Path) -> None:
    """Write the table, features by blocks of rows.

    ``obs`` has image, path, label, class_name and split of every image, and is named by their paths; ``var`` has map,
    cell and labels of every column; ``uns["featpipe"]`` is JSON.
    """
    import anndata
    import h5py
    import pandas as pd

    stack, rows = table.stack, table.rows
    paths = [str(name) for name in table.paths]
    obs = pd.DataFrame(
        {
            "image": rows.astype(np.int64),
            "path": paths,
            "label": table.labels,
            "class_name": pd.Categorical(texts(table.labels, stack.classes), list(dict.fromkeys(stack.classes))),
            "split": pd.Categorical(texts(table.splits, stack.split_names), list(dict.fromkeys(stack.split_names))),
        },
        index=unique(paths),
    )
    var = pd.DataFrame({key: _column(values) for key, values in table.facts.items()}, index=table.names)
    frame = anndata.AnnData(obs=obs, var=var, uns={KEY: json_text(table.provenance())})
    with warnings.catch_warnings():
        # anndata asks pandas 3 for an option that pandas is giving up: nobody here can change that
        warnings.filterwarnings("ignore", "The 'future.infer_string' option is deprecated")
        frame.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        chunk = (max(1, min(len(table), CHUNK_BYTES // (4 * table.width))), table.width) if len(table) else None
        features = file.create_dataset("X", (len(table), table.width), np.float32, chunks=chunk)
        features.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for span, values in table.blocks():
            features[span.start : span.stop] = values


def _column(values: npt.NDArray[Any]) -> Any:
    """Return texts as categories, an empty one as none; numbers as they are."""
    import pandas as pd

    if values.dtype.kind != "U":
        return values
    names = [name for name in dict.fromkeys(values.tolist()) if name]
    return pd.Categorical([name or None for name in values.tolist()], names)
