"""Who may talk to the page's server: its own page, on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
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
        await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            return PlainTextResponse("This server answers to its own address only.\n", 421)
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("Requests of other pages are refused.\n", 403)
        given = scope["path"].split("/")[1]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return PlainTextResponse("The address lacks its token. Open the one that featpipe explore printed.\n", 403)
        page = scope["method"] in ("GET", "HEAD") and scope["path"] == f"/{self.token}/"
        if headers.get("sec-fetch-site", "none") not in SAME_SITE and not page:
            return PlainTextResponse("Requests of other pages are refused.\n", 403)
        return None


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent
