"""Tables from Python: polars or pandas frames, or mappings of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baselines.data.readers import as_table
from baselines.data.sources.columns import event_columns, item_columns
from baselines.data.sources.config import ColumnNames
from baselines.data.sources.contract import Note, RawTables
from semid.registry import load_function


def from_frames(items: Any, events: Any, columns: ColumnNames | None = None) -> RawTables:
    """Raw tables from frames, with columns of common names recognised as in files.

    Args:
        items: A polars or pandas frame, or a mapping of columns; None for the events' items.
        events: Likewise.
        columns: Names of columns; None to guess each.

    Raises:
        ValueError: If one is no table, is empty, or lacks a column.
    """
    columns = columns or ColumnNames()
    notes: list[Note] = []
    what = "interactions", "items"
    of_events = event_columns(as_table(events, what[0]), columns, Path(what[0]), notes)
    if items is None:
        return RawTables(events=of_events, items=None, notes=notes)
    of_items = item_columns(as_table(items, what[1]), columns, Path(what[1]), notes)
    return RawTables(events=of_events, items=of_items, notes=notes)


def from_reader(name: str, columns: ColumnNames) -> RawTables:
    """Raw tables from a function ``package.module:function``, see ``baselines.data.readers``.

    Raises:
        ValueError: If there is no such function, it returns no two tables, or as ``from_frames``.
    """
    read = load_function(name, {}, what="reader")()
    if not (isinstance(read, (tuple, list)) and len(read) == 2):
        raise ValueError(
            f"expected tables of items and interactions from {name}, got {type(read).__name__}"
        )
    items, events = read
    return from_frames(items, events, columns)
