"""The page's server against requests that no browser sends: by real sockets, to a real process."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("uvicorn", reason="the extra explore is not installed")

from featpipe.explore import asking
from featpipe.explore.beginning import begin
from featpipe.explore.connections import MOST_CONNECTIONS, Connection
from featpipe.explore.server import listen, make_app, make_server
from featpipe.explore.session import Session
from tests.integration.commands import command, wait_for


class Server:
    """A server, its process where it has one, and the path of its page."""

    def __init__(self, port: int, path: str, process: subprocess.Popen[str] | None = None) -> None:
        self.port, self.path, self.process = port, path, process

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        return "\r\n".join(
            [f"{method} {self.path}{path} HTTP/1.1", f"host: 127.0.0.1:{self.port}", *lines, "", ""]
        ).encode()

    def ask(self, content: bytes) -> tuple[int, bytes]:
        """Send bytes as they are; return the status and body of the answer."""
        with self.connect() as one:
            with contextlib.suppress(ConnectionError):  # a refusal comes before all has been sent
                one.sendall(content)
            return answer(one)

    def post(self, path: str, body: bytes, *lines: str) -> tuple[int, bytes]:
        return self.ask(self.head("POST", path, f"content-length: {len(body)}", "connection: close", *lines) + body)


def answer(one: socket.socket) -> tuple[int, bytes]:
    """Read an answer whole; the status is 0 where none came."""
    content = b""
    with contextlib.suppress(ConnectionError):
        while piece := one.recv(1 << 16):
            content += piece
            head, end, body = content.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if end and length and len(body) >= int(length[1]):
                break
    status = int(content.split(b" ", 2)[1]) if content else 0
    return status, content.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with subprocess.Popen(
        command("explore", "--no-browser"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        guard = threading.Timer(240, process.kill)
        guard.start()
        assert process.stdout is not None
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]+/)", process.stdout.readline().strip())
        assert found
        yield Server(int(found[1]), found[2], process)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        guard.cancel()
    lines = [line for line in told.splitlines() if "compiling" not in line]
    assert [line.split()[0] for line in lines] == ["Only", "ended"], told  # no traceback, no warning
    assert process.returncode == 0


LAYERS = '"features": {"b": {"layers": [%s]}}'
LOOKS: dict[str, str | bytes] = {
    "infinity": '{"most": Infinity}',
    "infinity by a number": '{"most": 1e999}',
    "not a number": '{"scale": NaN}',
    "deep": '{"data": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "less deep": '{"data": ' + '{"a": ' * 300 + "1" + "}" * 300 + "}",
    "half a pair": '{"text": "\\ud800"}',
    "half a pair as a key": '{"data": {"\\udfff": 1}}',
    "not UTF-8": b'{"text": "\xff"}',
    "NUL": '{"text": "images: {path: a\\u0000b}"}',
    "NUL in a path": '{"data": {"features": {"b": {"layers": [{"convolve": {"bank": {"file": "a\\u0000b"}}}]}}}}',
    "many digits": '{"most": ' + "9" * 5000 + "}",
    "a large number": '{"scale": ' + "9" * 300 + "}",
    "chosen": '{"chosen": {"0": 1e300}, "first": {"x": -1}}',
    "wrong kinds": '{"chosen": [], "have": 3, "branch": {}}',
    "a list": "[1, 2]",
    "nothing": "",
    "half": '{"text": "a',
    "size": '{"data": {"images": {"size": [1000000000, 1000000000]}, ' + LAYERS % '"modulus"' + "}}",
    "kernel": '{"data": {' + LAYERS % '{"convolve": {"bank": "box", "size": 1000000001}}' + "}}",
    "kernels": '{"data": {'
    + LAYERS % '{"convolve": {"bank": {"fit": "random", "kernels": 1000000000, "size": 9}}}'
    + "}}",
    "window": '{"data": {' + LAYERS % '{"pool": {"max": 1000000000}}' + "}}",
    "padding": '{"data": {' + LAYERS % '{"convolve": {"bank": "box", "padding": {"widths": 1000000000}}}' + "}}",
    "grid": '{"data": {' + LAYERS % '{"pool": {"mean": {"grid": [1000000000, 1000000000]}}}' + "}}",
    "scale": '{"data": {"features": {"b": {"scales": [1099511627776], "layers": ["modulus"]}}}, "branch": "b"}',
    "large": '{"text": "' + "a" * (1 << 21) + '"}',
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_wrong_question_is_answered_in_words(name: str, server: Server) -> None:
    body = LOOKS[name]
    status, content = server.post("api/look", body if isinstance(body, bytes) else body.encode())
    assert status in (200, 400, 413, 422), content[:500]
    assert b"bug" not in content
    if status != 200:
        (first, *_) = json.loads(content)["problems"]
        assert first["what"].endswith(".")


def test_requests_that_no_browser_sends_are_refused(server: Server) -> None:
    host = f"host: 127.0.0.1:{server.port}\r\n"
    secret = server.path
    wrong: list[tuple[bytes, set[int]]] = [
        (f"OPTIONS * HTTP/1.1\r\n{host}\r\n".encode(), {403}),
        (f"CONNECT example.org:443 HTTP/1.1\r\n{host}\r\n".encode(), {400, 403}),
        (f"GET http://example.org/ HTTP/1.1\r\n{host}\r\n".encode(), {403}),
        (f"GET {secret} HTTP/1.1\r\n\r\n".encode(), {400, 421}),
        (f"GET {secret} HTTP/1.1\r\n{host}{host}\r\n".encode(), {400}),
        (f"GET {secret}%00 HTTP/1.1\r\n{host}\r\n".encode(), {400}),
        (f"GET {secret}static/%00 HTTP/1.1\r\n{host}\r\n".encode(), {400}),
        (f"GET {secret}static/%ff%fe HTTP/1.1\r\n{host}\r\n".encode(), {404}),
        (f"GET {secret}static/{'a' * 3000} HTTP/1.1\r\n{host}\r\n".encode(), {404}),
        (f"GET {secret}static/..%2f..%2fsession.py HTTP/1.1\r\n{host}\r\n".encode(), {404}),
        (f"GET {secret} HTTP/1.1\r\n{host}x: {'a' * 100_000}".encode(), {400}),
        (f"GET {secret}api/terms?key=x&y=1e9&x=0&feature={'9' * 5000} HTTP/1.1\r\n{host}\r\n".encode(), {400}),
        (f"GET {secret}api/terms?key=x&y=-1&x=0&feature=99999999999999999999 HTTP/1.1\r\n{host}\r\n".encode(), {422}),
        (f"GET {secret}api/look HTTP/1.1\r\n{host}\r\n".encode(), {405}),
        (f"BREW {secret}api/start HTTP/1.1\r\n{host}\r\n".encode(), {405}),
        (f"POST {secret}api/look HTTP/1.1\r\n{host}content-length: x\r\n\r\n".encode(), {400}),
        (f"POST {secret}api/look HTTP/1.1\r\n{host}content-length: {'9' * 4000}\r\n\r\n".encode(), {400, 413}),
        (f"POST {secret}api/look HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nxyz\r\n".encode(), {0, 400}),
        (f"PUT {secret}api/image HTTP/1.1\r\n{host}content-length: 99999999999\r\n\r\n".encode(), {413}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
        (b"\0" * 100_000, {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400, 421, 505}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 421}),
    ]
    for content, expected in wrong:
        with server.connect() as one:
            with contextlib.suppress(ConnectionError):
                one.sendall(content)
                if 0 in expected:
                    one.shutdown(socket.SHUT_WR)
            status, _ = answer(one)
        assert status in expected, content[:120]
    form = b'--x\r\nContent-Disposition: form-data; name="a'
    assert server.post("api/look", form, "content-type: multipart/form-data; boundary=x")[0] == 400
    ranges = f"range: bytes={','.join(f'{i}-' for i in range(3000))}"
    status, content = server.ask(server.head("GET", "static/app.js", ranges, "connection: close"))
    assert (status, len(content) > 1000) == (200, True)
    for path in ("api/start", "", "static/app.js"):
        assert server.ask(server.head("GET", path, "connection: close"))[0] == 200


def test_600_half_open_requests_leave_room_for_the_page(server: Server) -> None:
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    with contextlib.ExitStack() as held:
        for i in range(600):
            one = held.enter_context(server.connect())
            with contextlib.suppress(ConnectionError):
                one.sendall(server.head("PUT", "api/image", "content-length: 1000000")[: 20 + i % 40])
        assert server.ask(server.head("GET", "", "connection: close"))[0] == 200
        kept = [one for one in process.net_connections("inet") if one.status == "ESTABLISHED"]
        assert len(kept) <= MOST_CONNECTIONS + 1


def test_many_uploads_at_once_are_each_taken_or_refused(server: Server) -> None:
    """None of them is decoded: their bodies are half there."""
    with contextlib.ExitStack() as held:
        started = [held.enter_context(server.connect()) for _ in range(12)]
        for one in started:
            one.sendall(server.head("PUT", "api/image", "content-length: 60000000") + b"x" * 1000)
        statuses = [answer(one)[0] for one in started[-4:]]
        assert set(statuses) == {503}
    wait_for(lambda: server.post("api/example", b'{"name": "none"}')[0] == 422)
    taken = server.ask(server.head("PUT", "api/image?name=%00%1b", "content-length: 4", "connection: close") + b"GIF8")
    assert taken[0] == 422


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of this process whose patience is short."""
    monkeypatch.setattr(Connection, "head_seconds", 0.5)
    monkeypatch.setattr(Connection, "answer_seconds", 0.5)
    monkeypatch.setattr(asking, "BODY_SECONDS", 0.5)
    start = begin(None, None, tmp_path)
    with listen(0) as bound:
        port = bound.getsockname()[1]
        facts: dict[str, Any] = {"text": start.text, "note": ""}
        app = make_app(Session(start.subject, start.base, start.shelf), facts, tmp_path, port, "secret")
        running = make_server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        yield Server(port, "/secret/")
        running.should_exit = True
        thread.join()


