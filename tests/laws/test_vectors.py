"""The same bits whatever the processor's vectors: wide, narrow, or none with a fused multiply-add."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, numpy as np, featpipe
from featpipe.kernels.tiles import LANES
images = np.random.default_rng(0).random((2, 45, 70, 3), np.float32)
features = {
    "many": {"layers": [{"convolve": {"bank": {"fit": "random", "kernels": 37, "size": 5}, "padding": "reflect"}},
                        {"activate": "relu"}, {"pool": {"mean": 3}},
                        {"convolve": {"bank": {"fit": "random", "kernels": 18}, "stride": 2}}]},
    "few": {"scales": [1, 2], "layers": [{"convolve": {"bank": "sobel", "stride": [1, 3]}}, "modulus"]},
    "passes": {"layers": [{"convolve": {"bank": "gabor", "frequencies": [0.15, 0.3], "orientations": 3,
                                        "padding": "symmetric", "stride": 2, "contrast": {"epsilon": 0.1}}},
                          "modulus", {"reduce": {"over": "orientation"}}, {"pool": {"std": {"grid": [2, 3]}}}]},
}
digest = hashlib.sha256()
for name, values in sorted(featpipe.extract(images, {"features": features}).items()):
    digest.update(values.tobytes())
print(LANES, digest.hexdigest())
"""


def run(tmp: object, features: str | None) -> tuple[int, str]:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp)}
    if features is not None:
        env |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
    lanes, digest = subprocess.check_output([sys.executable, "-c", SCRIPT], env=env, text=True).split()
    return int(lanes), digest


@pytest.mark.slow  # all kernels are compiled three times
@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="names features of x86-64 processors")
def test_avx512_avx2_and_plain_sse_give_the_same_bits(tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp = tmp_path_factory.mktemp("numba")
    _, host = run(tmp, None)
    avx2_lanes, avx2 = run(tmp, "+avx2,+fma,+avx,+sse4.2")
    sse_lanes, sse = run(tmp, "+sse4.2")
    assert (avx2_lanes, sse_lanes) == (8, 4)
    assert host == avx2 == sse
