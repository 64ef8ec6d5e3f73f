"""Images with flipped bits, cut short, or spliced from two, among good ones: none sinks a run, none is lost.

``MUTATED=2000 GOOD=500`` in the environment make the corpus as large as an afternoon's download.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image

import featpipe

GOOD, MUTATED = int(os.environ.get("GOOD", "48")), int(os.environ.get("MUTATED", "240"))
FORMATS: dict[str, dict[str, Any]] = {"jpg": {"quality": 90}, "png": {}, "tif": {}, "webp": {"lossless": True}}
LAYERS: list[Any] = [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": {"mean": {"grid": [2, 2]}}}]
RUN = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(done.stdout, end="")
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


def encode(seed: int, ending: str) -> bytes:
    """Return an image file with smooth and noisy parts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 40 + seed % 30, 0 : 50 + seed % 17]
    waves = 127 + 90 * np.sin(x / (3 + seed % 5))[..., None] * np.cos(y / 4)[..., None] * [1, 0.5, -1]
    pixels = np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    options: dict[str, Any] = {**FORMATS[ending]}
    if ending == "tif":
        options["compression"] = [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg"][seed // 4 % 4]
    Image.fromarray(pixels).save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()), **options)
    return file.getvalue()


def mutate(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return a damaged file."""
    match int(rng.integers(4)):
        case 0:
            damaged = bytearray(content)
            for at in rng.integers(0, len(content), int(rng.integers(1, 30))):
                damaged[at] ^= 1 << int(rng.integers(8))
            return bytes(damaged)
        case 1:
            return content[: int(rng.integers(0, len(content)))]
        case 2:
            return content[: int(rng.integers(1, len(content)))] + other[int(rng.integers(1, len(other))) :]
        case _:
            start, length = (int(n) for n in rng.integers(0, len(content), 2))
            return content[:start] + bytes(length) + content[start + length :]


def make_corpus(folder: Path) -> set[str]:
    """Write good and mutated files; return the names of the good."""
    folder.mkdir()
    endings, rng = list(FORMATS), np.random.default_rng(0)
    good = set()
    for i in range(GOOD):
        name = f"{i:05}-good.{endings[i % 4]}"
        (folder / name).write_bytes(encode(i, endings[i % 4]))
        good.add(name)
    for i in range(MUTATED):
        ending = endings[i % 4]
        (folder / f"{i:05}-odd.{ending}").write_bytes(
            mutate(encode(i, ending), encode(i + 1, endings[(i + 1) % 4]), rng)
        )
    return good


def reference(file: Path) -> npt.NDArray[np.float32] | None:
    """Return the features of what Pillow makes of a file; None where it refuses."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception:
        return None
    return featpipe.extract(pixels[None], {"features": {"a": {"layers": LAYERS}}})["a/scale1"][0]  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files
def test_good_images_among_damaged_ones_are_bit_right_and_each_bad_one_is_reported(tmp_path: Path) -> None:
    good = make_corpus(tmp_path / "photos")
    data = {
        "images": {"path": "photos", "color": "rgb"},
        "features": {"a": {"layers": LAYERS}},
        "store": {"path": "o.zarr"},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(data))
    words = [sys.executable, "-m", "featpipe"]
    planned = subprocess.run([*words, "plan", "p.yaml", "--json"], cwd=tmp_path, capture_output=True, check=True)
    command = [sys.executable, "-c", RUN, *words, "run", "p.yaml", "-q", "--json", "--threads", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    facts, plan = yaml.safe_load(done.stdout), yaml.safe_load(planned.stdout)
    scale = 1 if sys.platform == "darwin" else 1024
    assert int(done.stderr.splitlines()[-1]) * scale <= plan["memory"]["peak"]
    stack = featpipe.open(tmp_path / "o.zarr")
    features, failures = stack["a/scale1"][...], stack.failures
    assert len(stack.paths) == GOOD + MUTATED
    outcome: Counter[str] = Counter()
    for path, ok, values in zip(stack.paths.tolist(), stack.ok, features, strict=True):
        if not ok:
            outcome["refused"] += 1
            assert path not in good
            assert failures[path].startswith(f"{path}: ") or failures[path]
            assert np.isnan(values).all()
            continue
        assert np.isfinite(values).all()
        expected = reference(tmp_path / "photos" / path)
        if path in good:
            assert expected is not None
        if expected is None:  # what Pillow does not read, tifffile or libpng may
            outcome["read by ours alone"] += 1
            assert path.endswith(("tif", "png")), path
        elif np.array_equal(values, expected):
            outcome["the same pixels"] += 1
        else:
            outcome["other pixels"] += 1
            assert path.endswith("tif"), path
    assert facts["failed"] == outcome["refused"] > MUTATED // 3