@pytest.mark.parametrize("part", ["nothing", "head", "body", "unread body", "second head"])
def test_a_request_that_trickles_is_ended_in_time(part: str, hasty: Server) -> None:
    head = hasty.head("POST", "api/look", "content-length: 100000")
    content = {
        "nothing": b"",
        "head": head[:30],
        "body": head + b"{",
        "unread body": hasty.head("GET", "static/app.js", "content-length: 100000"),
        "second head": hasty.head("GET", "static/app.js") + head[:30],
    }[part]
    with hasty.connect() as one, contextlib.suppress(ConnectionError):
        one.sendall(content)
        one.settimeout(0.05)
        heard = b""
        while True:  # a byte now and then, for as long as the server listens
            try:
                piece = one.recv(1 << 16)
                if not piece:
                    break
                heard += piece
            except TimeoutError:
                if content:
                    one.sendall(b"x")
        assert part in ("unread body", "second head") or b" 408 " in heard.partition(b"\r\n")[0]


def test_an_answer_that_nobody_takes_is_given_up(hasty: Server) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.settimeout(60)
        one.connect(("127.0.0.1", hasty.port))
        with contextlib.suppress(ConnectionError):
            for _ in range(400):  # pipelined, and none is read
                one.sendall(hasty.head("GET", "static/app.js"))
        mine = one.getsockname()[1]
        process = psutil.Process()
        wait_for(lambda: not [c for c in process.net_connections() if c.raddr and c.raddr.port == mine])
