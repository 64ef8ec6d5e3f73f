"""Who may talk to the page's server: its own page, on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Of every answer."""
SAME_SITE = ("same-origin", "none")


class Guard:
    """Refuses requests of other hosts, of other pages and without the token.

    A name that another site lets point to this machine (DNS rebinding) is in ``Host``, a request that another site's
    page sends has its ``Origin`` or ``Sec-Fetch-Site``; neither knows the token, with which every path begins.

    Parameters
    ----------
    app : ASGIApp
    hosts : iterable of str
        The names, with the port, by which the server may be called.
    token : str
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        # Files are small, and ranges of them cost more to read than they save
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in (b"range", b"if-range")]}
        await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the page's routes answer; what they did not foresee is told in words as well."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception as error:
            if not begun:
                await _unforeseen(error)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            return PlainTextResponse("This server answers to its own address only.\n", 421)
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("Requests of other pages are refused.\n", 403)
        if not scope["path"].isprintable():
            return PlainTextResponse("The address holds characters that no address has.\n", 400)
        given = scope["path"].removeprefix("/").partition("/")[0]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return PlainTextResponse("The address lacks its token. Open the one that featpipe explore printed.\n", 403)
        page = scope["method"] in ("GET", "HEAD") and scope["path"] == f"/{self.token}/"
        if headers.get("sec-fetch-site", "none") not in SAME_SITE and not page:
            return PlainTextResponse("Requests of other pages are refused.\n", 403)
        return None


def _unforeseen(error: Exception) -> JSONResponse:
    match error:
        case MemoryError():
            told = {"where": "page", "what": "the memory ran out.", "change": "Look at a smaller part."}
        case OSError() if error.strerror:
            told = {"where": "page", "what": f"{error.strerror[:1].lower()}{error.strerror[1:]}.", "change": ""}
        case _:
            what = f"this is a bug in featpipe: {type(error).__name__}: {error}".rstrip(".") + "."
            told = {"where": "page", "what": what, "change": "Please report it, with what you did."}
    return JSONResponse({"problems": [told]}, 500)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent
