"""Settings of ``semid export``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semid.checks import require_text
from semid.field_types import require_types

Server = Literal["hf", "vllm", "rtp-llm", "xllm", "static", "flashrec"]
"""Servers, by the names of their formats: Hugging Face ``transformers``, vLLM, RTP-LLM, JD's xLLM,
the arrays of STATIC, and FlashRec."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Settings of ``semid export``.

    Attributes:
        folder: A model written by ``semid train`` or ``semid pick``; or, for a server that needs
            the trie only, semantic IDs written by ``semid build``.
        to: The server.
        out: Folder to write, new or an earlier export.
        backbone: ``package.module:Class`` of the model's backbone if it is not built in.
        teacher: ``package.module:Name`` of the teacher that it needs, likewise.
        base: Path of its base language model if it has moved.
    """

    folder: str
    to: Server
    out: str
    backbone: str | None = None
    teacher: str | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("folder", "out"):
            require_text(name, getattr(self, name))
