"""Names of files and of classes act on nothing: no command's words, logs, pages or pictures carry what is in them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import zarr
from PIL import Image

from tests.integration.commands import Done

CLASSES = (
    "good",
    "osc\x1b]0;OWNED\x07\x1b[2J",
    "c1\x9b2J",
    "bidi\u202egnp",
    "tag\U000e0041",
    "$x_{1$",
    "字",
    "w\udcff",
)
FORGED = "x\nfeatpipe: all is well\r\x1b[3A.png"
OURS = re.compile(r"\x1b\[(?:[0-9;]*m|2K|1A|\?25[lh])|\r(?=\x1b\[)")
"""Colours, and what moves the bar of a terminal."""
PIPELINE = """\
images: {path: ph, split: {test: 0.4, seed: 1}}
features: {a: {layers: [{convolve: {bank: sobel}}, {pool: {mean: {grid: [1, 1]}}}]}}
store: {path: "s\u202e.zarr"}
"""


def acting(text: str) -> list[str]:
    """Return the characters that act on whoever shows them; newlines and colours are ours."""
    return [
        character
        for character in OURS.sub("", text)
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pipeline on images in classes of such names; one image is spoilt."""
    folder = tmp_path_factory.mktemp("names")
    random = np.random.default_rng(0)
    for one in CLASSES:
        (folder / "ph" / one).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(folder / "ph" / one / f"{i}.png")
    (folder / "ph" / CLASSES[1] / FORGED).write_bytes(b"no image at all")
    (folder / "p.yaml").write_text(PIPELINE, encoding="utf-8")
    return folder


def test_no_command_shows_what_acts(
    folder: Path, featpipe: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FORCE_COLOR", "1")
    store, evil = "s\u202e.zarr", "no\x1b[2J\nsuch"
    commands: list[tuple[int, tuple[str, ...]]] = [
        (0, ("plan", "p.yaml")),
        (0, ("plan", "p.yaml", "--json")),
        (0, ("run", "p.yaml")),
        (0, ("run", "p.yaml", "--overwrite", "--retry-failed", "--log-format", "json", "--json")),
        (0, ("info", store)),
        (0, ("info", store, "--json")),
        (0, ("verify", store)),
        (0, ("probe", store, "--png", "c\u202e.png")),
        (0, ("probe", store, "--json")),
        (0, ("export", store, "-o", "e\u202e.npz")),
        (0, ("preview", "p.yaml", "-o", "v\u202e.svg", "--image", f"ph/{CLASSES[1]}/0.png")),
        (0, ("report", store, "-o", "r\u202e.html")),
        (0, ("unlock", store)),
        (0, ("init", "i\u202e")),
        (2, ("plan", f"{evil}.yaml")),
        (2, ("plan", "p.yaml", f"{evil}.yaml")),
        (2, ("plan", "p.yaml", "--set", f"{evil}=1")),
        (2, ("plan", "p.yaml", "--set", f"images.path={evil}")),
        (2, ("plan", "p.yaml", "--memory", evil)),
        (2, ("info", evil)),
        (2, (evil,)),
        (2, (f"--{evil}",)),
        (2, ("banks", "show", evil)),
        (2, ("export", store, "-o", "e.npz", "--map", evil)),
        (2, ("preview", "p.yaml", "--image", f"ph/{CLASSES[1]}/{FORGED}")),
    ]
    for code, words in commands:
        done = featpipe(*words)
        assert done.code == code, (words, done)
        assert not acting(done.out + done.err), (words, acting(done.out + done.err))
        assert not [line for line in (done.out + done.err).splitlines() if line.startswith("featpipe: all is well")]
    page = Path("r\u202e.html").read_text(encoding="utf-8")
    assert not acting(page)
    assert r"bidi\u202egnp" in page
    drawn = Path("v\u202e.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(drawn)
    assert not acting(drawn)


def test_data_keeps_the_real_names(
    folder: Path, featpipe: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    featpipe("run", "p.yaml", "--quiet")
    told = json.loads(featpipe("info", "s\u202e.zarr", "--json").out)
    assert set(CLASSES[:-1]) < set(told["classes"])  # bytes that are no text cannot be stored as some
    store: Any = zarr.open("s\u202e.zarr", mode="r")
    assert any(str(path).endswith(FORGED) for path in store["path"][:])


def test_nothing_is_completed_that_acts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featpipe.cli.completing import complete_pipelines

    monkeypatch.chdir(folder)
    (folder / "e\x1b[2J.yaml").touch()
    (folder / "n\n.yaml").touch()
    assert "p.yaml" in complete_pipelines("")
    assert not acting("".join(complete_pipelines("")))
