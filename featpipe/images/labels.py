"""Labels and splits: from folders, from columns, or drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featpipe.images.refusal import nearest, source_error
from featpipe.spec.pipeline import Images, RandomSplit

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLIT_ORDER = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, eq=False)
class Labelling:
    """Class and split of every image, as indices into names; -1 for none."""

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    split_names: tuple[str, ...]


def label(
    images: Images,
    paths: Sequence[str],
    columns: Mapping[str, Sequence[str]] | None,
    folders: Sequence[str] | None = None,
    known: Mapping[str, Sequence[str]] | None = None,
) -> Labelling:
    """Find every image's class and split.

    Parameters
    ----------
    images : Images
        Its ``labels`` and ``split``.
    paths : sequence of str
        Relative, POSIX-style.
    columns : mapping, optional
        Column of a manifest to its values; None for sources without columns, where folders are looked at unasked.
    folders : sequence of str, optional
        Paths whose folders are looked at, unasked too where no column tells; ``paths`` unless given.
    known : mapping, optional
        Names of all classes of a column, in their order.
    """
    splits, classes = _folders(paths if folders is None else folders)
    unasked = columns is None or folders is not None
    labels = _choose("labels", images.labels, "label", classes, columns, unasked=unasked)
    told = (known or {}).get(images.labels or "label", ())
    there = set(labels) - {""}
    codes, names = encode(
        labels, told if there <= set(told) and len(set(told)) == len(told) else _sorted_classes(there)
    )
    if isinstance(images.split, RandomSplit):
        drawn, split_names = draw_splits(images.split, paths)
    else:
        chosen = _choose("split", images.split, "split", splits, columns, unasked=unasked)
        found = sorted(set(chosen) - {""}, key=lambda name: (_SPLIT_ORDER.get(name, 3), name))
        if len(found) > 127:
            raise source_error("split", f"there are {len(found)} splits, at most 127 can be told apart.")
        split_codes, split_names = encode(chosen, found)
        drawn = split_codes.astype(np.int8)
    return Labelling(codes, names, drawn, split_names)


def encode(values: Sequence[str], names: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return each value's index in ``names``, -1 for the empty string."""
    index = {name: i for i, name in enumerate(names)} | {"": -1}
    return np.fromiter((index[value] for value in values), np.int64, len(values)), tuple(names)


def _sorted_classes(names: set[str]) -> list[str]:
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _folders(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return split and class of every image by its folders, "" for none.

    The first folder is the class; where all first folders are named after splits they are that, and the next the class.
    """
    folders = [[part for part in path.split("/")[:-1] if part not in ("", ".")][:2] for path in paths]
    first = {parts[0].lower() for parts in folders if parts}
    if first and first <= SPLIT_FOLDERS.keys():
        splits = [SPLIT_FOLDERS[parts[0].lower()] if parts else "" for parts in folders]
        return splits, [parts[1] if len(parts) > 1 else "" for parts in folders]
    return [""] * len(folders), [parts[0] if parts else "" for parts in folders]


def _choose(
    key: str,
    option: str | None,
    default: str,
    folders: list[str],
    columns: Mapping[str, Sequence[str]] | None,
    *,
    unasked: bool,
) -> Sequence[str]:
    if option is None:
        return (columns or {}).get(default, folders if unasked else [""] * len(folders))
    if option == "none":
        return [""] * len(folders)
    if option == "folders":
        if not any(folders):
            wanted = "class folders" if key == "labels" else "folders named train, val or test"
            raise source_error(key, f"there are no {wanted} to take it from.", f"Set images.{key}: none.")
        return folders
    if columns is None:
        raise source_error(
            key, f"there is no column {option!r}: only a manifest has columns.", "Use folders, none, or a manifest."
        )
    if option not in columns:
        known = ", ".join(name for name in columns if name != "path") or "none beside path"
        raise source_error(key, f"there is no column {option!r}; there are: {known}.", nearest(option, columns))
    return columns[option]


def draw_splits(split: RandomSplit, paths: Sequence[str]) -> tuple[npt.NDArray[np.int8], tuple[str, ...]]:
    """Draw exactly ``round(share * n)`` images of each split, by the order of a hash of seed and path."""
    n = len(paths)
    test, val = round(split.test * n), round((split.val or 0) * n)
    if split.test + (split.val or 0) >= 1:
        raise source_error("split", f"test {split.test} and val {split.val} leave nothing to train on.")
    keys = [hashlib.sha256(f"{split.seed}\0{path}".encode()).digest() for path in paths]
    order = sorted(range(n), key=keys.__getitem__)
    names = ("train", "test") if split.val is None else ("train", "val", "test")
    codes = np.zeros(n, np.int8)
    codes[order[:test]] = names.index("test")
    if split.val is not None:
        codes[order[test : test + val]] = names.index("val")
    return codes, names
