"""Connections that are slow, silent or too many: each has its time, and the page's own always find room."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 64
"""At once; a browser opens six."""
MOST_HEAD = 16 << 10
"""Bytes of a request's line and headers."""
HEAD_SECONDS = 10.0
"""For a request's line and headers to arrive, and between requests."""
ANSWER_SECONDS = 60.0
"""For a client to take what is sent."""


class Connection(H11Protocol):
    """A connection that is closed when its request, or the reading of its answer, takes too long."""

    head_seconds: ClassVar[float] = HEAD_SECONDS
    answer_seconds: ClassVar[float] = ANSWER_SECONDS
    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin; where there are too many connections, the one that has waited longest for a request goes."""
        super().connection_made(transport)
        self._watch()
        alive = [one for one in self.connections if isinstance(one, Connection) and not one.transport.is_closing()]
        if len(alive) > MOST_CONNECTIONS:
            waiting = [one for one in alive if one is not self and one.waits]
            if waiting:
                min(waiting, key=lambda one: one.deadline).refuse(503, "Too many connections.")
            else:
                self.refuse(503, "Too many requests at once. Try again.")

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def deadline(self) -> float:
        """When the request must be here, by the loop's clock."""
        return self._head_timer.when() if self._head_timer is not None else 0.0

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was waited for."""
        super().connection_lost(exc)
        for timer in (self._head_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Give the client time to take what was sent."""
        super().pause_writing()
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self.refuse(400, msg)

    def refuse(self, status: int, what: str) -> None:
        """Answer before any request is whole, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({"problems": [{"where": "", "what": what, "change": ""}]}).encode()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-type: application/json"]
        lines += ["cache-control: no-store", f"content-length: {len(body)}", "connection: close", "", ""]
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()

    def _watch(self) -> None:
        """Let time run while a request is waited for."""
        if not self.waits or self.transport.is_closing():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_late)

    def _too_late(self) -> None:
        self._head_timer = None
        if self.waits:
            self.refuse(408, "The request did not come in time.")
