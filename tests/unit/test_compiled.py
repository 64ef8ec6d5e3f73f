"""Kernels where there is no directory to keep them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featpipe.kernels import compiled


def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def double(values: Any, out: Any) -> None:
        out[0] = 2 * values[0]

    monkeypatch.setattr(compiled, "unkept", [])
    double.__code__ = double.__code__.replace(co_filename="<nowhere>")  # beside it, Numba finds no place for a cache
    arrays = compiled.given(compiled.F64, 1), compiled.result(compiled.F64, 1)
    out = np.zeros(1)
    compiled.kernel(*arrays)(double)(np.array([21.0]), out)
    assert out[0] == 42
    assert len(compiled.unkept) == 1
