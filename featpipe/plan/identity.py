"""What the features depend on, as digests: a store made from anything else is another store."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt

from featpipe.kernels.positions import GivenKernels
from featpipe.plan.model import Plan
from featpipe.plan.program import ConvolveOp, LocallyConnectedOp, Program
from featpipe.spec.defaults import resolved

Float32 = npt.NDArray[np.float32]
ARITHMETIC = 1
"""Raised whenever the same pipeline would give other bits."""


def plan_digests(plan: Plan) -> dict[str, str]:
    """Return SHA-256 digests, as hex, of the pipeline with its banks, the images, and the pieces of the store."""
    spec = resolved(plan.pipeline)
    images = {key: value for key, value in spec["images"].items() if key not in ("path", "on_error", "max_pixels")}
    wish = {
        "images": images,
        "features": spec["features"],
        "dtype": plan.pipeline.store.dtype,
        "arithmetic": ARITHMETIC,
    }
    return {
        "pipeline": _sha256(json.dumps(wish, sort_keys=True).encode(), bank_digest(plan.program).encode()),
        "images": plan.collection.digest,
        "pieces": _sha256(json.dumps([plan.batch, plan.block]).encode()),
    }


def bank_digest(program: Program) -> str:
    """Return the SHA-256, as hex, of every kernel and bias of a program."""
    weights: list[Float32] = []
    for node in program.nodes:
        if isinstance(node.op, ConvolveOp):
            weights += [*(group.weights for group in node.op.groups), node.op.bias]
        elif isinstance(node.op, LocallyConnectedOp):
            weights.append(node.op.bias)
            if isinstance(node.op.kernels, GivenKernels):  # others follow from the pipeline's seed
                weights.append(node.op.kernels.values)
    return _sha256(*(np.ascontiguousarray(one).reshape(-1).data for one in weights))


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
