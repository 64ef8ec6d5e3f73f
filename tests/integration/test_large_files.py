"""Files of 50,000 × 50,000 pixels: a run on a part of one reads that part, within its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from tests.integration.commands import command
from tests.integration.test_runs import GLOBAL, PEAK, TEXTURE, features_of

SIDE, TILE = 50_000, 256
ACROSS = -(-SIDE // TILE)
ROWS, COLUMNS = (20_010, 22_110), (30_100, 32_400)
GIB = 1 << 30


def pixels_of(row: int, column: int) -> np.ndarray:
    """Return the pixels of one tile."""
    y, x = np.ogrid[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
    noise = np.random.default_rng([row, column]).integers(0, 32, (TILE, TILE))
    values: np.ndarray = (y // 3 * 7 + x // 5 * 11 + noise) % 256
    return values.astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a BigTIFF whose tiles within the part are good, some were never written, and all others are rubbish."""
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    rows, columns = (range(a // TILE, -(-b // TILE)) for a, b in (ROWS, COLUMNS))

    def tile(index: int) -> bytes:
        row, column = divmod(index, ACROSS)
        if row in rows and column in columns:
            return zlib.compress(pixels_of(row, column).tobytes(), 1) if (row + column) % 3 else b""
        return b"rubbish"

    tifffile.imwrite(
        path, map(tile, range(ACROSS**2)), shape=(SIDE, SIDE), dtype="uint8", tile=(TILE, TILE), compression="zlib",
        photometric="minisblack", bigtiff=True, metadata=None,
    )  # fmt: skip
    return path


def part() -> np.ndarray:
    """Return the pixels of the part."""
    (top, bottom), (left, right) = ROWS, COLUMNS
    rows, columns = range(top // TILE, -(-bottom // TILE)), range(left // TILE, -(-right // TILE))
    empty = np.zeros((TILE, TILE), np.uint8)
    grid = [[pixels_of(r, c) if (r + c) % 3 else empty for c in columns] for r in rows]
    y, x = top - rows[0] * TILE, left - columns[0] * TILE
    pixels: np.ndarray = np.block(grid)
    return pixels[y : y + bottom - top, x : x + right - left]


def write(folder: Path, name: str, images: dict[str, Any], **features: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"images": images, "features": features, "store": {"path": f"{name}.zarr"}}))
    return path


def test_a_run_on_a_part_reads_that_part_alone_within_its_memory(tmp_path: Path, slide: Path) -> None:
    np.save(tmp_path / "part.npy", part())
    region = {"y": list(ROWS), "x": list(COLUMNS)}
    large = write(tmp_path, "large", {"path": str(slide), "region": region}, a=TEXTURE, b=GLOBAL)
    small = write(tmp_path, "small", {"path": str(tmp_path / "part.npy")}, a=TEXTURE, b=GLOBAL)
    options = ["--memory", "1GiB", "--threads", "2"]
    plan = subprocess.run(command("plan", large, "--json", *options), check=True, capture_output=True, text=True)
    planned = json.loads(plan.stdout)["memory"]["peak"]
    measured = int(subprocess.check_output([sys.executable, "-c", PEAK, *command("run", large, *options)]))
    assert measured <= planned <= GIB
    subprocess.run(command("run", small, *options), check=True, capture_output=True)
    assert features_of(tmp_path / "large.zarr") == features_of(tmp_path / "small.zarr") != {}


@pytest.mark.parametrize("pool", [{"mean": {"grid": [4, 4]}}, {"max": 8}, {"std": "global"}], ids=str)
def test_all_of_a_file_beyond_memory_is_planned_within_it(tmp_path: Path, slide: Path, pool: Any) -> None:
    whole = write(
        tmp_path, "whole", {"path": str(slide)}, a={"layers": [{"convolve": {"bank": "sobel"}}, {"pool": pool}]}
    )
    words = command("plan", whole, "--json", "--memory", "1GiB", "--threads", "2")
    facts = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert facts["memory"]["peak"] <= GIB
    assert facts["tasks"] >= 1


def test_blocks_of_a_tiled_file_are_those_of_the_array_within_the_planned_memory(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 5000), np.uint8)
    np.save(tmp_path / "image.npy", pixels)
    tifffile.imwrite(tmp_path / "image.tif", pixels, tile=(512, 512), compression="zlib", metadata=None)
    array = write(tmp_path, "array", {"path": str(tmp_path / "image.npy"), "axes": "yx"}, a=TEXTURE)
    tiled = write(tmp_path, "tiled", {"path": str(tmp_path / "image.tif")}, a=TEXTURE)
    options = ["--memory", "480MiB", "--threads", "2"]
    plan = subprocess.run(command("plan", tiled, "--json", *options), check=True, capture_output=True, text=True)
    facts = json.loads(plan.stdout)
    measured = int(subprocess.check_output([sys.executable, "-c", PEAK, *command("run", tiled, *options)]))
    assert facts["block"] is not None
    assert measured <= facts["memory"]["peak"] <= 480 << 20
    subprocess.run(command("run", array, *options), check=True, capture_output=True)
    assert features_of(tmp_path / "tiled.zarr") == features_of(tmp_path / "array.zarr") != {}
