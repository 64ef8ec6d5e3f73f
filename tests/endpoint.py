"""A real S3 service, moto's server in a process of its own on loopback, and a bucket of it for a test."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "AKIAFEATPIPETESTS", "SecretThatNoReportMayHold"
_numbers = itertools.count()


@dataclass(frozen=True)
class Endpoint:
    """The service."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> Bucket:
        user = {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20250101/us-east-1/s3/aws4_request"}
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT", headers=user)
        urllib.request.urlopen(request, timeout=10).close()
        return Bucket(f"s3://{name}")


@dataclass(frozen=True)
class Bucket:
    """A bucket; needs the endpoint's environment."""

    url: str

    @property
    def objects(self) -> Any:
        from featpipe.objects import open_objects

        return open_objects(self.url)

    def put(self, name: str, content: bytes) -> str:
        """Write an object and return its address."""
        self.objects.put(name, content)
        return f"{self.url}/{name}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Copy a folder in and return its address."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"{self.url}/{prefix}"

    def names(self, prefix: str = "") -> list[str]:
        return sorted(found["path"] for page in self.objects.list(prefix or None) for found in page)

    def read(self, name: str) -> bytes:
        return bytes(self.objects.get(name).bytes())

    def get_folder(self, prefix: str, folder: Path) -> None:
        """Copy everything below ``prefix`` out to ``folder``."""
        for name in self.names(prefix):
            file = folder / name.removeprefix(f"{prefix}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.read(name))


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    """One server a session; with xdist, one a worker."""
    if find_spec("moto") is None or find_spec("flask") is None or find_spec("obstore") is None:
        pytest.skip("needs moto[server] and obstore")
    server, url = _start()
    try:
        yield Endpoint(url)
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket of the test's own, with the environment set for this process and those it starts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    return endpoint.make_bucket(f"tests-{os.getpid()}-{next(_numbers)}")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _start() -> tuple[subprocess.Popen[bytes], str]:
    """Start a server and wait until it answers; another port if somebody took the first."""
    for _ in range(3):
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        quiet = subprocess.DEVNULL
        server = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        deadline = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return server, f"http://127.0.0.1:{port}"
        server.kill()
        server.wait()
    raise RuntimeError("moto's server does not start")
