"""What the page asks for: a chain's maps and what is wrong with it, and what a value is made of."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featpipe.errors import FeatpipeError, Problem
from featpipe.explore.chains import Chain, Shelf, branches, images_of, layer_of, read_draft, resolve_chain
from featpipe.explore.maps import Maps, identities
from featpipe.explore.pictures import PAGE, Range, colour_range, plane, thumbnails
from featpipe.explore.subject import Subject
from featpipe.explore.writing import typed, write_pipeline
from featpipe.kernels.bank import feature_name
from featpipe.plan.labels import known_labels
from featpipe.plan.program import ROOT, ConvolveOp, Program
from featpipe.printable import printable
from featpipe.spec.pipeline import Images
from featpipe.trace import Example, explain, kernel_of, seen

KEPT_PROGRAMS = 8
"""Programs whose values can still be explained."""
MOST_SPANNED = 4
"""Channels of a kernel that are sent."""
MOST_TERMS = 20_000
"""Samples and weights that are sent of one value."""


@dataclass(frozen=True)
class Look:
    """What the page wants to see."""

    text: str | None = None
    """The pipeline as YAML; or else"""
    data: Mapping[str, Any] | None = None
    """as plain data."""
    branch: str = ""
    scale: int = 1
    most: int = 512
    """Longest edge of the image, in pixels."""
    chosen: Mapping[str, int] = field(default_factory=dict)
    """Of a panel, by its number: which feature to show in full."""
    first: Mapping[str, int] = field(default_factory=dict)
    """The first of its thumbnails."""
    have: frozenset[str] = frozenset()
    """Parts that the page has already."""


@dataclass
class _Seen:
    """A program that was shown."""

    program: Program
    keys: dict[int, str]
    shapes: Mapping[int, tuple[int, int]]
    image: Example


class Session:
    """What one page looks at.

    Parameters
    ----------
    subject : Subject
        The image.
    folder : Path
        What paths in pipelines are relative to.
    shelf : callable
        Where learned banks are looked for.
    """

    def __init__(self, subject: Subject, folder: Path, shelf: Shelf) -> None:
        self.subject = subject
        self.folder = folder
        self.shelf = shelf
        self.text = ""
        """The pipeline that was looked at last, so that a page that is loaded again goes on with it."""
        self.maps = Maps()
        self.lock = threading.Lock()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._ranges: dict[str, Range] = {}

    def warm_up(self) -> None:
        """Load what the first chains need, and get memory for them, while the page is being opened."""
        layers = [{"convolve": {"bank": "gabor", "frequencies": [0.1, 0.2]}}, "modulus", {"pool": {"max": 2}}]
        with self.lock:
            self._look(Look(data={"images": {"color": "gray"}, "features": {"a": {"layers": layers}}}))

    def look(self, look: Look) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
        """Compute what the page wants to see.

        Returns
        -------
        header : dict
            JSON-able: the pipeline as text and as data, what is wrong, and the panels.
        parts : list of array
            What the header numbers.
        """
        with self.lock:
            header, parts = self._look(look)
            self.text = header["text"]
            return header, parts

    def _look(self, look: Look) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
        began = time.perf_counter()
        problems: list[Problem] = []
        text = look.text if look.text is not None else write_pipeline(typed(dict(look.data or {}), problems))
        draft = read_draft(text, self.folder)
        problems += draft.problems
        found = branches(draft.data)
        branch = look.branch if look.branch in found else next(iter(found), "")
        scale = look.scale if look.scale in found.get(branch, [1]) else found.get(branch, [1])[0]
        header: dict[str, Any] = {"text": text, "data": draft.data, "branches": found, "branch": branch, "scale": scale}
        parts = _Parts(look.have)
        try:
            example, key = self.subject.look(images_of(draft.data, self.folder) or Images(path="image"), look.most)
        except FeatpipeError as error:
            problems += error.problems
            return {**header, "image": None, "panels": [], "problems": _told(problems, branch)}, []
        image = example.pixels
        header["image"] = self._image_facts(example, key, parts)
        chain = resolve_chain(
            draft.data, self.folder, (branch, scale), example.channels, (image.shape[0], image.shape[1]), self.shelf
        )
        keys = identities(chain.program, key)
        resolved = time.perf_counter()
        computed = self.maps.compute(chain.program, image, keys, range(len(chain.program.nodes)))
        done = time.perf_counter()
        self._remember(_Seen(chain.program, keys, chain.shapes, example))
        header["panels"] = [
            {**self._panel(chain, keys, i, look, parts), "computed": i in computed}
            for i in range(len(chain.program.nodes))
        ]
        header["problems"] = _told([*problems, *chain.problems], branch)
        header["ms"] = {
            "resolve": 1e3 * (resolved - began), "compute": 1e3 * (done - resolved),
            "pictures": 1e3 * (time.perf_counter() - done),
        }  # fmt: skip
        return header, parts.arrays

    def _image_facts(self, example: Example, key: str, parts: _Parts) -> dict[str, Any]:
        y, x, channels = example.pixels.shape
        subject = self.subject
        return {
            "key": key, "name": printable(subject.name), "path": subject.path, "kind": subject.kind,
            "shape": [y, x, channels], "channels": list(example.channels),
            "origin": list(example.origin), "whole": list(example.whole),
            "range": _ends(example.pixels),
            "pixels": parts.add(f"{key}:pixels", lambda: example.pixels),
        }  # fmt: skip

    def _panel(self, chain: Chain, keys: dict[int, str], i: int, look: Look, parts: _Parts) -> dict[str, Any]:
        node, key = chain.program.nodes[i], keys[i]
        values = self.maps.get(key)
        assert values is not None
        if key not in self._ranges:
            self._ranges[key] = colour_range(values)
        span = self._ranges[key]
        features = len(node.features)
        chosen = min(max(0, look.chosen.get(str(i), 0)), features - 1)
        first = min(max(0, look.first.get(str(i), 0)), (features - 1) // PAGE * PAGE)
        layer = layer_of(node.location, str(node.location[1]))
        window = None if node.windows is None else [[w.size, w.stride, w.offset] for w in node.windows]
        return {
            "key": key, "node": i, "parent": node.parent, "layer": -1 if layer is None else layer,
            "title": node.title, "shape": [*chain.shapes[i], features], "window": window,
            "labels": known_labels(chain.program.features(node.parent)),
            "span": [span.low, span.high, span.signed], "chosen": chosen, "first": first,
            "name": printable(feature_name(node.features[chosen])),
            "names": [feature_name(labels) for labels in node.features[first : first + PAGE]],
            "plane": parts.add(f"{key}:plane:{chosen}", lambda: plane(values, chosen)),
            "thumbs": parts.add(f"{key}:thumbs:{first}", lambda: thumbnails(values, span, first)),
            "kernel": self._kernel(chain.program, i, chosen, f"{key}:kernel:{chosen}", parts),
        }  # fmt: skip

    def _kernel(self, program: Program, i: int, feature: int, name: str, parts: _Parts) -> dict[str, Any] | None:
        """Return the kernel of a convolution's feature, and the names of what it spans."""
        node = program.nodes[i]
        if not isinstance(node.op, ConvolveOp):
            return None
        kernel = kernel_of(node.op, feature, program.width(node.parent))
        inputs = program.features(node.parent) if kernel.weights.shape[2] > 1 else ()
        names = [feature_name(labels) for labels in inputs[:MOST_SPANNED]]
        return {**parts.add(name, lambda: kernel.weights[..., :MOST_SPANNED]), "names": names}

    def _remember(self, seen_now: _Seen) -> None:
        for key in seen_now.keys.values():
            self._seen[key] = seen_now
            self._seen.move_to_end(key)
        while len({id(one) for one in self._seen.values()}) > KEPT_PROGRAMS:
            self._seen.popitem(last=False)
        self._ranges = {key: span for key, span in self._ranges.items() if key in self._seen}

    def terms(self, key: str, at: tuple[int, int], feature: int) -> dict[str, Any]:
        """Return what one value is made of, and what it sees of the image.

        Parameters
        ----------
        key : str
            Identity of its map.
        at : (int, int)
            Row and column.
        feature : int

        Raises
        ------
        FeatpipeError
            If the map is no longer there.
        """
        with self.lock:
            one, node = self._find(key)
            before = one.image.pixels
            parent = one.program.nodes[node].parent
            if parent != ROOT:
                self.maps.compute(one.program, before, one.keys, one.program.path(node))
                before = self.maps.get(one.keys[parent])  # type: ignore[assignment]
            values = self.maps.get(key)
            assert values is not None
            rows, columns, features = values.shape
            if not (0 <= at[0] < rows and 0 <= at[1] < columns and 0 <= feature < features):
                what = f"there is no value at ({at[0]}, {at[1]}) of feature {feature} in {rows}×{columns}×{features}."
                raise FeatpipeError(Problem("page", what))
            return _term_facts(one, node, before, at, feature, float(values[(*at, feature)]))

    def _find(self, key: str) -> tuple[_Seen, int]:
        one = self._seen.get(key)
        node = next((i for i, k in one.keys.items() if k == key), ROOT) if one is not None else ROOT
        if one is None or node == ROOT:
            raise FeatpipeError(Problem("page", "this map is no longer there.", "Change the chain to see it again."))
        return one, node


