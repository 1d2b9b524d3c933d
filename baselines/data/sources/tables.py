"""Tables of events and items in parquet, CSV or JSON lines, by whatever names.

This covers what Amazon (2014, 2018, 2023), MovieLens, Yelp and Steam publish.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from baselines.data.preparing.coded import CodedEvents
from baselines.data.sources.blocks import as_numbers, by_role
from baselines.data.sources.columns import event_columns, event_role, item_columns
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader, names_taken
from baselines.data.sources.files import is_delimited, is_table, read_file, with_typed_ids
from semid.columns import as_ids, numbers_where_written
from semid.json_lines import as_it_is

_EVENTS = re.compile(r"interaction|event|review|rating|transaction|purchase|click|^u\.data")
_ITEMS = re.compile(r"^meta|_meta|item|movie|product|business|games?\b|catalog|articles|books")
_HEADERS = {
    "ratings.dat": ("user_id", "item_id", "rating", "timestamp"),
    "movies.dat": ("item_id", "title", "genres"),
    "u.data": ("user_id", "item_id", "rating", "timestamp"),
    "u.item": (
        *("item_id", "title", "release_date", "video_release_date", "url", "unknown", "action"),
        *("adventure", "animation", "children", "comedy", "crime", "documentary", "drama"),
        *("fantasy", "film_noir", "horror", "musical", "mystery", "romance", "sci_fi"),
        *("thriller", "war", "western"),
    ),
}
"""Columns of MovieLens's files that have no header, by name."""


class Tables(SourceReader):
    """A file of events, or a folder with a table of events and perhaps one of items."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        """Whether it is a table, or holds one that by its name or by itself is one of events."""
        if is_table(source) or not source.is_dir():
            return is_table(source)
        names = _tables(source)
        alone = len(names) == 1 and not any(name.startswith("item") for name in names)
        return alone or any(_EVENTS.search(name) or name.startswith("meta_") for name in names)

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read the tables; raises as ``SourceReader.read``."""
        events_file, items_file = _files(source, config)
        notes: list[Note] = []
        is_text = is_delimited(events_file)
        keep = by_role(
            lambda name: event_role(name, config.columns), as_numbers if is_text else as_it_is
        )
        header = config.header or _HEADERS.get(events_file.name)
        table = read_file(events_file, config, notes, header, keep)
        table = event_columns(table, config.columns, events_file, notes)
        try:
            events = CodedEvents.of(table, numbers_where_written if is_text else as_ids)
        except ValueError as error:
            raise ValueError(f"{events_file}: {error}{names_taken(notes)}") from None
        items: pl.DataFrame | None = None
        if items_file is not None:
            header = config.items_header or _HEADERS.get(items_file.name)
            items = read_file(items_file, config, notes, header)
            items = item_columns(items, config.columns, items_file, notes)
            items = with_typed_ids(items, items_file)
            items = _divided_categories(items, items_file.name, notes)
        return RawTables(events=events, items=items, notes=notes)


def names_items(name: str) -> bool:
    """Whether a table or split of this name holds items rather than events."""
    return bool(_ITEMS.search(name)) and not _EVENTS.search(name)


def _files(source: Path, config: SourceConfig) -> tuple[Path, Path | None]:
    given = None if config.items is None else Path(config.items)
    if is_table(source) or not source.is_dir():
        return source, given
    tables = _tables(source)
    if len(tables) == 1:  # such as Books.jsonl of Amazon 2023 without its metadata
        return next(iter(tables.values())), given
    items = [name for name in tables if name.startswith("meta_")] or [
        name for name in tables if names_items(name)
    ]
    others = [name for name in tables if name not in items]
    events = [name for name in others if _EVENTS.search(name)] or others
    for role, found, option in (
        ("events", events, "name the file of events instead of the folder"),
        ("items", items, "name the file of events instead of the folder, and --read.items FILE"),
    ):
        if len(found) > 1 or (role == "events" and not found):
            names = ", ".join(found or sorted(path.name for path in source.iterdir())) or "nothing"
            raise ValueError(f"{source}: expected one table of {role}, got {names}; {option}")
    return tables[events[0]], given or (tables[items[0]] if items else None)


def _tables(folder: Path) -> dict[str, Path]:
    """The tables of a folder, by their names in lower case."""
    return {path.name.lower(): path for path in sorted(folder.iterdir()) if is_table(path)}


def _divided_categories(table: pl.DataFrame, where: str, notes: list[Note]) -> pl.DataFrame:
    """Split categories at ``|``, as MovieLens writes genres."""
    groups = table.get_column("categories", default=None)
    if groups is None or groups.dtype != pl.String:
        return table
    if not groups.str.contains("|", literal=True).any():
        return table
    notes.append(Note(kind="repaired", says=f"{where}: categories divided at |", count=len(table)))
    return table.with_columns(groups.str.split("|"))
