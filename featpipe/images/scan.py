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
from featpipe.images.files import probe_headers
from featpipe.images.header import Header
from featpipe.images.labels import Labelling, label
from featpipe.images.listing import Listing
from featpipe.images.media import open_medium
from featpipe.images.places import find_local, find_remote
from featpipe.images.refusal import Refused, Unavailable, check_readable, source_error, told_error
from featpipe.images.region import region_origin, region_shape
from featpipe.images.resize import wrong_size
from featpipe.images.values import channel_names, kept_bytes, preparing_bytes, recoloured
from featpipe.objects import is_url
from featpipe.plan.collection import Collection
from featpipe.reading.files import exists, is_file
from featpipe.reading.retry import is_transient
from featpipe.spec.pipeline import Images

_SAMPLE = 64
_LOCAL, _REMOTE = 4, 32
"""Threads that read headers."""
_PROBING_BYTES = 128 * 2**20
"""What threads that read headers may hold, in bytes: less than compiled kernels take, which are not there yet."""
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
    try:
        return _scan(images)
    except OSError as error:
        if not is_transient(error):
            raise
        raise source_error("path", f"{images.path} could not be reached ({told_error(error)}).", cause=error) from error


def _scan(images: Images) -> Collection:
    if is_url(images.path):
        return arrays.scan_zarr(images) if _kind(images.path) == "zarr" else _collect(images, find_remote(images))
    path = Path(images.path)
    if not folders.is_glob(path):
        if not exists(path):
            raise folders.missing(path)
        if arrays.is_zarr(path):
            return arrays.scan_zarr(images)
        if _kind(images.path) == "npy" and is_file(path):
            return arrays.scan_npy(images)
    return _collect(images, find_local(images))


def _kind(path: str) -> str:
    return path.rstrip("/").rpartition(".")[2].lower()


def _collect(images: Images, listing: Listing) -> Collection:
    paths = listing.paths
    labelling = label(images, paths, listing.columns, listing.folders, listing.classes)
    first: dict[str, int] = {}
    same = [first.setdefault(name, i) for i, name in enumerate(paths)]  # a manifest may name an image several times
    readable = [i for i in first.values() if i not in listing.missing]
    probed = images.size is None or images.color == "keep"
    rows = readable if probed else _spread(readable, _SAMPLE)
    threads, together = _probing(listing)
    headers = probe_headers(open_medium(listing), rows, images, threads=threads, together=together)
    failed = dict(listing.missing)
    refused = {i: why for i, header in headers.items() if (why := _refusal(header, images))}
    parts = probed and _by_parts(headers, refused, images)
    refused |= {i: why for i in headers if i not in refused and (why := _excess(headers[i], images, parts))}
    away = {i for i, header in headers.items() if isinstance(header, Unavailable)}
    if probed:
        failed |= {i: why for i, why in refused.items() if images.size is None or i not in away}
    unreadable = {i: failed[k] for i, k in enumerate(same) if k in failed}
    unavailable = frozenset(i for i, k in enumerate(same) if k in failed and k in away)
    check_readable(images, paths, unreadable, unavailable)
    good = {i: header for i, header in headers.items() if isinstance(header, Header) and i not in refused}
    if probed and not good:
        check_readable(images, paths, dict.fromkeys(range(len(paths)), "could not be reached"), away)
    heights, widths = _shapes(images, same, good, unreadable)
    return Collection(
        kind=listing.kind, root=listing.root, paths=paths,
        labels=labelling.labels, classes=labelling.classes,
        splits=labelling.splits, split_names=labelling.split_names,
        heights=heights, widths=widths, channels=_channels(images, paths, good),
        decoded_bytes=_decoded_bytes(images, same, good, listing, unreadable, probed=probed),
        regions=parts, region_bytes=_part_bytes(good, images), digest=_digest(listing, labelling),
        stamps=_stamps(listing), found=listing.kind in {"files", "objects"} and listing.columns is None,
        dtype=_common_dtype(good), unreadable=unreadable, unavailable=unavailable, places=listing.places,
        odd_names=listing.odd_names, origin=region_origin(images), passed=listing.passed,
    )  # fmt: skip


def _probing(listing: Listing) -> tuple[int, int]:
    """Return how many threads read headers, and how many rows each at once: of tables, whole row groups pass by."""
    threads = _REMOTE if is_url(listing.root) else _LOCAL
    if listing.kind != "parquet" or listing.held is None or listing.places is None:
        return threads, 16
    room = _PROBING_BYTES // max(int(listing.held.max(initial=0)), 1)
    return max(1, min(threads, room)), int(listing.places.numbers[:, 2].max(initial=0)) + 1


