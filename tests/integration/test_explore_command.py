"""``featpipe explore`` as a command: what it begins with, where it listens, what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

import featpipe
from featpipe.errors import SpecError
from featpipe.explore.beginning import begin
from featpipe.explore.session import Look, Session

pytest.importorskip("uvicorn", reason="the extra explore is not installed")


def test_the_command_listens_on_this_machine_alone_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "featpipe", "explore", "--no-browser"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        stop = threading.Timer(60, process.kill)  # where an assertion fails, nothing else would end it
        stop.start()
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
        assert b"featpipe" in urllib.request.urlopen(url, timeout=20).read()
        listening = [
            one.laddr.ip for one in psutil.Process(process.pid).net_connections("inet") if one.status == "LISTEN"
        ]
        assert listening == ["127.0.0.1"]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 0, told
        assert "Traceback" not in told
        stop.cancel()
    assert not list(temporary.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_the_command_begins_with_a_pipeline_and_its_first_image(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "photos" / "b.png")
    file = tmp_path / "pipeline.yaml"
    file.write_text("images: {path: photos/}\nfeatures: {b: {layers: [{convolve: {bank: sobel}}]}}  # mine\n")
    start = begin(file, None, tmp_path)
    assert (start.subject.name, start.text, start.base) == ("b.png", file.read_text(), tmp_path)
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "c.png")
    assert begin(file, tmp_path / "c.png", tmp_path).subject.file == tmp_path / "c.png"
    file.write_text("images: {path: nowhere/}\nfeatures: {b: {layers: [{convolve: {bank: sobel}}]}}\n")
    assert "nowhere" in begin(file, None, tmp_path).note
    for wrong in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(SpecError, match=r"no such file|directory"):
            begin(wrong, None, tmp_path)


def test_banks_that_a_run_has_learned_are_taken_from_its_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    (tmp_path / "photos").mkdir()
    pixels = rng.integers(0, 256, (6, 24, 24), np.uint8)
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / "photos" / f"{i}.png")
    file = tmp_path / "pipeline.yaml"
    bank = "{fit: random-patches, kernels: 5, size: 3, patches: 50}"
    file.write_text(f"images: {{path: photos/}}\nfeatures: {{b: {{layers: [{{convolve: {{bank: {bank}}}}}]}}}}\n")

    def look() -> tuple[dict[str, Any], list[Any]]:
        start = begin(file, None, tmp_path)
        return Session(start.subject, start.base, start.shelf).look(Look(text=start.text))

    assert "learns its bank" in look()[0]["problems"][0]["what"]
    command = [sys.executable, "-m", "featpipe", "run", str(file), "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    header, arrays = look()
    assert header["problems"] == []
    stored = featpipe.open(tmp_path / "features.zarr")["b/scale1"][0]
    np.testing.assert_array_equal(arrays[header["panels"][0]["plane"]["part"]], stored[..., 0])


def test_what_the_command_cannot_do_it_says_in_words(tmp_path: Path) -> None:
    def run(*arguments: str, before: str = "pass") -> tuple[int, str]:
        code = f"import sys; {before}; from featpipe.cli import main; sys.argv[1:] = {list(arguments)!r}; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        lines = done.stderr.splitlines(keepends=True)
        return done.returncode, "".join(line for line in lines if "compiling the kernels, once" not in line)

    code, told = run("explore", "--no-browser", before="sys.modules['uvicorn'] = None")
    assert (code, told) == (1, "explore: needs uvicorn, which is not installed. pip install 'featpipe[explore]'\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, told = run("explore", "--no-browser", "--port", port)
        assert code == 1
        assert told.startswith(f"--port {port}: address already in use.")
    code, told = run("explore", "nowhere.yaml", "--no-browser")
    assert code == 2
    assert told.startswith("nowhere.yaml: there is no such file.")
    _, told = run("explore", "--image", "nowhere.png", "--no-browser")
    assert told.startswith("nowhere.png: there is no such file.")
