"""The page's server: a few routes around one session."""

from __future__ import annotations

import json
import secrets
import socket
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from featpipe.errors import FeatpipeError, Problem
from featpipe.explore.asking import CLOSE, read_body, read_json
from featpipe.explore.connections import MOST_HEAD, Connection
from featpipe.explore.examples import NAMES
from featpipe.explore.forms import describe_forms
from featpipe.explore.guard import Guard
from featpipe.explore.session import Look, Session, problem_facts
from featpipe.explore.subject import MOST_UPLOADED, PARTS, Subject, draw_example, take_upload
from featpipe.printable import printable

STATIC = Path(__file__).parent / "static"
LOOPBACK = "127.0.0.1"
BACKLOG = 64
"""Connections that wait to be taken."""
MOST_UPLOADS = 4
"""At once, for each is held in memory."""


def listen(port: int) -> socket.socket:
    """Return a socket of this machine's own, that nobody else can reach.

    Parameters
    ----------
    port : int
        0 for any that is free.

    Raises
    ------
    FeatpipeError
        If the port is taken.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((LOOPBACK, port))
        bound.listen(BACKLOG)  # whoever comes before the server is up will wait
    except OSError as error:
        bound.close()
        said = error.strerror or str(error)
        change = "Give another, or none for any that is free."
        raise FeatpipeError(Problem(f"--port {port}", f"{said[0].lower()}{said[1:]}.", change)) from None
    return bound


def make_app(session: Session, start: Mapping[str, Any], folder: Path, port: int, token: str) -> Starlette:
    """Return the server's application.

    Parameters
    ----------
    session : Session
    start : mapping
        What the page begins with: ``text``, the pipeline.
    folder : Path
        For temporary files.
    port : int
        Where the server listens.
    token : str
        The first part of every path.
    """
    api = _Api(session, start, folder)
    routes = [
        Route("/api/start", api.start),
        Route("/api/look", api.look, methods=["POST"]),
        Route("/api/terms", api.terms),
        Route("/api/image", api.upload, methods=["PUT"]),
        Route("/api/example", api.example, methods=["POST"]),
        Route("/api/image", api.download),
        Route("/", lambda _: FileResponse(STATIC / "index.html")),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    hosts = [f"{name}:{port}" for name in (LOOPBACK, "localhost")]
    return Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        middleware=[Middleware(partial(Guard, hosts=hosts, token=token))],
        exception_handlers={FeatpipeError: _problem_response, HTTPException: _http_response},
    )


def make_server(app: Starlette) -> uvicorn.Server:
    """Return a server with limits on the time, number and size of requests, that prints nothing by itself."""
    config = uvicorn.Config(
        app, http=Connection, ws="none", lifespan="off", log_level="critical", access_log=False, server_header=False,
        backlog=BACKLOG, timeout_keep_alive=5, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=MOST_HEAD,
    )  # fmt: skip
    return uvicorn.Server(config)


def make_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(24)


class _Api:
    """The routes that are not files."""

    def __init__(self, session: Session, start: Mapping[str, Any], folder: Path) -> None:
        self.session = session
        self.begin = start
        self.folder = folder
        self.uploads = 0

    async def start(self, _: Request) -> Response:
        """Tell what the page begins with, and what its forms are made of."""
        facts = {
            **self.begin, "text": self.session.text or self.begin["text"], "forms": describe_forms(),
            "examples": NAMES, "parts": PARTS, "most_uploaded": MOST_UPLOADED,
            "subject": _subject_facts(self.session.subject),
        }  # fmt: skip
        return JSONResponse(facts)

    async def look(self, request: Request) -> Response:
        """Compute a chain's maps; answer with a header in JSON and the arrays behind it."""
        look = _read_look(await read_json(request))
        header, arrays = await run_in_threadpool(self.session.look, look)
        return Response(pack(header, arrays), media_type="application/octet-stream")

    async def terms(self, request: Request) -> Response:
        """Tell what a value is made of."""
        query = request.query_params
        try:
            y, x, feature = (int(query[name]) for name in ("y", "x", "feature"))
        except (KeyError, ValueError):
            raise HTTPException(400, "terms takes key, y, x and feature.") from None
        facts = await run_in_threadpool(self.session.terms, query.get("key", ""), (y, x), feature)
        return JSONResponse(facts)

    async def upload(self, request: Request) -> Response:
        """Take an image."""
        if self.uploads >= MOST_UPLOADS:
            raise HTTPException(503, "Other uploads are under way. Try again.", CLOSE)
        self.uploads += 1
        try:
            content = await read_body(request, MOST_UPLOADED)
        finally:
            self.uploads -= 1
        name = request.query_params.get("name", "image")
        subject = await run_in_threadpool(take_upload, content, name, self.folder)
        return self._chosen(subject)

    async def example(self, request: Request) -> Response:
        """Draw an example."""
        name = (await read_json(request)).get("name")
        return self._chosen(await run_in_threadpool(draw_example, str(name), self.folder))

    def _chosen(self, subject: Subject) -> Response:
        self.session.subject = subject
        return JSONResponse(_subject_facts(subject))

    async def download(self, _: Request) -> Response:
        """Give an example's file, so that a pipeline can be run on it."""
        subject = self.session.subject
        if subject.kind != "example":
            raise HTTPException(404, "Only examples are given out.")
        return FileResponse(subject.file, filename=subject.file.name)


def _subject_facts(subject: Subject) -> dict[str, str]:
    return {"name": printable(subject.name), "path": subject.path, "kind": subject.kind}


def pack(header: Mapping[str, Any], arrays: list[np.ndarray[Any, Any]]) -> bytes:
    """Return a header and arrays as one message.

    It holds the header's length (uint32), the header, and the arrays, each from a multiple of 4 bytes on; all are
    little-endian.
    """
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    pieces: list[Any] = [struct.pack("<I", len(text)), text]
    for array in arrays:
        pieces += [np.ascontiguousarray(array).data, b"\0" * (-array.nbytes % 4)]
    return b"".join(pieces)


def _read_look(asked: dict[str, Any]) -> Look:
    def numbers(name: str) -> dict[str, int]:
        value = asked.get(name) or {}
        return {str(k): int(v) for k, v in value.items()}

    try:
        most = int(asked.get("most", 512))
        return Look(
            text=None if asked.get("text") is None else str(asked["text"]),
            data=asked.get("data") if isinstance(asked.get("data"), dict) else None,
            branch=str(asked.get("branch", "")), scale=int(asked.get("scale", 1)),
            most=most if most in PARTS else 512,
            chosen=numbers("chosen"), first=numbers("first"),
            have=frozenset(map(str, asked.get("have") or [])),
        )  # fmt: skip
    except (AttributeError, OverflowError, TypeError, ValueError):
        raise HTTPException(400, "does not say what to look at.") from None


async def _problem_response(_: Request, error: Exception) -> Response:
    assert isinstance(error, FeatpipeError)
    told = [problem_facts(problem) for problem in error.problems]
    return JSONResponse({"problems": told}, 422)


async def _http_response(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = [{"where": "", "what": str(error.detail), "change": ""}]
    return JSONResponse({"problems": told}, error.status_code, error.headers)