def _spread(rows: Sequence[int], count: int) -> list[int]:
    """Return up to ``count`` rows, evenly spread."""
    if len(rows) <= count:
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]


def _refusal(header: Header | Refused, images: Images) -> str:
    """Return why an image does not do, or nothing."""
    if isinstance(header, Refused):
        return str(header)
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


def _by_parts(headers: Mapping[int, Header | Refused], refused: Mapping[int, str], images: Images) -> bool:
    """Return whether blocks of every readable image can be read without reading it whole."""
    good = (header for i, header in headers.items() if i not in refused and isinstance(header, Header))
    return images.size is None and all(header.by_parts(images.orientation) for header in good)


def _excess(header: Header | Refused, images: Images, parts: bool) -> str:
    """Return why an image is too large, where it will be decoded whole after all, because others have to be."""
    if parts or isinstance(header, Refused) or images.region is not None:
        return ""
    try:
        refuse_many_pixels(header, images)
    except Refused as refused:
        return str(refused)
    return ""


def _part_bytes(good: Mapping[int, Header], images: Images) -> int:
    """Bound what reading a part of any image takes beside its pixels, in bytes; 0 where none is read by parts."""
    parts = [header for header in set(good.values()) if header.by_parts(images.orientation)]
    least = max((preparing_bytes((_EDGE, _EDGE, header.channels), images) for header in parts), default=0)
    return least + max((header.part_bytes for header in parts), default=0)


def _shapes(
    images: Images, same: Sequence[int], good: Mapping[int, Header], unreadable: Mapping[int, str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return heights and widths as the chain sees them, in pixels."""
    if images.size is None:
        known = {i: region_shape(images, header.shape(images.orientation)) for i, header in good.items()}
        shapes = np.array([known.get(i, (0, 0)) for i in same], np.int64).reshape(-1, 2)
    else:
        shapes = np.tile(np.array(images.size, np.int64), (len(same), 1))
        shapes[list(unreadable)] = 0
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])


def _channels(images: Images, paths: Sequence[str], good: Mapping[int, Header]) -> tuple[str, ...]:
    if images.color != "keep":
        return channel_names(1 if images.color == "gray" else 3)
    counts = Counter(header.channels for header in good.values())
    if len(counts) > 1:
        examples = {header.channels: paths[i] for i, header in reversed(list(good.items()))}
        kinds = ", ".join(f"{n:,} with {c} (as {examples[c]})" for c, n in sorted(counts.items()))
        what = f"the images differ in their number of channels: {kinds}."
        raise source_error("color", what, "Set images.color: rgb or images.color: gray.")
    return channel_names(next(iter(counts)))


def _common_dtype(good: Mapping[int, Header]) -> str:
    common = Counter(header.dtype for header in good.values()).most_common(1)
    return common[0][0] if common else "uint8"


def _decoded_bytes(
    images: Images,
    same: Sequence[int],
    good: Mapping[int, Header],
    listing: Listing,
    unreadable: Mapping[int, str],
    *,
    probed: bool,
) -> npt.NDArray[np.int64]:
    """Bound the memory of reading each image; a sample of them speaks for all where headers were not read."""
    kept = max((kept_bytes(_shape(header, images), images) for header in set(good.values())), default=0)
    held = np.zeros(len(same), np.int64) if listing.held is None else listing.held
    sizes = listing.sizes
    known = {i: kept + reading_bytes(header, int(sizes[i]), images) + int(held[i]) for i, header in good.items()}
    if probed:
        return np.array([known.get(i, 0) for i in same], np.int64)
    most = max(2 * max(known.values(), default=0), _LEAST_BYTES, int(held.max(initial=0)))
    return np.array([0 if i in unreadable else most for i in range(len(same))], np.int64)


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


def _digest(listing: Listing, labelling: Labelling) -> str:
    whole = hashlib.sha256()
    facts = zip(listing.paths, listing.sizes.tolist(), listing.tags, strict=True)
    whole.update("\n".join(f"{name}\0{size}\0{tag}" for name, size, tag in facts).encode())
    whole.update(repr((labelling.classes, labelling.split_names)).encode())
    whole.update(labelling.labels.tobytes() + labelling.splits.tobytes())
    return whole.hexdigest()


def _stamps(listing: Listing) -> npt.NDArray[np.int64]:
    """Return size and tag of every image as numbers."""
    tags = [tag if isinstance(tag, int) else _number(tag) for tag in listing.tags]
    return np.stack([listing.sizes, np.array(tags, np.int64)], axis=1)


def _number(tag: str) -> int:
    return int.from_bytes(hashlib.sha256(tag.encode()).digest()[:8], "little", signed=True)
