"""Pipes, devices, sockets and directories in the place of files: told at once what they are, and never waited for."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.commands import Done

pytestmark = pytest.mark.timeout(60)
PIPELINE = "images: {path: %s}\nfeatures: {a: {layers: [{convolve: {%s}}]}}\nstore: {path: s.zarr}\n"
KINDS = {"pipe": "a named pipe", "device": "a device", "socket": "a socket", "loop": ""}


def put(kind: str, path: Path) -> None:
    """Put something that is no file at a path, in place of what is there."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        here = os.open(path.parent, os.O_RDONLY)  # the name of a socket may have 107 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of the test, with images and a pipeline."""
    (tmp_path / "ph").mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "ph/a.png")
    (tmp_path / "p.yaml").write_text(PIPELINE % ("ph", "bank: sobel"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(done: Done, kind: str, code: int = 2) -> None:
    assert done.code == code, done
    assert KINDS[kind] in done.err
    assert "bug" not in done.err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("f.yaml", None),
        ("f.npy", ("ph", "kernels: f.npy")),
        ("f.npz", ("ph", "kernels: 'f.npz:a'")),
        ("f.safetensors", ("ph", "kernels: 'f.safetensors:a'")),
        ("f.npz", ("ph", "bank: {file: f.npz}")),
        ("f.npy", ("ph", "bank: sobel, bias: f.npy")),
        ("f.csv", ("f.csv", "bank: sobel")),
        ("f.npy", ("f.npy", "bank: sobel")),
        ("f.png", ("f.png", "bank: sobel")),
        ("f.tif", ("f.tif", "bank: sobel")),
        ("f.tar", ("f.tar", "bank: sobel")),
        ("f.zip", ("f.zip", "bank: sobel")),
        ("f.parquet", ("f.parquet", "bank: sobel")),
    ],
)
def test_no_command_waits_for_what_is_no_file(
    kind: str, name: str, pipeline: tuple[str, str] | None, folder: Path, featpipe: Callable[..., Done]
) -> None:
    put(kind, folder / name)
    if pipeline is not None:
        (folder / "p.yaml").write_text(PIPELINE % pipeline, encoding="utf-8")
    said = featpipe("plan", "p.yaml" if pipeline is not None else name)
    assert said.code == 2, said
    assert "bug" not in said.err
    if not name.endswith((".npy", ".png", ".tif", ".tar", ".zip", ".parquet")) or pipeline == ("ph", "kernels: f.npy"):
        check(said, kind)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    "key", ["zarr.json", "a/scale1/features/zarr.json", "a/scale1/features/c/0/0/0/0", "label/c/0", "path/c/0"]
)
def test_a_store_with_one_in_a_files_place_is_told_of(
    kind: str, key: str, folder: Path, featpipe: Callable[..., Done]
) -> None:
    assert featpipe("run", "p.yaml", "--quiet").code == 0
    put(kind, folder / "s.zarr" / key)
    for words in (
        ("info", "s.zarr"),
        ("verify", "s.zarr"),
        ("export", "s.zarr", "-o", "e.npz", "--quiet"),
        ("plan", "p.yaml"),
        ("report", "s.zarr"),
    ):
        done = featpipe(*words)
        assert done.code in (0, 1, 2), done
        assert "bug" not in done.err, (words, done)
        (folder / "e.npz").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_no_picture_or_bank_is_written_to_one(kind: str, folder: Path, featpipe: Callable[..., Done]) -> None:
    put(kind, folder / "o.png")
    check(featpipe("banks", "show", "sobel", "--png", "o.png"), kind)
    check(featpipe("preview", "p.yaml", "-o", "o.png"), kind)
    put(kind, folder / "o.npz")
    fit = PIPELINE % ("ph", "bank: {fit: kmeans, kernels: 2, size: 3, patches: 50}")
    (folder / "p.yaml").write_text(fit, encoding="utf-8")
    check(featpipe("fit", "p.yaml", "-o", "o.npz", "--quiet"), kind)


@pytest.mark.parametrize(
    "cluster", ["scheduler_file: f.json", "address: 'tls://127.0.0.1:1', tls: {ca: f.json, cert: f.json, key: f.json}"]
)
def test_no_cluster_is_reached_through_one(cluster: str, folder: Path, featpipe: Callable[..., Done]) -> None:
    pytest.importorskip("distributed")
    put("pipe", folder / "f.json")
    with (folder / "p.yaml").open("a", encoding="utf-8") as file:
        file.write(f"cluster: {{{cluster}}}\n")
    check(featpipe("run", "p.yaml", "--quiet"), "pipe", code=1)


def test_a_zarr_of_images_may_hold_none(folder: Path, featpipe: Callable[..., Done]) -> None:
    (folder / "in.yaml").write_text(PIPELINE % ("ph", "bank: sobel"), encoding="utf-8")
    assert featpipe("ingest", "in.yaml", "in.zarr", "--quiet").code == 0
    (folder / "p.yaml").write_text(PIPELINE % ("in.zarr", "bank: sobel"), encoding="utf-8")
    for file in [file for file in (folder / "in.zarr").rglob("*") if file.is_file()]:
        kept = file.read_bytes()
        put("pipe", file)
        done = featpipe("run", "p.yaml", "--quiet")
        assert done.code in (0, 1, 2)
        assert "bug" not in done.err, (file, done)
        shutil.rmtree(folder / "s.zarr", ignore_errors=True)
        file.unlink()
        file.write_bytes(kept)
