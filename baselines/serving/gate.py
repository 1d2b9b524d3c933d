"""What every request passes first: its token, its size, its time; and last: metrics and the log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baselines.serving.config import ServeConfig
from baselines.serving.log import RequestLog
from baselines.serving.metrics import Metrics
from baselines.serving.problems import Problem

logger = logging.getLogger(__name__)

OPEN = ("/", "/openapi.json", "/health/live", "/health/ready")
"""Paths that need no token: they tell nothing about items or users."""
API = "/v1/"
"""Where all requests begin that are logged."""


class Gate:
    """Middleware around the API.

    Args:
        app: The API.
        config: Its limits.
        token: The token that requests must bear; None for none.
        metrics: Where requests are counted.
        log: Where they are written.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServeConfig,
        token: str | None,
        metrics: Metrics,
        log: RequestLog,
    ) -> None:
        self._app, self._config, self._metrics, self._log = app, config, metrics, log
        self._bearer = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, line = time.perf_counter(), 0, _line()
        scope.setdefault("state", {})["line"] = line

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", line["request"].encode()))
            await send(message)

        try:
            self._require_token(scope)
            body = await self._body(scope, receive)
            if body is not None:
                await self._app(scope, _again(body, receive), answer)
        except Problem as problem:
            await problem.response()(scope, receive, answer)
        except Exception:
            logger.exception("a request failed")
            fault = Problem(500, "this is a fault of the server, which reports it with a traceback")
            await fault.response()(scope, receive, answer)
        finally:
            self._count(scope, status, time.perf_counter() - began, line)

    def _require_token(self, scope: Scope) -> None:
        if self._bearer is None or scope["path"] in OPEN:
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._bearer):
            raise Problem(
                401,
                "expected the server's token, got another or none: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None if the client has gone."""
        most, body = self._config.max_body, bytearray()
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        is_short = not declared.isdigit() or int(declared) <= most
        more = is_short
        try:
            async with asyncio.timeout(self._config.body_timeout):
                while more and is_short:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more, is_short = message.get("more_body", False), len(body) <= most
        except TimeoutError as error:
            raise Problem(
                408,
                f"expected a whole request within {self._config.body_timeout:g} s, got a part",
                {"Connection": "close"},
            ) from error
        if not is_short:
            raise Problem(413, f"expected at most {most} bytes, got more", {"Connection": "close"})
        return bytes(body)

    def _count(
        self, scope: Scope, status: int, seconds: float, line: MutableMapping[str, Any]
    ) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, line.get("arm", ""), str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if scope["path"].startswith(API):
            line.update(
                method=scope["method"],
                path=scope["path"],
                status=status,
                latency_ms=round(1e3 * seconds, 3),
            )
            self._log.write(line)


def _line() -> dict[str, Any]:
    """The beginning of a line of the log, to which the API adds what it answers."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request": uuid.uuid4().hex,
    }


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was already received, and then what else comes."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
