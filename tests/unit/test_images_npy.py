"""Parts of ``.npy`` files are those that NumPy gives, whatever their order, and take no more than themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featpipe.images.npy import NpyFile

SHAPES = [(7,), (5, 9), (3, 8, 10), (2, 5, 6, 3)]


def some_part(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return an index of whole axes, single samples and spans."""
    parts: list[Any] = []
    for length in shape:
        start = int(rng.integers(length))
        parts.append([slice(None), start, slice(start, int(rng.integers(start + 1, length + 1)))][rng.integers(3)])
    return tuple(parts)


@pytest.mark.parametrize(("piece", "gap"), [(2**20, 4096), (64, 8), (1, 0), (300, 1000)])
@pytest.mark.parametrize("dtype", ["u1", ">f4", "<f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_part_is_what_numpy_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any, dtype: str, piece: int, gap: int
) -> None:
    monkeypatch.setattr("featpipe.images.npy.PIECE_BYTES", piece)
    monkeypatch.setattr("featpipe.images.npy._GAP_BYTES", gap)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        array = (rng.random(shape) * 200).astype(dtype)
        np.save(tmp_path / "a.npy", np.asarray(array, order=order))
        file = NpyFile(str(tmp_path / "a.npy"))
        for _ in range(20):
            part = some_part(rng, shape)
            assert np.array_equal(file[part], array[part])
            assert file[part].dtype == array[part].dtype


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("order", "part"), [("C", "[:, 300:400]"), ("F", "[300:400]"), ("F", "[0, 0:9000]")])
def test_a_part_takes_no_more_memory_than_itself(tmp_path: Path, order: str, part: str) -> None:
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (9000, 9000), fortran_order=order == "F")
    array[:, 300:400] = array[300:400] = 1
    del array
    code = (
        "from featpipe.images.npy import NpyFile\nfrom tests.integration.memory_watch import peak_of\n"
        f"file = NpyFile({str(tmp_path / 'a.npy')!r})\n"
        f"before = peak_of('self')\npart = file{part}\nprint(peak_of('self') - before - part.nbytes)"
    )
    more = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert more < 4 << 20