class _Parts:
    """Arrays to send, but for those that the page has."""

    def __init__(self, have: frozenset[str]) -> None:
        self.have = have
        self.arrays: list[np.ndarray[Any, Any]] = []

    def add(self, name: str, make: Any) -> dict[str, Any]:
        """Return where a part is to be found."""
        if name in self.have:
            return {"id": name}
        array = make()
        self.arrays.append(array)
        return {"id": name, "part": len(self.arrays) - 1, "shape": list(array.shape), "dtype": array.dtype.name}


def problem_facts(problem: Problem) -> dict[str, Any]:
    """Return a problem as JSON, safe to show."""
    return {name: printable(getattr(problem, name)) for name in ("where", "what", "change")}


def _told(problems: list[Problem], branch: str) -> list[dict[str, Any]]:
    """Return problems as JSON, each once."""
    told: dict[tuple[Any, ...], dict[str, Any]] = {}
    for problem in problems:
        layer = layer_of(problem.location, branch)
        path = [str(part) for part in problem.location[4:]] if layer is not None else list(problem.location)
        one = {**problem_facts(problem), "layer": layer, "path": path}
        told.setdefault((problem.location, problem.what), one)
    return list(told.values())


def _term_facts(
    one: _Seen, node: int, before: np.ndarray[Any, Any], at: tuple[int, int], feature: int, value: float
) -> dict[str, Any]:
    """Return the terms of a value as JSON; of very many only those that weigh most."""
    terms = explain(one.program, before, node, at, feature)
    this = one.program.nodes[node]
    shapes = {**one.shapes, ROOT: one.image.pixels.shape[:2]}
    spans = seen(one.program, shapes, node, at)
    facts: dict[str, Any] = {
        "value": _listed(value)[0], "op": type(this.op).__name__.removesuffix("Op").lower(), "title": this.title,
        "by": getattr(this.op, "by", None), "name": printable(feature_name(this.features[feature])),
        "seen": [[span.start, span.stop] for span in spans],
        "rows": terms.rows.tolist(), "columns": terms.columns.tolist(), "features": terms.features.tolist(),
        "names": [feature_name(one.program.features(this.parent)[i]) for i in terms.features[:64]],
        "bias": terms.bias, "gain": terms.gain, "count": int(terms.values.size),
    }  # fmt: skip
    if terms.weights is not None:
        facts["sum"] = _listed(terms.products.sum())[0]
    if terms.values.size <= MOST_TERMS:
        facts["values"] = _listed(terms.values)
        facts["weights"] = None if terms.weights is None else _listed(terms.weights)
    return facts


def _ends(pixels: np.ndarray[Any, Any]) -> list[float]:
    """Return the least and the largest of the values that are finite."""
    shown = pixels[np.isfinite(pixels)]
    return [float(shown.min()), float(shown.max())] if shown.size else [0.0, 0.0]


def _listed(values: Any) -> list[float | None]:
    """Return numbers in a row; what is infinite (a maximum's padding) as None."""
    flat = np.asarray(values, np.float64).ravel()
    return [float(v) if np.isfinite(v) else None for v in flat]
