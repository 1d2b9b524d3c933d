"""Counters for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The counters of one server.

    Attributes:
        requests: Requests by route, arm and status.
        seconds: Seconds until a request was answered, by route.
        batches: Requests that were ranked together.
        waiting: Requests that wait.
        models: 1 for the model that an arm serves, and 0 for those it served before.
        reloads: Looks at a changed folder by arm, and whether its model was ``taken`` or
            ``refused``.
        unlogged: Lines of the log that could not be written.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "semid_requests", "Answered requests.", ("route", "arm", "status"), registry=registry
        )
        self.seconds = Histogram(
            "semid_request_seconds",
            "Seconds from a request's arrival to its answer.",
            ("route",),
            registry=registry,
            buckets=_SECONDS,
        )
        self.batches = Histogram(
            "semid_batch_size",
            "Requests that were ranked together.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )
        self.waiting = Gauge("semid_waiting_requests", "Requests that wait.", registry=registry)
        self.models = Gauge(
            "semid_model", "The served models.", ("arm", "model"), registry=registry
        )
        self.reloads = Counter(
            "semid_reloads", "Changed model folders.", ("arm", "result"), registry=registry
        )
        self.unlogged = Counter(
            "semid_unlogged_requests", "Lines that the log has not.", registry=registry
        )

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)
