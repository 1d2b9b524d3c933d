"""The server process: it listens, and stops after the requests in flight."""

from __future__ import annotations

import signal
import threading
from asyncio import TimerHandle, Transport, sleep
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from socket import SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from types import FrameType
from typing import ClassVar

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from baselines.serving.config import ServeConfig


def bound_socket(host: str, port: int) -> socket:
    """A socket at an address, which nobody else can take from now on.

    Raises:
        OSError: If the address is not free, or not of this machine.
    """
    try:
        family, kind, protocol, _, address = getaddrinfo(host, port, type=SOCK_STREAM)[0]
        with ExitStack() as failed:
            bound = failed.enter_context(socket(family, kind, protocol))
            bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            bound.bind(address)
            failed.pop_all()
    except OSError as error:
        raise OSError(
            f"expected an address to listen on, got {host} and port {port}: {error.strerror}. Name "
            "others: --host, --port."
        ) from error
    return bound


class _Protocol(H11Protocol):
    """Closes a connection whose request has not begun to arrive whole in time.

    Uvicorn limits the time between requests alone; a client that sends the head of a request byte
    by byte would hold its connection for ever.
    """

    head_timeout: ClassVar[float]
    _patience: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def _look(self) -> None:
        waits = self.conn.their_state is h11.IDLE
        if waits and self._patience is None:
            self._patience = self.loop.call_later(self.head_timeout, self._give_up)
        elif not waits and self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Listens until SIGTERM or Ctrl-C, and then ends as any function does.

    A second Ctrl-C drops the requests in flight.

    Args:
        app: The API.
        config: How long it waits, for requests and, when it stops, for those in flight.
        listening: Called with the address once requests are answered.
    """

    def __init__(
        self, app: FastAPI, config: ServeConfig, listening: Callable[[str], object]
    ) -> None:
        timed = type("_Timed", (_Protocol,), {"head_timeout": config.body_timeout})
        super().__init__(
            uvicorn.Config(
                app,
                http=timed,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(config.stop_timeout)),
            )
        )
        self._listening = listening

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Within the body, signals stop the server and are not raised again."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread alone
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop, and drop the connections of clients that do not read their answers in time."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await sleep(0)  # in which they are closed
