"""A kernel's features do not depend on the bank it is in: whatever lies in the vectors, its bits are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featpipe
from featpipe.chain.panels import lay_out
from featpipe.kernels.convolve import DirectKernels
from featpipe.plan.passes import split_passes
from featpipe.plan.resolve import make_program
from featpipe.spec.load import parse_pipeline

KERNELS = np.random.default_rng(5).normal(size=(64, 4, 3, 3)).astype(np.float32)
IMAGES = np.random.default_rng(6).random((3, 23, 37, 3), np.float32)
ALONE = (0, 17, 63)

CHAINS: dict[str, list[Any]] = {
    "nothing": [],
    "relu": [{"activate": "relu"}],
    "split": [{"activate": {"split": {"threshold": 0.3}}}],
    "standardised": [{"normalize": {"mean": 0.2, "std": 3.0}}, {"activate": "abs"}],
    "relu, mean": [{"activate": "relu"}, {"pool": {"mean": 2}}],
    "relu, max": [{"activate": "relu"}, {"pool": {"max": 3, "stride": 2, "padding": "same"}}],
    "split, sum": [{"activate": {"split": {"threshold": 0.3}}}, {"pool": {"sum": 5, "stride": 2}}],
    "split, cells": [{"activate": {"split": {"threshold": 0.3}}}, {"pool": {"mean": {"grid": [2, 3]}}}],
    "square, length": [{"activate": "square"}, {"pool": {"l2": [2, 3]}}],
    "least": [{"pool": {"min": "global"}}],
    "two passes": [{"pool": {"mean": 2}}, {"activate": "tanh"}, {"pool": {"max": 2}}],
}


def extract(folder: Path, kernels: np.ndarray[Any, Any], layers: list[Any], **options: Any) -> np.ndarray[Any, Any]:
    """Return the features of some kernels, (n, y, x, k)."""
    np.save(folder / "kernels.npy", kernels)
    convolve = {"kernels": str(folder / "kernels.npy"), "channels": "sum", **options}
    maps = featpipe.extract(IMAGES, {"features": {"a": {"layers": [{"convolve": convolve}, *layers]}}})
    return np.asarray(maps["a/scale1"])


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": "reflect"}, {"contrast": {"epsilon": 0.1}}])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_kernel_alone_gives_the_bits_that_it_gives_in_its_bank(
    chain: str, options: dict[str, Any], tmp_path: Path
) -> None:
    together = extract(tmp_path, KERNELS, CHAINS[chain], **options)
    for k in ALONE:
        alone = extract(tmp_path, KERNELS[k : k + 1], CHAINS[chain], **options)
        np.testing.assert_array_equal(alone, together[..., k :: len(KERNELS)])


def test_the_bank_lies_in_vectors_of_kernels_and_a_kernel_alone_in_vectors_of_pixels(tmp_path: Path) -> None:
    for count, by_kernel in ((64, True), (1, False)):
        np.save(tmp_path / "kernels.npy", KERNELS[:count])
        layers = [{"convolve": {"kernels": str(tmp_path / "kernels.npy"), "channels": "sum"}}, {"pool": {"mean": 2}}]
        features = parse_pipeline({"features": {"a": {"layers": layers}}}).features
        program = make_program(features, ("red", "green", "blue"))
        (one,) = split_passes(program, (0, 1))
        (panel,) = lay_out(program, one)
        assert isinstance(panel.kernels, DirectKernels)
        assert panel.kernels.by_kernel == by_kernel
