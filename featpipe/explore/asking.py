"""What a request asks: its body, read within limits of size and time, and its JSON, of plain values alone."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST_ASKED = 1 << 20
"""Bytes of a request but for uploads: a pipeline's text."""
BODY_SECONDS = 30.0
"""For a body to arrive."""
DEEPEST = 64
"""Levels of nesting; those of a pipeline, with a few around them."""
CLOSE = {"connection": "close"}
"""Headers of an answer after which the rest of a request is not read."""


async def read_body(request: Request, most: int) -> bytes:
    """Read a request's body.

    Parameters
    ----------
    request : Request
    most : int
        Bytes that it may have.

    Raises
    ------
    HTTPException
        413 if it is larger, 408 if it does not arrive in time, 400 if it ends too early.
    """
    content = bytearray()
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and (len(length) > 18 or int(length) > most):
        raise _too_large(most)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise HTTPException(408, f"did not arrive within {BODY_SECONDS:.0f} s.", CLOSE) from None
    except ClientDisconnect:
        raise HTTPException(400, "ends too early.", CLOSE) from None
    return bytes(content)


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"is larger than {most >> 20} MiB.", CLOSE)


async def read_json(request: Request) -> dict[str, Any]:
    """Read a request's JSON object.

    Raises
    ------
    HTTPException
        If it is none, or holds what no pipeline does: infinity, half a surrogate pair, very deep nesting.
    """
    try:
        data = json.loads(await read_body(request, MOST_ASKED), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise HTTPException(400, "is no JSON of finite numbers.") from None
    if not isinstance(data, dict):
        raise HTTPException(400, "must be a JSON object.")
    _check(data)
    return data


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _check(data: Any) -> None:
    level, depth = [data], 0
    while level:
        if depth > DEEPEST:
            raise HTTPException(400, f"is nested deeper than {DEEPEST} levels.")
        below: list[Any] = []
        for one in level:
            match one:
                case dict():
                    below += [*one.keys(), *one.values()]
                case list():
                    below += one
                case str() if any("\ud800" <= character <= "\udfff" for character in one):
                    raise HTTPException(400, f"holds text that is not Unicode: {one[:60]!a}.")
        level, depth = below, depth + 1
