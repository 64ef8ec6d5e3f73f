"""A small store with all that there can be, and what is done to it: bits that flip, files cut short, names lost."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from PIL import Image

from featpipe.run import RunReport, default_resources, plan_run, run_plan
from featpipe.run.verify import verify_store
from featpipe.spec.load import parse_pipeline
from featpipe.store.create import memory_store
from featpipe.store.place import Place, open_place
from featpipe.store.seal import read_all

RESOURCES = default_resources(threads=1)
Tree = dict[str, bytes]


def make_images(folder: Path) -> Path:
    """Draw images of two classes and splits, one of which cannot be read."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(3):
            path = folder / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 48), np.uint8)).save(path)
    (folder / "test" / "b" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return folder


def pipeline(images: Path, store: str, *, blocks: bool = True) -> dict[str, Any]:
    """Return a pipeline with a learned bank, labels and splits, and blocks of large images or small ones in batches."""
    learned = {"fit": "random-patches", "kernels": 3, "size": 3, "patches": 20}
    cells = [{"convolve": {"bank": learned}}, {"pool": {"mean": {"grid": [2, 2]}}}]
    edges = [{"convolve": {"bank": "sobel"}}, {"pool": {"max": 4}}]
    return {
        "images": {"path": str(images), "color": "gray"},
        "features": {"cells": {"layers": cells}, "edges": {"layers": edges}},
        "store": {"path": store, **({"block": [32, 32]} if blocks else {"batch": 3})},
    }


def run(data: Mapping[str, Any], **options: Any) -> RunReport:
    return run_plan(plan_run(parse_pipeline(data), RESOURCES), **options)


def tree_of(place: Place) -> Tree:
    """Return every file of a store."""
    return {key: content or b"" for key, content in read_all(place, [key for key, _ in place.files()])}


def put_back(place: Place, whole: Tree) -> None:
    """Make a store what it was."""
    now = tree_of(place)
    place.remove([key for key in now if key not in whole])
    for key, content in whole.items():
        if now.get(key) != content:
            place.write(key, [content])


def seen_by_a_reader(tree: Tree) -> dict[tuple[str, bool], Any] | None:
    """Return all that zarr-python reads of a store, by way of its consolidated metadata and not; None if it refuses."""
    found: dict[tuple[str, bool], Any] = {}
    names = sorted(key.removesuffix("zarr.json").rstrip("/") for key in tree if key.endswith("zarr.json"))
    try:
        for together in (True, False):
            root = zarr.open_group(memory_store(tree), mode="r", use_consolidated=together)
            for name in names:
                node: Any = root[name] if name else root
                values = np.asarray(node[...]) if isinstance(node, zarr.Array) else None
                held = None if values is None else values.tolist() if values.dtype.kind == "T" else values.tobytes()
                found[name, together] = (str(node.metadata.to_dict()), held)
    except Exception:  # whatever it says
        return None
    return found


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Return a file's content with one bit that is another."""
    at = draw.randrange(8 * len(content))
    changed = bytearray(content)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


class Patient:
    """A complete store, and what it was.

    Parameters
    ----------
    data : mapping
        Its pipeline.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.path: str = data["store"]["path"]
        run(data)
        self.place = open_place(self.path)
        self.whole = tree_of(self.place)
        self.seen = seen_by_a_reader(self.whole)
        self.shown = 0
        assert self.seen is not None
        assert not self.named()

    def named(self) -> set[str]:
        """Return the files that ``verify`` names."""
        problems = verify_store(self.path, resources=RESOURCES).problems
        assert all("bug" not in str(problem) for problem in problems)
        return {problem.where.removeprefix(f"{self.path}/") for problem in problems}

    def harm(self, key: str, content: bytes, *, look: bool = False) -> None:
        """Damage a file, and assert that ``verify`` names it and ``run`` mends it, without having been asked.

        Parameters
        ----------
        key : str
        content : bytes
            In the place of the file's own.
        look : bool
            Whether to count the damage that a reader sees.
        """
        self.place.write(key, [content])
        self.shown += look and seen_by_a_reader({**self.whole, key: content}) != self.seen
        assert self.named() == {key}, key
        assert run(self.data).status == "complete", key
        assert tree_of(self.place) == self.whole, key
