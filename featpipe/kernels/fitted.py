"""A bank that was learned from patches: its kernels, and what distances to its centroids need; and its file."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location, Problem, SpecError
from featpipe.kernels.bank import Bank, Kernel
from featpipe.kernels.files import LARGEST_BANK
from featpipe.reading.files import read_file
from featpipe.replacing import replacing

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
ARRAYS = ("weights", "bias", "whitening", "shift", "squares")
FORMAT = 1
"""Of the file."""


@dataclass(frozen=True, eq=False)
class FittedBank:
    """Kernels fitted to patches, the whitening of these folded in.

    A patch is p, (y, x, c), its contrast normalised already where the layer does so; its whitened form is
    w = ``whitening`` · p + ``shift``, and a kernel's vector v in that space gives the response v · w.

    Parameters
    ----------
    name : str
        The fit: ``kmeans``, ``pca``, ``zca-patches``, ``random-patches``.
    weights : (k, y, x, c) float64
        So that ``weights`` · p + ``bias`` = v · w.
    bias : (k,) float64
    whitening : (d, y, x, c) float64
        Of unit kernels where patches are not whitened.
    shift : (d,) float64
    squares : (k,) float64
        v · v: then |w - v|² = w · w - 2 (``weights`` · p + ``bias``) + ``squares``.
    epsilon : float, optional
        Of the patches' contrast normalisation.
    sources : (m, 4) int64
        Image, row, column and first feature of every patch that it was fitted to.
    facts : dict
        How it was made.
    """

    name: str
    weights: Float64
    bias: Float64
    whitening: Float64
    shift: Float64
    squares: Float64
    epsilon: float | None = None
    sources: Int64 = field(default_factory=lambda: np.empty((0, 4), np.int64))
    facts: Mapping[str, Any] = field(default_factory=dict)

    def bank(self) -> Bank:
        """Return the kernels with their labels."""
        return Bank(tuple(Kernel(weights, {"bank": self.name, "kernel": i}) for i, weights in enumerate(self.weights)))

    def distance_bank(self) -> tuple[Bank, Float64]:
        """Return kernels and biases of |w - v|² - w · w, then of the components of w."""
        weights = np.concatenate([-2 * self.weights, self.whitening])
        bias = np.concatenate([self.squares - 2 * self.bias, self.shift])
        return Bank(tuple(Kernel(w, {"bank": self.name, "kernel": i}) for i, w in enumerate(weights))), bias


def bank_arrays(bank: FittedBank) -> dict[str, npt.NDArray[Any]]:
    """Return a bank as arrays: what its file and its place in a store hold."""
    return {**{name: getattr(bank, name) for name in ARRAYS}, "sources": bank.sources}


def bank_facts(bank: FittedBank) -> dict[str, Any]:
    """Return what is known of a bank besides, as plain data; ``sha256`` is of its arrays."""
    sha256 = _digest(bank_arrays(bank))
    return {"format": FORMAT, "fit": bank.name, "epsilon": bank.epsilon, "sha256": sha256, **bank.facts}


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    whole = hashlib.sha256()
    for name in (*ARRAYS, "sources"):
        dtype = "<i8" if name == "sources" else "<f8"
        whole.update(np.ascontiguousarray(arrays[name], dtype).tobytes())
    return whole.hexdigest()


def make_fitted(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> FittedBank:
    """Return the bank of these arrays and facts.

    Raises
    ------
    ValueError
        If they do not make one.
    """
    if facts.get("format") != FORMAT:
        raise ValueError(f"it is of format {facts.get('format')}, and {FORMAT} is read")
    missing = [name for name in (*ARRAYS, "sources") if name not in arrays]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    found = {name: np.ascontiguousarray(arrays[name], np.float64) for name in ARRAYS}
    k, d = len(found["bias"]), len(found["shift"])
    patch = found["weights"].shape[1:]
    shapes = {"weights": (k, *patch), "bias": (k,), "whitening": (d, *patch), "shift": (d,), "squares": (k,)}
    if len(patch) != 3 or any(found[name].shape != shape for name, shape in shapes.items()):
        raise ValueError("its arrays do not fit together")
    if not all(np.isfinite(values).all() for values in found.values()):
        raise ValueError("it holds numbers that are not finite")
    if facts.get("sha256") != _digest(arrays):
        raise ValueError("it was changed after it had been learned")
    rest = {key: value for key, value in facts.items() if key not in ("format", "fit", "epsilon", "sha256")}
    sources = np.asarray(arrays["sources"], np.int64)
    return FittedBank(str(facts.get("fit")), **found, epsilon=facts.get("epsilon"), sources=sources, facts=rest)


def write_learned_bank(path: str, bank: FittedBank) -> None:
    """Write a bank to an ``.npz`` file, whole or not at all."""
    with replacing(path) as draft, draft.open("wb") as stream:
        facts = np.array(json.dumps(bank_facts(bank), sort_keys=True))
        arrays: dict[str, Any] = bank_arrays(bank)
        np.savez(stream, facts=facts, **arrays)


def read_learned_bank(path: str, where: str = "bank.file", location: Location = ()) -> FittedBank:
    """Read a bank that `write_learned_bank` has written.

    Parameters
    ----------
    path : str
    where : str
        The key that names the file, for errors.
    location : tuple
        The same in parts, so that an error can tell line and column.

    Raises
    ------
    SpecError
        If it cannot be read, or holds something else.
    """
    try:
        content = io.BytesIO(read_file(path, 5 * LARGEST_BANK))
        with zipfile.ZipFile(content) as archive:
            if sum(member.file_size for member in archive.infolist()) > 4 * LARGEST_BANK:
                raise ValueError(f"it takes more than {4 * LARGEST_BANK >> 20} MiB")
        with np.load(content, allow_pickle=False) as found:
            if "facts" not in found:
                raise ValueError("it is no bank that featpipe fit has written")
            facts = json.loads(str(found["facts"]))
            return make_fitted({name: found[name] for name in found.files if name != "facts"}, facts)
    except FileNotFoundError:
        what, change = "there is no such file.", "Paths are relative to the pipeline file."
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        what, change = f"cannot be used ({error}).", "Write it with featpipe fit."
    raise SpecError(Problem(where, f"{path}: {what}", change, location))
