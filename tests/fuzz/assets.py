"""Good files of every kind that a command reads, which fuzzing then spoils."""

# ruff: noqa: E501 - tables of odd values

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
import zarr
from PIL import Image

from featpipe.cli import app
from tests.unit.source_examples import write_table, write_tar, write_zip

PIPELINES = Path(__file__).parents[2] / "pipelines"
SOURCES = (
    "ph",
    "m.csv",
    "a.tar",
    "a.zip",
    "t.parquet",
    "s.npy",
    "im.zarr",
    "big.tif",
    "ph/train/x/0.png",
    "ph/**/*.png",
)
"""What ``images.path`` may be."""
GOOD = """\
images: {path: ph, color: gray}
features:
  t:
    scales: [1, 2]
    layers:
      - convolve: {bank: gabor, frequencies: [0.2], orientations: 2, padding: reflect}
      - modulus
      - pool: {mean: {grid: [2, 2]}}
  e: {layers: [{convolve: {bank: {fit: kmeans, kernels: 4, size: 3, patches: 200}}}, {pool: {max: 4}}]}
store: {path: s.zarr}
"""


def command(*words: str) -> int:
    """Run a command in this process; return its exit code."""
    try:
        app(list(words), prog_name="featpipe")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def make_assets(folder: Path) -> None:
    """Write one good file of every kind."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    pictures = {}
    for split, count in (("train", 3), ("test", 2)):
        for one in "xy":
            place = folder / "ph" / split / one
            place.mkdir(parents=True)
            for i in range(count):
                file = place / f"{i}.{'jpg' if i == 1 else 'png'}"
                Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(file)
                pictures[str(file.relative_to(folder / "ph"))] = file.read_bytes()
    rows = [f"ph/{name},{name.split('/')[1]},{name.split('/')[0]}" for name in pictures]
    (folder / "m.csv").write_text("\n".join(["path,label,split", *rows, ""]))
    write_tar(folder / "a.tar", pictures)
    write_zip(folder / "a.zip", pictures)
    write_table(folder / "t.parquet")
    np.save(folder / "s.npy", random.integers(0, 256, (5, 24, 24), np.uint8))
    images: Any = random.integers(0, 256, (5, 24, 24), np.uint8)
    zarr.save_array(str(folder / "im.zarr"), images)
    tifffile.imwrite(folder / "big.tif", random.integers(0, 256, (96, 96), np.uint8), tile=(16, 16))
    _make_weights(folder, random)
    (folder / "p.yaml").write_text(GOOD)
    before = Path.cwd()
    os.chdir(folder)
    assert command("run", "p.yaml", "--quiet", "--threads", "1", "--memory", "900MiB") == 0
    assert command("fit", "p.yaml", "-o", "bank.npz", "--quiet", "--threads", "1", "--memory", "900MiB") == 0
    assert command("probe", "s.zarr", "--quiet") == 0
    os.chdir(before)


def _make_weights(folder: Path, random: np.random.Generator) -> None:
    kernels = random.standard_normal((4, 3, 3))
    np.save(folder / "k.npy", kernels)
    np.savez(folder / "k.npz", a=kernels)
    from safetensors.numpy import save_file

    weights = {
        "a": kernels.astype(np.float32),
        "0.weight": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "0.bias": random.standard_normal(4).astype(np.float32),
    }
    save_file(weights, folder / "w.safetensors")


def make_traps(folder: Path) -> None:
    """Put into a case's folder what is no file, or never ends."""
    for name in ("fifo", "fifo.npy", "fifo.npz", "fifo.csv", "fifo.yaml", "fifo.png"):
        os.mkfifo(folder / name)
    for name in ("zero", "zero.npy", "zero.csv", "zero.png", "zero.yaml", "zero.npz"):
        (folder / name).symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dir.png").mkdir()
    (folder / "dir.npy").mkdir()
    here = os.open(folder, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:  # the name of a socket may have 107 bytes
            listener.bind(f"/proc/self/fd/{here}/sock")
    finally:
        os.close(here)


TRAPS = (
    "fifo", "fifo.npy", "fifo.npz", "fifo.csv", "fifo.yaml", "fifo.png", "zero", "zero.npy", "zero.csv", "zero.png", "zero.yaml",
    "zero.npz", "loop", "loop.png", "dir.png", "dir.npy", "sock", "/dev/zero", "/dev/full", "/dev/stdin", "/dev/fd/0", "/proc/self/mem",
    "/proc/self/environ", "/proc/kmsg", "/", ".", "..", "~", "~nobody/x", "/dev/tty", "-",
)  # fmt: skip


def copy_assets(source: Path, target: Path) -> None:
    """Copy all good files into a case's folder."""
    shutil.copytree(source, target, symlinks=True)


def pipelines() -> list[str]:
    """Return the texts of good pipelines: those of ``pipelines/``, on the images that are here, and the one here."""
    found = [GOOD]
    for file in sorted(PIPELINES.glob("*.yaml")):
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        data["images"] = {**data["images"], "path": "ph"}
        data.setdefault("store", {})["path"] = "n.zarr"
        for branch in data["features"].values():
            for layer in branch["layers"]:
                _quicken(layer)
        found.append(yaml.safe_dump(data, sort_keys=False))
    return found


def _quicken(layer: object) -> None:
    if isinstance(layer, dict):
        for value in layer.values():
            bank = value.get("bank") if isinstance(value, dict) else None
            if isinstance(bank, dict):
                bank["kernels"] = min(8, bank.get("kernels", 8))
                bank["patches"] = 300
