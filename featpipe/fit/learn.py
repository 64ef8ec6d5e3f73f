"""From patches to a bank: whitening, centroids, principal components, chosen patches.

All arithmetic is on one thread, so that a seed gives the same bits whatever the machine's number of cores.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from featpipe.errors import PlanError, Problem, key_path
from featpipe.kernels.fitted import FittedBank
from featpipe.plan.fitting import FitRequest

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def learn_bank(request: FitRequest, patches: Float32, sources: Int64) -> FittedBank:
    """Fit a bank to patches.

    Parameters
    ----------
    request : FitRequest
    patches : (m, y, x, c) float32
        As they lie in the map; their contrast is normalised here where the layer does so.
    sources : (m, 4) int64
        Image, row, column and first feature of each.

    Returns
    -------
    FittedBank

    Raises
    ------
    PlanError
        If there are fewer different patches than kernels.

    References
    ----------
    Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature learning, section 3.1
    (contrast, whitening, k-means); Coates and Ng 2011, The importance of encoding versus training, section 3
    (random patches); Chan et al. 2015, PCANet, section II-A (components of mean-removed patches); Rolf et al. 2021,
    A generalizable and accessible approach to machine learning with global satellite imagery, methods.
    """
    bank = request.bank
    rng = np.random.default_rng([bank.seed, 1])
    if bank.fit == "kmeans":
        import sklearn.cluster  # noqa: F401  (only the threads of what is loaded by now are limited)
    with threadpool_limits(1):
        distinct = _distinct(patches.reshape(len(patches), -1))
        values = _normalised(patches.reshape(len(patches), -1).astype(np.float64), request.epsilon)
        if bank.fit == "pca":
            values -= values.mean(axis=1, keepdims=True)
            _refuse_fewer(request, min(values.shape[1], len(distinct)), "components of such patches")
        else:
            _refuse_fewer(request, len(distinct), "different patches")
        whiten, shift = _whitening(values, bank.whiten.epsilon if bank.whiten else None)
        match bank.fit:
            case "pca":
                vectors = _components(values, bank.kernels)
            case "kmeans":
                seen = _whitened(values, whiten, shift)
                del values
                vectors = _centroids(seen, bank.kernels, bank.seed, bank.iterations)
            case _:
                chosen = np.sort(rng.choice(distinct, bank.kernels, replace=False))
                centred = values[chosen] if bank.whiten else values[chosen] - values[chosen].mean(axis=1, keepdims=True)
                vectors = centred @ whiten.T + shift if bank.whiten else centred
        if bank.unit:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        weights = vectors @ whiten
        bias = vectors @ shift
    shape = patches.shape[1:]
    return FittedBank(
        name=bank.fit,
        weights=weights.reshape(-1, *shape),
        bias=bias,
        whitening=whiten.reshape(-1, *shape),
        shift=shift,
        squares=(vectors**2).sum(axis=1),
        epsilon=request.epsilon,
        sources=sources,
        facts={"parameters": bank.model_dump(mode="json", exclude={"name"}), "key": request.key},
    )


def _normalised(values: Float64, epsilon: float | None) -> Float64:
    """Normalise every patch's contrast, (x - mean) / √(variance + epsilon)."""
    if epsilon is None:
        return values
    values -= values.mean(axis=1, keepdims=True)
    values /= np.sqrt(np.einsum("ij,ij->i", values, values)[:, None] / values.shape[1] + epsilon)
    return values


def _distinct(values: Float32) -> Int64:
    """Return the first of every patch that differs from those before it, but for patches of one value."""
    rows = np.ascontiguousarray(values).view(np.dtype((np.void, 4 * values.shape[1]))).ravel()
    first = np.sort(np.unique(rows, return_index=True)[1])
    found: Int64 = first[np.ptp(values[first], axis=1) > 0]
    return found


def _refuse_fewer(request: FitRequest, found: int, what: str) -> None:
    if found < request.bank.kernels:
        at = (*request.location, "bank", "kernels")
        text = f"asks for {request.bank.kernels:,}, and there are {found:,} {what}."
        raise PlanError(Problem(key_path(at), text, "Use fewer kernels, more patches, or other images.", at))


def _whitening(values: Float64, epsilon: float | None) -> tuple[Float64, Float64]:
    """Return W and -W · mean; the identity and zeros without whitening."""
    size = values.shape[1]
    if epsilon is None:
        return np.eye(size), np.zeros(size)
    mean = values.mean(axis=0)
    eigenvalues, vectors = np.linalg.eigh(values.T @ values / len(values) - np.outer(mean, mean))
    whiten = (vectors / np.sqrt(np.maximum(eigenvalues, 0) + epsilon)) @ vectors.T
    return whiten, -whiten @ mean


def _whitened(values: Float64, whiten: Float64, shift: Float64) -> Float32:
    """Return the whitened patches, a few at a time: they are many."""
    seen = np.empty(values.shape, np.float32)
    for start in range(0, len(values), 4096):
        part = slice(start, start + 4096)
        seen[part] = values[part] @ whiten.T + shift
    return seen


def _components(values: Float64, count: int) -> Float64:
    """Return the leading eigenvectors of the patches' second moments, the largest entry of each positive."""
    _, vectors = np.linalg.eigh(values.T @ values)
    leading = vectors[:, ::-1][:, :count].T
    largest = leading[np.arange(count), np.abs(leading).argmax(axis=1)]
    found: Float64 = leading * np.sign(largest)[:, None]
    return found


def _centroids(values: Float32, count: int, seed: int, iterations: int) -> Float64:
    """Return the centroids of k-means, begun at random patches."""
    from sklearn.cluster import KMeans

    model: Any = KMeans(count, init="random", n_init=1, max_iter=iterations, random_state=seed, algorithm="lloyd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge in so few rounds
        model.fit(values)
    return np.asarray(model.cluster_centers_, np.float64)
