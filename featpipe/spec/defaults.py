"""A pipeline as plain data again, in the file's own shape, with every default filled in."""

from __future__ import annotations

from typing import Any, assert_never

from featpipe.spec.activations import Activation
from featpipe.spec.banks import FileBank, InlineBank, RandomBank
from featpipe.spec.combining import BifLayer, CodeLayer, EigenvaluesLayer, ProductsLayer
from featpipe.spec.fits import FitBank, LearnedBank
from featpipe.spec.importing import Import
from featpipe.spec.layers import (
    ActivateLayer,
    Cells,
    Convolve,
    ConvolveLayer,
    ImportLayer,
    Layer,
    LocalLayer,
    ModulusLayer,
    Normalize,
    NormalizeLayer,
    Pool,
    PoolLayer,
    ReduceLayer,
    SaveLayer,
)
from featpipe.spec.local import Local
from featpipe.spec.padding import Padding
from featpipe.spec.pipeline import Pipeline


def resolved(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline as JSON-able data with defaults filled in.

    What has no default, but is found out from images or memory, is left out while it is not given; so is ``cluster``,
    which says where the features are made, not what they are.

    Parameters
    ----------
    pipeline : Pipeline

    Returns
    -------
    dict
        Such that ``parse_pipeline(resolved(pipeline)) == pipeline``; equal pipelines give equal data.
    """
    return {
        "images": pipeline.images.model_dump(exclude_none=True),
        "features": {
            name: {"scales": branch.scales, "layers": [_layer(layer) for layer in branch.layers]}
            for name, branch in pipeline.features.items()
        },
        "store": pipeline.store.model_dump(exclude_none=True),
    }


def written(value: Padding | Pool | Activation) -> Any:
    """Return one of the parts that the file writes shorter than its model does.

    Examples
    --------
    >>> from featpipe.spec.padding import VALID
    >>> written(VALID), written(Activation(name="relu"))
    ('valid', 'relu')
    """
    match value:
        case Padding():
            return _padding(value)
        case Pool():
            return _pool(value)
        case _:
            return _activation(value)


def _layer(layer: Layer) -> dict[str, Any] | str:
    match layer:
        case ConvolveLayer():
            return {"convolve": _convolve(layer.convolve)}
        case ActivateLayer():
            return {"activate": _activation(layer.activate)}
        case ModulusLayer():
            return "modulus"
        case ReduceLayer():
            return {"reduce": layer.reduce.model_dump()}
        case PoolLayer():
            return {"pool": _pool(layer.pool)}
        case NormalizeLayer():
            return {"normalize": _normalize(layer.normalize)}
        case ImportLayer():
            return {"import": _import(layer.imported)}
        case LocalLayer():
            return {"local": _local(layer.local)}
        case ProductsLayer():
            return "products"
        case EigenvaluesLayer():
            return "eigenvalues"
        case BifLayer() | CodeLayer():
            return layer.model_dump(exclude_none=True)
        case SaveLayer():
            return {"save": layer.save}
        case _:
            assert_never(layer)


def _convolve(convolve: Convolve) -> dict[str, Any]:
    options = convolve.model_dump(exclude={"source", "padding"}, exclude_none=True)
    return {**_bank(convolve), **options, "padding": _padding(convolve.padding)}


def _bank(convolve: Convolve) -> dict[str, Any]:
    match convolve.source:
        case InlineBank(values=values):
            return {"kernels": values}
        case FileBank(file=file, order=order):
            return {"kernels": file, "order": order}
        case LearnedBank(file=file):
            return {"bank": {"file": file}}
        case FitBank(whiten=whiten):
            numbers = convolve.source.model_dump(exclude={"name", "whiten", "iterations"}, exclude_none=True)
            rounds = {"iterations": convolve.source.iterations} if convolve.source.fit == "kmeans" else {}
            return {"bank": {**numbers, **rounds, "whiten": whiten.model_dump() if whiten else False}}
        case RandomBank():
            return {"bank": {"fit": "random", **convolve.source.model_dump(exclude={"name"})}}
        case _:
            return {"bank": convolve.source.name, **convolve.source.model_dump(exclude={"name"})}


def _import(stack: Import) -> dict[str, Any]:
    data = stack.model_dump(exclude={"taps", "padding", "pool", "activation"}, exclude_none=True)
    padding = {} if stack.padding is None else {"padding": _padding(stack.padding)}
    taps = {str(index): name for index, name in stack.taps.items()}
    return {**data, **padding, "taps": taps, "pool": _pool(stack.pool), "activation": _activation(stack.activation)}


def _local(local: Local) -> dict[str, Any]:
    return {**local.model_dump(exclude={"padding"}, exclude_none=True), "padding": _padding(local.padding)}


def _padding(padding: Padding) -> str | dict[str, Any]:
    if padding.explicit is not None:
        return padding.explicit.model_dump()
    return padding.mode if padding.same else "valid"


def _activation(activation: Activation) -> str | dict[str, Any]:
    return activation.name or activation.model_dump(by_alias=True, exclude_none=True)


def _pool(pool: Pool) -> dict[str, Any]:
    bins = {} if pool.bins is None else {"bins": pool.bins}
    if isinstance(pool.over, Cells):
        return {pool.by: pool.over.model_dump(), **bins}
    stride = {} if pool.stride is None else {"stride": pool.stride}
    return {pool.by: pool.over, **bins, **stride, "padding": _padding(pool.padding)}


def _normalize(normalize: Normalize) -> dict[str, Any]:
    if normalize.local is None:
        return {"mean": normalize.mean, "std": normalize.std}
    local = normalize.local
    return {"local": {**local.model_dump(exclude={"padding"}), "padding": _padding(local.padding)}}
