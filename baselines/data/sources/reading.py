"""Read a source of any format, found by its looks or its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader
from semid.columns import as_ids
from semid.registry import load_class

READERS = {
    "recbole": "baselines.data.sources.recbole:RecBole",
    "letter": "baselines.data.sources.letter:Letter",
    "sequences": "baselines.data.sources.sequences:Sequences",
    "tables": "baselines.data.sources.tables:Tables",
}
"""Class of each format by name; a source is of the first that recognises it."""


def recognises(source: Path) -> bool:
    """Whether some format recognises a file or folder."""
    return source.exists() and _recognised(source) is not None


def read_source(source: str | Path, config: SourceConfig) -> RawTables:
    """Read events and items.

    Args:
        source: A file or folder.
        config: How it is read.

    Returns:
        The tables. Ids of events and items are of one type; without a table of items, it holds the
        ids of the events in ascending order. Items repeated in equal rows are there once.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If no format recognises it, it cannot be read, or rows of one item differ.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    name = config.format or _recognised(source)
    if name is None:
        raise ValueError(
            f"{source}: expected data in a format out of {', '.join(READERS)}, got "
            f"{_contents(source)}; name the file of events, or the format by --read.format"
        )
    raw = _reader(name)().read(source, config)
    notes = [Note(kind="guessed", says=f"format: {name}")] if config.format is None else []
    notes += raw.notes
    try:
        users, of_events = (as_ids(raw.events[column]) for column in ("user_id", "item_id"))
        events = raw.events.with_columns(users, of_events)
        if raw.items is None:
            items = of_events.drop_nulls().unique().sort().to_frame()
            notes.append(Note(kind="guessed", says="items: those of the events", count=len(items)))
            return RawTables(events=events, items=items, notes=notes)
        items = raw.items.with_columns(as_ids(raw.items["item_id"]))
        if items["item_id"].dtype != of_events.dtype:
            events, items = (
                table.with_columns(pl.col("item_id").cast(pl.String)) for table in (events, items)
            )
        return RawTables(events=events, items=_distinct(items, notes), notes=notes)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _reader(name: str) -> type[SourceReader]:
    return load_class(
        name,
        READERS,
        SourceReader,  # type: ignore[type-abstract]
        what="format",
        advice="Derive it from SourceReader.",
    )


def _recognised(source: Path) -> str | None:
    return next((name for name in READERS if _reader(name).recognises(source)), None)


def _contents(source: Path) -> str:
    if not source.is_dir():
        return f"a file named {source.name}"
    names = sorted(path.name for path in source.iterdir())
    return f"a folder with {', '.join(names[:10]) or 'nothing'}"


def _distinct(items: pl.DataFrame, notes: list[Note]) -> pl.DataFrame:
    """Items without rows that equal an earlier one, and without those that have no id."""
    nameless = items.filter(pl.col("item_id").is_null())
    if nameless.height:
        notes.append(left_out("items without an id", nameless))
        items = items.filter(pl.col("item_id").is_not_null())
    if not items["item_id"].is_duplicated().any():
        return items
    distinct = items.unique(maintain_order=True, keep="first")
    twice = distinct.filter(pl.col("item_id").is_duplicated())
    if twice.height:
        item = twice["item_id"][0]
        one, other = twice.filter(pl.col("item_id") == item).rows(named=True)[:2]
        column = next(name for name in one if one[name] != other[name])
        raise ValueError(
            f"expected one row for each item, got {item!r} with {column} {one[column]!r:.60} and "
            f"{other[column]!r:.60}; keep one of them"
        )
    repeated = items.filter(~pl.col("item_id").is_first_distinct())
    return_note = replace(left_out("items repeated in equal rows", repeated), kind="repaired")
    notes.append(return_note)
    return distinct


def left_out(says: str, rows: pl.DataFrame) -> Note:
    """A note about rows that were left out, with the first of them."""
    return Note(kind="left out", says=says, count=rows.height, examples=rows.head(5).to_dicts())
