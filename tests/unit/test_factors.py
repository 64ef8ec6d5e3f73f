"""Separable kernels: found by rank, shared where it pays, equal to the kernels they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featpipe.kernels.catalog import build_bank
from featpipe.kernels.factors import Factors, factorise
from featpipe.spec.layers import Convolve


def weights_of(**bank: Any) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Return a bank's kernels stacked by size, (k, y, x)."""
    kernels = build_bank(Convolve.model_validate(bank).source, 1).kernels
    sizes = dict.fromkeys(kernel.weights.shape for kernel in kernels)
    return [np.stack([k.weights for k in kernels if k.weights.shape == size]) for size in sizes]


def joined(factors: tuple[Factors, ...], count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    kernels = [np.zeros(0)] * count
    for part in factors:
        for member, kernel in zip(part.members, part.kernels(), strict=True):
            kernels[member] = kernel
    return np.stack(kernels)


@pytest.mark.parametrize(
    ("bank", "ranks"),
    [
        ({"bank": "gaussian", "sigmas": 3}, [1]),
        ({"bank": "gaussian-gradient", "sigmas": 3}, [1, 1]),
        ({"bank": "log", "sigmas": 3}, [2]),
        ({"bank": "box", "size": 9}, [1]),
        ({"bank": "gabor", "frequencies": 0.15, "orientations": [30]}, [2]),
    ],
)
def test_known_banks_have_their_known_ranks(bank: dict[str, Any], ranks: list[int]) -> None:
    (weights,) = weights_of(**bank)
    factors = factorise(weights)
    assert [part.columns.shape[1] for part in factors] == ranks
    assert sum(part.multiplies for part in factors) * 2 <= weights.size


def test_the_even_and_the_odd_part_of_a_gabor_filter_share_their_columns() -> None:
    for weights in weights_of(bank="gabor", frequencies=[0.1, 0.2], orientations=[30, 75, 120]):
        for part in factorise(weights):
            assert len(part.members) == 2
            assert part.columns.shape[1] == 2


def test_gabor_filters_at_opposite_angles_are_mixtures_of_four_products() -> None:
    for weights in weights_of(bank="gabor", frequencies=[0.1, 0.2], orientations=[30, 150]):
        (part,) = factorise(weights)
        assert len(part.members) == 4
        assert part.core is not None
        assert part.core.shape == (4, 2, 2)


@pytest.mark.parametrize(
    "bank",
    [
        {"bank": "gabor", "frequencies": [0.1, 0.25], "orientations": 8},
        {"bank": "log", "sigmas": [1, 2, 4]},
        {"bank": "dog", "sigmas": [1, 2, 4]},
    ],
)
def test_factors_multiply_to_the_kernels_within_float32(bank: dict[str, Any]) -> None:
    for weights in weights_of(**bank):
        factors = factorise(weights)
        assert factors
        assert sorted(member for part in factors for member in part.members) == list(range(len(weights)))
        np.testing.assert_allclose(joined(factors, len(weights)), weights, rtol=0, atol=4e-7 * np.abs(weights).max())


@pytest.mark.parametrize("rank", [1, 2, 20])
def test_a_very_large_kernel_has_its_rank_too(rank: int) -> None:
    """A bank of one Gaussian of σ = 255 had taken half a minute to plan."""
    draw = np.random.default_rng(rank)
    kernel: Any = (draw.normal(size=(601, rank)) @ draw.normal(size=(rank, 555))).astype(np.float32).astype(np.float64)
    factors = factorise(kernel[None])
    assert [part.columns.shape for part in factors] == [(601, rank)]
    np.testing.assert_allclose(joined(factors, 1), kernel[None], rtol=0, atol=4e-7 * np.abs(kernel).max())
    assert factorise(draw.normal(size=(1, 600, 555))) == ()


def test_kernels_of_full_rank_stay_whole() -> None:
    assert factorise(np.random.default_rng(0).normal(size=(4, 9, 9))) == ()


def test_a_separable_kernel_that_was_stored_in_float32_is_still_found() -> None:
    column = np.random.default_rng(0).normal(size=11)
    kernel = np.outer(column, column[::-1]).astype(np.float32).astype(np.float64)
    (part,) = factorise(kernel[None])
    assert part.columns.shape[1] == 1
