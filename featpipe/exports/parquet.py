"""The table as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.exports.table import Table, texts, unique
from featpipe.exports.texts import json_text
from featpipe.geometry.axis import Span
from featpipe.store.format import KEY

MOST_COLUMNS = 4096
"""Features that have a column each. Parquet's footer tells of every column in every row group, so beyond some thousand
readers spend their time on it; more are one column, ``features``, a list of that many numbers a row."""
IMAGE = ("image", "path", "label", "class_name", "split")


def write_parquet(table: Table, path: Path) -> None:
    """Write the table, a row group per block of rows.

    Columns are ``image``, ``path``, ``label`` (-1 for none), ``class_name`` and ``split`` (null for none), then the
    features. Their labels are metadata of their fields, as JSON under ``featpipe``; the file's own has the pipeline.
    """
    import pyarrow as pa
    from pyarrow import parquet

    wide = table.width <= MOST_COLUMNS
    schema = _schema(table, wide=wide)
    with parquet.ParquetWriter(str(path), schema, use_dictionary=["class_name", "split"]) as writer:
        for span, values in table.blocks():
            columns = [*_image_columns(table, span), *(_feature_columns(values, wide=wide))]
            arrays = [pa.array(column, field.type) for column, field in zip(columns[:5], schema, strict=False)]
            writer.write_table(pa.Table.from_arrays([*arrays, *columns[5:]], schema=schema))


def _schema(table: Table, *, wide: bool) -> Any:
    import pyarrow as pa

    fields = [
        pa.field("image", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("class_name", pa.string()),
        pa.field("split", pa.string()),
    ]
    if wide:
        names = unique([*IMAGE, *table.names])[len(IMAGE) :]
        for name, column in zip(names, table.stack.columns(), strict=True):
            fields.append(pa.field(name, pa.float32(), metadata={KEY: json_text(column)}))
    else:
        facts = json_text({"columns": table.names})
        fields.append(pa.field("features", pa.list_(pa.float32(), table.width), metadata={KEY: facts}))
    own = {"classes": list(table.stack.classes), "splits": list(table.stack.split_names)}
    facts = json_text({**own, **table.provenance()})
    return pa.schema(fields, metadata={KEY: facts})


def _image_columns(table: Table, span: Span) -> list[Any]:
    rows = slice(span.start, span.stop)
    labels = table.labels[rows]
    return [
        table.rows[rows],
        table.paths[rows].tolist(),
        labels,
        texts(labels, table.stack.classes),
        texts(table.splits[rows], table.stack.split_names),
    ]


def _feature_columns(values: npt.NDArray[np.float32], *, wide: bool) -> list[Any]:
    import pyarrow as pa

    if wide:
        return [pa.array(column) for column in np.ascontiguousarray(values.T)]
    return [pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])]
