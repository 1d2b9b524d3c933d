"""The server process: it listens, and stops after the requests in flight."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from baselines.serving.config import ServeConfig


class Server(uvicorn.Server):
    """Listens until SIGTERM or Ctrl-C, and then ends as any function does.

    A second Ctrl-C drops the requests in flight.

    Args:
        app: The API.
        config: Where it listens, and how long it waits for requests in flight.
        listening: Called with the address once requests are answered.
    """

    def __init__(
        self, app: FastAPI, config: ServeConfig, listening: Callable[[str], object]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
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
        """Start to listen.

        Raises:
            OSError: If the address is not free.
        """
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
