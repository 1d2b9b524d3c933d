"""Servers on the loopback, and clients of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tiny_models import shop

from baselines.models.recommender import Recommender
from baselines.serving.app import Service, make_app
from baselines.serving.config import ServeConfig
from baselines.serving.server import Server, bound_socket

IDS = shop().catalog.item_ids


@dataclass
class Running:
    """A server, and a client of it."""

    server: Server
    thread: threading.Thread
    service: Service
    client: httpx.Client

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.client.post(f"/v1/{path}", json=body, headers=headers)

    def metric(self, name: str) -> float:
        """The sum of a counter over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextmanager
def running(config: ServeConfig, token: str | None = None) -> Iterator[Running]:
    listens, addresses = threading.Event(), []

    def listening(address: str) -> None:
        addresses.append(address)
        listens.set()

    bound, app = bound_socket(config.host, config.port), make_app(config, token)
    server = Server(app, config, listening)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        assert listens.wait(30)
        with httpx.Client(base_url=addresses[0], timeout=30) as client:
            yield Running(server, thread, app.state.service, client)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


Serve = Callable[..., Running]
"""Starts a server of some models with some settings."""


def detail(answer: httpx.Response) -> str:
    """The line of a problem, once its form is checked."""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["status"] == answer.status_code
    assert "\n" not in problem["detail"]
    return str(problem["detail"])


def same(answer: dict[str, Any], alone: Recommender, history: list[Any], **options: Any) -> None:
    """Assert that a server's list is that of its model."""
    (found,) = alone.recommend([history], **options)
    assert [item["item_id"] for item in answer["items"]] == [item.item_id for item in found]
    assert [item["title"] for item in answer["items"]] == [item.title for item in found]
    scores = [item["score"] for item in answer["items"]]
    assert scores == pytest.approx([item.score for item in found], abs=1e-4)
