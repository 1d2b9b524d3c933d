"""Settings of ``semid serve``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from semid.checks import require_int, require_text
from semid.field_types import require_types

TOKEN_VARIABLE = "SEMID_TOKEN"
"""Environment variable that holds the bearer token."""


class ArmSource(NamedTuple):
    """A model that is served.

    Attributes:
        name: Its name in requests, metrics and the log.
        folder: Its folder, or its name on the Hub.
        share: Share of the requests that it answers if they name no arm.
    """

    name: str
    folder: str
    share: float


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of ``semid serve``.

    Attributes:
        models: Folders of trained models, or their names on the Hub, each as ``FOLDER`` or
            ``NAME=FOLDER``.
        shares: Share of the requests of each model, if they name none; by default the first one
            answers all of them.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        backbone: Class path of the models' backbone, if it is not built in.
        teacher: Class path of the teacher that they need or have in their beam, likewise.
        base: Path of their base language model, if it has moved.
        max_batch: Largest number of requests that are ranked together.
        max_wait_ms: Longest time that a request waits for others to be ranked with it.
        queue: Largest number of waiting requests; further ones are refused with status 429.
        deadline: Seconds within which a request is answered, or else refused with status 504.
        max_k: Largest length of a list.
        max_history: Largest number of items of a history.
        max_body: Largest number of bytes of a request.
        body_timeout: Seconds within which a request must have arrived.
        stop_timeout: Seconds that requests in flight have to finish when the server stops.
        watch: Seconds between looks at the folders, whose new models are taken over; 0 never looks.
        log: File to which each request is appended as a line of JSON; None for none.
        token_file: File with the token that requests must bear; by default the environment variable
            SEMID_TOKEN, if it is set.
    """

    models: tuple[str, ...]
    shares: tuple[float, ...] | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    backbone: str | None = None
    teacher: str | None = None
    base: str | None = None
    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 256
    deadline: float = 5.0
    max_k: int = 100
    max_history: int = 1000
    max_body: int = 1_000_000
    body_timeout: float = 10.0
    stop_timeout: float = 30.0
    watch: float = 5.0
    log: str | None = None
    token_file: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_text("host", self.host)
        require_int("port", self.port, 0, 65_535)
        for name in ("max_batch", "queue", "max_k", "max_history", "max_body"):
            require_int(name, getattr(self, name), 1)
        for name in ("deadline", "body_timeout", "stop_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        for name in ("max_wait_ms", "watch"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        _require_names([source.name for source in self.arms])

    @property
    def arms(self) -> tuple[ArmSource, ...]:
        """The models, with their shares."""
        if not self.models:
            raise ValueError("models must name at least one folder, got none")
        shares = self.shares or (1.0, *(0.0 for _ in self.models[1:]))
        if len(shares) != len(self.models) or min(shares, default=-1) < 0:
            raise ValueError(
                f"shares must be a number of at least 0 for each of {len(self.models)} models, got "
                f"{self.shares!r}"
            )
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ValueError(f"shares must add up to 1, got {sum(shares):g}")
        named = map(_named, self.models)
        return tuple(
            ArmSource(name, folder, share)
            for (name, folder), share in zip(named, shares, strict=True)
        )


def _named(model: str) -> tuple[str, str]:
    name, equals, folder = model.partition("=")
    if not equals:
        name, folder = Path(model).resolve().name, model
    if not name or not folder or not name.isprintable() or not name.isascii():
        raise ValueError(f"models must be FOLDER or NAME=FOLDER, NAME in ASCII, got {model!r}")
    return name, folder


def _require_names(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"models must have different names, got {twice[0]} more than once. Name them: "
            "NAME=FOLDER."
        )
