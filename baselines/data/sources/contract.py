"""What a reader of a source implements and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from baselines.data.preparing.coded import CodedEvents
from baselines.data.sources.config import SourceConfig

NoteKind = Literal["guessed", "repaired", "left out", "kept"]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What was decided about a source.

    Attributes:
        kind: Whether something was guessed, repaired, left out, or is unusual but kept.
        says: What it is, in a few words.
        count: Number of rows concerned; None if it is about the source as a whole.
        examples: The first of these rows.
    """

    kind: NoteKind
    says: str
    count: int | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)


def names_taken(notes: list[Note]) -> str:
    """Which columns an error means where they have other names in the source; else nothing."""
    renamed = [note.says for note in notes if " <- " in note.says]
    return f" ({'; '.join(renamed)})" if renamed else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawTables:
    """Events and items as read.

    Attributes:
        events: One row per event: ``user_id``, ``item_id``, ``timestamp`` or ``position``, and
            ``rating`` if known, in any form that `semid.columns` accepts; or coded already.
        items: One row per item: ``item_id`` and its texts; None if the source has none.
        notes: What was decided.
    """

    events: pl.DataFrame | CodedEvents
    items: pl.DataFrame | None
    notes: list[Note]


class SourceReader(ABC):
    """A reader of one format."""

    @classmethod
    @abstractmethod
    def recognises(cls, source: Path) -> bool:
        """Whether a file or folder, which exists, looks like this format; reads names only."""

    @abstractmethod
    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read a file or folder.

        Raises:
            ValueError: If it cannot be read, with the file, what was expected and what came.
        """
