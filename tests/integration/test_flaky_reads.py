"""A campaign: many runs, with fits, over every kind of source, in which one call in twenty fails once.

FEATPIPE_FLAKY_RUNS says how many; each ends in the bytes of an undisturbed run.
"""

from __future__ import annotations

import http.client
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zlib import crc32

import pytest

from tests.endpoint import Bucket
from tests.flaky import child_environment
from tests.integration.commands import command
from tests.unit.test_reading import KINDS, make_source

RUNS = int(os.environ.get("FEATPIPE_FLAKY_RUNS", "16"))
SHARE = 0.05
PIPELINE = """\
images: {{path: '{path}', color: gray, on_error: fail}}
features:
  learned:
    layers:
      - convolve: {{bank: {{fit: pca, kernels: 4, size: 5, patches: 400}}}}
      - pool: {{max: {{grid: [2, 2]}}}}
  plain:
    layers:
      - convolve: {{bank: sobel}}
store: {{path: out.zarr}}
"""

pytestmark = pytest.mark.slow


def run(folder: Path, path: object, environment: dict[str, str] | None = None) -> dict[str, bytes]:
    """Run a pipeline in a process of its own; return the files of its store."""
    (folder / "p.yaml").write_text(PIPELINE.format(path=path))
    done = subprocess.run(
        command("run", "p.yaml", "--quiet"),
        check=False, cwd=folder, capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = folder / "out.zarr"
    files = {str(file.relative_to(made)): file.read_bytes() for file in sorted(made.rglob("*")) if file.is_file()}
    shutil.rmtree(made)
    return files


def differing(files: dict[str, bytes], want: dict[str, bytes]) -> list[str]:
    """Return the files that differ."""
    return sorted(name for name in files.keys() | want.keys() if files.get(name) != want.get(name))


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_fail_once_change_no_byte(kind: str, tmp_path: Path) -> None:
    path = make_source(kind, tmp_path / "source")
    want = run(tmp_path, path)
    for number in range(max(1, RUNS // len(KINDS))):
        site, seed = tmp_path / f"site{number}", crc32(f"{kind} {number}".encode())
        environment = child_environment(site, tmp_path / "source", share=SHARE, seed=seed)
        wrong = differing(run(tmp_path, path, environment), want)
        assert not wrong, (kind, seed)


class Unreliable(BaseHTTPRequestHandler):
    """Passes requests on to a service; some it answers with an error, with half of the answer, or not at all."""

    protocol_version = "HTTP/1.1"
    service: ClassVar[str] = ""
    random: ClassVar[random.Random] = random.Random(0)
    quiet: ClassVar[dict[str, int]] = {}
    failed: ClassVar[int] = 0

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.trouble()
        if kind in (500, 503, 429):
            return self.answer(kind, [], b"<Error><Code>SlowDown</Code></Error>")
        there = http.client.HTTPConnection(self.service, timeout=60)
        try:
            there.request(self.command, self.path, body, dict(self.headers))
            found = there.getresponse()
            content = found.read()
        finally:
            there.close()
        headers = [(name, value) for name, value in found.getheaders() if name.lower() not in SKIPPED]
        if self.command == "HEAD":
            headers.append(("Content-Length", found.getheader("Content-Length") or "0"))
        return self.answer(found.status, headers, content, cut=kind == 0)

    def trouble(self) -> int:
        """Return what goes wrong: a status, 0 for a cut answer, -1 for nothing."""
        quiet = self.quiet.get(self.path, 0)
        self.quiet[self.path] = max(quiet - 1, 0)
        if quiet or self.random.random() >= SHARE:
            return -1
        self.quiet[self.path] = 1
        type(self).failed += 1
        return self.random.choice([500, 503, 429, 0])

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - http.server's names


SKIPPED = frozenset({"content-length", "connection", "transfer-encoding", "date", "server"})


@contextmanager
def unreliable(service: str) -> Iterator[str]:
    """Yield the address of a service that fails once in a while, before another."""
    Unreliable.service, Unreliable.quiet, Unreliable.failed = urlsplit(service).netloc, {}, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unreliable)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("kind", ["files", "tar", "parquet", "zarr"])
def test_a_bucket_that_fails_once_changes_no_byte(kind: str, bucket: Bucket, tmp_path: Path) -> None:
    path = make_source(kind, tmp_path / "source")
    root = bucket.put_folder(tmp_path / "source", "source")
    url = root if kind == "files" else f"{root}/{path.name}"
    want = run(tmp_path, url)
    failed = 0
    for number in range(max(1, RUNS // 16)):
        Unreliable.random = random.Random(number)
        with unreliable(os.environ["AWS_ENDPOINT_URL"]) as address:
            environment = {**os.environ, "AWS_ENDPOINT_URL": address}
            wrong = differing(run(tmp_path, url, environment), want)
            assert not wrong, (kind, number)
            failed += Unreliable.failed
    assert failed or RUNS < 100
