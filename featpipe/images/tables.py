"""Parquet files: images in a column of bytes, and the columns beside them. Needs pyarrow."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from featpipe.images.ranges import FileRanges, Part, Ranges
from featpipe.images.refusal import Refused, Unavailable, source_error

MOST_ROWS = 5_000_000
_MOST_FOOTER = 64 * 2**20
_MOST_GROUP = 2**30
"""Of the images of one row group, unpacked, in bytes: a thread holds a page of them, and that may be all."""
_PIECE = 16 * 2**20
"""Of a column, unpacked at once, in bytes: a value that stands in a dictionary once can stand in every row."""
_BUFFER = 2**20
"""Of a column, read at once, in bytes; pages are read by themselves, and larger ones whole."""
_ASIDE = 32 * 2**20
"""What pyarrow's allocator keeps aside, in bytes."""
_MOST_TEXT = 2**29
"""Of one other column, in bytes."""
_MAGIC = b"PAR1"


class Table:
    """One parquet file.

    Parameters
    ----------
    ranges : Ranges
    file : pyarrow.parquet.ParquetFile
    column : str
        Holds the images' bytes; found out unless given, empty if there is none.
    """

    def __init__(self, ranges: Ranges, file: Any, column: str) -> None:
        self.ranges, self._file = ranges, file
        self.schema = file.schema_arrow
        self.features = _features(self.schema)
        self.column = column or self._find_images()
        groups = range(file.metadata.num_row_groups)
        self.groups = [int(file.metadata.row_group(i).num_rows) for i in groups]
        if min(self.groups, default=0) < 0 or sum(self.groups) > MOST_ROWS:
            raise Refused(f"holds more than {MOST_ROWS:,} rows. Make several of it")

    def _find_images(self) -> str:
        """Return the column, or the field of one, that holds images."""
        columns = {name: _bytes_of(self.schema.field(name)) for name in dict.fromkeys(self.schema.names)}
        told = [name for name, about in self.features.items() if about.get("_type") == "Image" and columns.get(name)]
        found = told or [name for name, place in columns.items() if place]
        if len(found) > 1 and "image" in found:
            found = ["image"]
        if len(found) > 1:
            what = f"has several columns that can be images: {', '.join(found)}. Keep one"
            raise Refused(what)
        return columns[found[0]] if found else ""

    @property
    def texts(self) -> list[str]:
        """Names of the columns that hold words or whole numbers."""
        return [field.name for field in self.schema if _is_text(field.type)]

    def class_names(self, column: str) -> list[str]:
        """Return the names of a column's classes, by their numbers, that Hugging Face's metadata tells."""
        about = self.features.get(column, {})
        names = about.get("names")
        if about.get("_type") != "ClassLabel" or not isinstance(names, list):
            return []
        return [str(name) for name in names]

    def read_texts(self, column: str) -> list[str]:
        """Return a column of words or numbers, numbers of classes by their names, nothing as the empty text."""
        names = self.class_names(column)
        found: list[str] = []
        left = _MOST_TEXT
        for group in range(len(self.groups)):
            for part in self._read(group, column, left):
                left -= part.nbytes
                found += [_text(value, names) for value in part.to_pylist()]
        return found

    def image_bytes(self) -> list[int]:
        """Return what a thread that reads each row group's images holds at most, in bytes."""
        return [self._held(group) for group in range(len(self.groups))]

    def _held(self, group: int) -> int:
        """Return the bytes of a page, packed and unpacked, and of two copies of an image; a page may be all there is.

        The largest image is taken for 8 times as large as the mean: tables do not tell.
        """
        packed, unpacked = self._sizes(group, self.column)
        if unpacked > _MOST_GROUP:
            what = f"holds {unpacked:,} bytes of images in a row group, more than {_MOST_GROUP:,}"
            raise Refused(f"{what}. Write smaller row groups")
        largest = min(unpacked, max(_PIECE, 8 * unpacked // max(self.groups[group], 1)))
        return packed + unpacked + 2 * largest + _ASIDE

    def read_images(self, group: int) -> RowGroup:
        """Return a row group's images, to be read one after another."""
        return RowGroup(self, group)

    def batches(self, group: int) -> Generator[Any]:
        """Yield the images of a row group, as arrays of bytes, a few at a time; little more than the file tells."""
        self._held(group)
        return self._read(group, self.column, 2 * self._sizes(group, self.column)[1] + _PIECE)

    def _sizes(self, group: int, column: str) -> tuple[int, int]:
        """Return the bytes of a column of a row group, packed and unpacked, as the footer tells."""
        about = self._file.metadata.row_group(group)
        for i in range(about.num_columns):
            if about.column(i).path_in_schema == column:
                one = about.column(i)
                return max(int(one.total_compressed_size), 0), max(int(one.total_uncompressed_size), 0)
        raise Refused(f"has no column {column!r}")

    def _read(self, group: int, column: str, most: int) -> Generator[Any]:
        """Yield a column of a row group in pieces, none larger than ``most`` bytes, nor all together."""
        _, unpacked = self._sizes(group, column)
        if unpacked > most:
            raise Refused(f"unpacks to {unpacked:,} bytes in column {column!r}, more than {most:,}")
        rows = max(1, min(self.groups[group], _PIECE // max(unpacked, 1), 2**16))
        seen = taken = 0
        try:
            for batch in self._file.iter_batches(rows, row_groups=[group], columns=[column], use_threads=False):
                part = _leaf(batch, column)
                seen, taken = seen + len(part), taken + part.nbytes
                if taken > most:
                    raise Refused(f"unpacks to more than {most:,} bytes in column {column!r}")
                yield part
        except Refused:
            raise
        except Exception as error:  # damaged pages fail in many ways; memory is one of them
            raise Refused(f"is damaged in column {column!r} ({str(error)[:200] or type(error).__name__})") from None
        if seen != self.groups[group]:
            raise Refused(f"holds {seen:,} rows in a group, not {self.groups[group]:,} as it says")


class RowGroup:
    """The images of a row group, for one thread to read in their order: an earlier one is read from the beginning.

    Parameters
    ----------
    table : Table
    group : int
    """

    def __init__(self, table: Table, group: int) -> None:
        import pyarrow as pa

        self._table, self._group = table, group
        self._release: Callable[[], None] = pa.default_memory_pool().release_unused
        self._batches: Generator[Any] | None = None
        self._begin()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the pages, and have pyarrow's allocator, which would keep them, give them back to the system."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
            self._release()

    def _begin(self) -> None:
        self.close()
        self._batches = self._table.batches(self._group)
        self._first = self._stop = 0
        self._part: Any = None
        self._refusal: Refused | None = None

    def read(self, at: int) -> bytes | None:
        """Return the bytes of an image, or None where the row has none; it may raise ``Refused``."""
        if at < self._first:
            self._begin()
        while at >= self._stop:
            self._part = None  # lets the old rows go before the new come
            self._go_on()
        content: bytes | None = self._part[at - self._first].as_py()
        return content

    def _go_on(self) -> None:
        if self._refusal is not None:  # of all rows from here on
            raise Refused(str(self._refusal))
        assert self._batches is not None
        try:
            part = next(self._batches)
            if self._stop + len(part) == self._table.groups[self._group]:
                next(self._batches, None)  # finds out whether there is more than there should be
                self.close()
        except Unavailable:
            self._begin()
            raise
        except Refused as refused:
            self._first, self._refusal = self._stop, refused
            raise
        self._part, self._first = part, self._stop
        self._stop += len(part)


def open_table(ranges: Ranges, column: str = "") -> Table:
    """Open a parquet file, here or in an object store; raises ``Refused`` if it is none."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        what = "reading .parquet needs the package pyarrow, which is not installed."
        raise source_error("path", what, "pip install 'featpipe[parquet]'") from None
    size = ranges.mark.size
    tail = ranges.read_at(max(size - 8, 0), 8)
    if len(tail) < 8 or tail[4:] != _MAGIC:
        raise Refused("is not a parquet file" if size else "is empty (0 bytes)")
    footer = int.from_bytes(tail[:4], "little")
    if footer > min(_MOST_FOOTER, size):
        raise Refused(f"is not a readable parquet file (its footer has {footer:,} bytes)")
    part, buffer = Part(ranges, 0, size), max(ranges.ahead, _BUFFER)
    source = pa.PythonFile(part if isinstance(ranges, FileRanges) else io.BufferedReader(part, ranges.ahead), mode="r")
    try:
        return Table(ranges, parquet.ParquetFile(source, pre_buffer=False, buffer_size=buffer), column)
    except Refused:
        raise
    except Exception as error:  # damaged footers fail in many ways
        raise Refused(f"is not a readable parquet file ({str(error)[:200] or type(error).__name__})") from None


def _leaf(batch: Any, column: str) -> Any:
    """Return one column of a batch, or the bytes within one, which are then as large as those of the rows alone."""
    import pyarrow as pa

    name, _, inner = column.rpartition(".") if column not in batch.schema.names else (column, "", "")
    found = batch.column(name or column)
    if pa.types.is_struct(found.type):
        found = found.flatten()[[field.name for field in found.type].index(inner)]
    return found.cast(pa.large_binary()) if _is_bytes(found.type) else found


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's datasets tell of each column in the schema's metadata."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
        return {str(name): about for name, about in features.items() if isinstance(about, dict)}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def _bytes_of(field: Any) -> str:
    """Return the path of the bytes in a column, or nothing."""
    import pyarrow as pa

    if _is_bytes(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type) and any(part.name == "bytes" and _is_bytes(part.type) for part in field.type):
        return f"{field.name}.bytes"
    return ""


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    return any(test(kind) for test in tests)


def _text(value: Any, names: Sequence[str]) -> str:
    if value is None:
        return ""
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else ""
    return str(value)
