"""From ``images:`` of the pipeline file to the frozen list of images that planning rests on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featpipe.images import arrays, folders
from featpipe.images.decode import decoding_bytes, refuse_many_pixels
from featpipe.images.files import FileFact, probe_files, stat_files
from featpipe.images.header import EXTENSIONS, Header
from featpipe.images.labels import Labelling, label
from featpipe.images.manifest import read_manifest
from featpipe.images.refusal import Refused, check_readable, source_error
from featpipe.images.region import region_origin, region_shape
from featpipe.images.resize import wrong_size
from featpipe.images.values import channel_names, kept_bytes, preparing_bytes, recoloured
from featpipe.plan.collection import Collection
from featpipe.spec.pipeline import Images

_SAMPLE = 64
_LEAST_BYTES = 16 * 2**20
_EDGE = 256
"""Of a part so small that preparing it takes as much as a larger one does."""


def scan(images: Images) -> Collection:
    """List the images, their labels and shapes, without decoding any.

    Headers of files are read only where shapes or channels depend on them: without ``size``, or with ``color: keep``.

    Parameters
    ----------
    images : Images
        Its ``path`` is absolute.

    Raises
    ------
    SourceError
        If there are no images, none is readable, or they do not suit each other or the options.
    """
    path = Path(images.path)
    if folders.is_glob(path):
        root, paths = folders.list_glob(path)
        return _collect(images, root, paths, None)
    if not path.exists():
        raise folders.missing(path)
    if arrays.is_zarr(path):
        return arrays.scan_zarr(images)
    if path.is_dir():
        return _collect(images, path, folders.list_directory(path), None)
    match path.suffix.lower():
        case ".csv":
            columns = read_manifest(path)
            return _collect(images, path.parent, columns["path"], columns)
        case ".npy":
            return arrays.scan_npy(images)
        case suffix if suffix in EXTENSIONS:
            return _collect(images, path.parent, [path.name], None)
    what = f"{path} is not a directory, a manifest .csv, an image ({' '.join(sorted(EXTENSIONS))}), .npy or .zarr."
    raise source_error("path", what)


def _collect(
    images: Images, root: Path, paths: Sequence[str], columns: Mapping[str, Sequence[str]] | None
) -> Collection:
    _check_names(paths)
    labelling = label(images, paths, columns)
    facts = stat_files(root, paths, confined=columns is not None)
    readable = [name for name, fact in facts.items() if not fact.missing]
    probed = images.size is None or images.color == "keep"
    headers = probe_files(root, readable if probed else _spread(readable, _SAMPLE), images)
    failed = {name: fact.missing for name, fact in facts.items() if fact.missing}
    refused = {name: why for name, header in headers.items() if (why := _refusal(header, images))}
    parts = probed and _by_parts(headers, refused, images)
    refused |= {name: why for name in headers if name not in refused and (why := _excess(headers[name], images, parts))}
    if probed:
        failed |= refused
    unreadable = {i: failed[name] for i, name in enumerate(paths) if name in failed}
    check_readable(images, paths, unreadable)
    good = {name: header for name, header in headers.items() if isinstance(header, Header) and name not in refused}
    heights, widths = _shapes(images, paths, good, unreadable)
    return Collection(
        kind="files", root=str(root), paths=tuple(paths),
        labels=labelling.labels, classes=labelling.classes,
        splits=labelling.splits, split_names=labelling.split_names,
        heights=heights, widths=widths, channels=_channels(images, good),
        decoded_bytes=_decoded_bytes(images, paths, good, facts, unreadable, probed=probed),
        regions=parts, region_bytes=_part_bytes(good, images), digest=_digest(paths, facts, labelling),
        dtype=_common_dtype(good), unreadable=unreadable, origin=region_origin(images),
    )  # fmt: skip


def _check_names(paths: Sequence[str]) -> None:
    try:
        "\n".join(paths).encode()
    except UnicodeEncodeError:
        bad = next(name for name in paths if not name.isprintable())
        what = f"the file name {bad!r} is not UTF-8, so that no table can hold it."
        raise source_error("path", what, "Rename the file.") from None


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return up to ``count`` names, evenly spread."""
    if len(names) <= count:
        return list(names)
    return [names[i * len(names) // count] for i in range(count)]


def _refusal(header: Header | str, images: Images) -> str:
    """Return why an image does not do, or nothing."""
    if isinstance(header, str):
        return header
    try:
        recoloured(header.channels, images.color)
    except Refused as refused:
        return str(refused)
    try:
        shape = region_shape(images, header.shape(images.orientation))
    except Refused as refused:
        return str(refused)
    if images.fit == "error" and images.size is not None and shape != tuple(images.size):
        return wrong_size(shape, images.size)
    return ""


def _by_parts(headers: Mapping[str, Header | str], refused: Mapping[str, str], images: Images) -> bool:
    """Return whether blocks of every readable image can be read without reading it whole."""
    good = (header for name, header in headers.items() if name not in refused and isinstance(header, Header))
    return images.size is None and all(header.by_parts(images.orientation) for header in good)


def _excess(header: Header | str, images: Images, parts: bool) -> str:
    """Return why an image is too large, where it will be decoded whole after all, because others have to be."""
    if parts or isinstance(header, str) or images.region is not None:
        return ""
    try:
        refuse_many_pixels(header, images)
    except Refused as refused:
        return str(refused)
    return ""


def _part_bytes(good: Mapping[str, Header], images: Images) -> int:
    """Bound what reading a part of any image takes beside its pixels, in bytes; 0 where none is read by parts."""
    parts = [header for header in set(good.values()) if header.by_parts(images.orientation)]
    least = max((preparing_bytes((_EDGE, _EDGE, header.channels), images) for header in parts), default=0)
    return least + max((header.part_bytes for header in parts), default=0)


def _shapes(
    images: Images, paths: Sequence[str], good: Mapping[str, Header], unreadable: Mapping[int, str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return heights and widths as the chain sees them, in pixels."""
    if images.size is None:
        known = {name: region_shape(images, header.shape(images.orientation)) for name, header in good.items()}
        shapes = np.array([known.get(name, (0, 0)) for name in paths], np.int64).reshape(-1, 2)
    else:
        shapes = np.tile(np.array(images.size, np.int64), (len(paths), 1))
        shapes[list(unreadable)] = 0
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])


def _channels(images: Images, good: Mapping[str, Header]) -> tuple[str, ...]:
    if images.color != "keep":
        return channel_names(1 if images.color == "gray" else 3)
    counts = Counter(header.channels for header in good.values())
    if len(counts) > 1:
        examples = {header.channels: name for name, header in reversed(list(good.items()))}
        kinds = ", ".join(f"{n:,} with {c} (as {examples[c]})" for c, n in sorted(counts.items()))
        what = f"the images differ in their number of channels: {kinds}."
        raise source_error("color", what, "Set images.color: rgb or images.color: gray.")
    return channel_names(next(iter(counts)))


def _common_dtype(good: Mapping[str, Header]) -> str:
    common = Counter(header.dtype for header in good.values()).most_common(1)
    return common[0][0] if common else "uint8"


def _decoded_bytes(
    images: Images,
    paths: Sequence[str],
    good: Mapping[str, Header],
    facts: Mapping[str, FileFact],
    unreadable: Mapping[int, str],
    *,
    probed: bool,
) -> npt.NDArray[np.int64]:
    """Bound the memory of reading each image; a sample of them speaks for all where headers were not read."""
    kept = max((kept_bytes(_shape(header, images), images) for header in set(good.values())), default=0)
    known = {name: kept + reading_bytes(header, facts[name].bytes, images) for name, header in good.items()}
    if probed:
        return np.array([known.get(name, 0) for name in paths], np.int64)
    most = max(2 * max(known.values(), default=0), _LEAST_BYTES)
    return np.array([0 if i in unreadable else most for i in range(len(paths))], np.int64)


def reading_bytes(header: Header, file_bytes: int, images: Images) -> int:
    """Return a bound of what reading one file takes, in bytes: while it is decoded, or while it is prepared.

    It includes the prepared image itself, which a reader of blocks keeps.
    """
    blended = images.alpha == "white" and header.alpha
    prepared = preparing_bytes(_shape(header, images), images, blended=blended)
    if header.by_parts(images.orientation):
        height, width, _ = _shape(header, images)
        header, file_bytes = header._replace(height=height, width=width), 0
    stored = header.height * header.width * header.stored * np.dtype(header.dtype).itemsize
    return max(decoding_bytes(header, file_bytes), stored + prepared)


def _shape(header: Header, images: Images) -> tuple[int, int, int]:
    """Return height, width and channels of the part that is used, upright."""
    return (*region_shape(images, header.shape(images.orientation)), header.channels)


def _digest(paths: Sequence[str], facts: Mapping[str, FileFact], labelling: Labelling) -> str:
    whole = hashlib.sha256()
    whole.update("\n".join(f"{name}\0{facts[name].bytes}\0{facts[name].time}" for name in paths).encode())
    whole.update(repr((labelling.classes, labelling.split_names)).encode())
    whole.update(labelling.labels.tobytes() + labelling.splits.tobytes())
    return whole.hexdigest()
