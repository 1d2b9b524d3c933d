"""The JSON files of LETTER, LC-Rec and MiniOneRec.

``NAME.inter.json`` maps each user to the list of his items, oldest first, and ``NAME.item.json``
each item to an object with its texts. The codes in ``NAME.index.json`` are read elsewhere: by
``--tokenizer file:NAME.index.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.sources.columns import as_lists, events_of_histories, item_columns
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader
from baselines.data.sources.files import read_json
from semid.columns import numbers_where_written
from semid.json_lines import table_of_objects

_EVENTS, ITEMS = ".inter.json", ".item.json"


class Letter(SourceReader):
    """A file ``.inter.json``, or a folder with one, and perhaps ``.item.json`` beside it."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        """Whether it is a file ``.inter.json``, or a folder with one."""
        return bool(_event_files(source))

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read the files; raises as ``SourceReader.read``."""
        found = _event_files(source)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ValueError(f"{source}: expected one file {_EVENTS}, got {names}; name one")
        notes: list[Note] = []
        beside = found[0].with_name(found[0].name.replace(_EVENTS, ITEMS))
        path = beside if config.items is None else Path(config.items)
        items = None
        if config.items is not None or beside.is_file():
            items = item_columns(read_texts(path, config, notes), config.columns, path, notes)
        events = _events(found[0], config, notes)
        return RawTables(events=events, items=items, notes=notes)


def _event_files(source: Path) -> list[Path]:
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return [path for path in paths if path.name.endswith(_EVENTS)]


def _object(path: Path, config: SourceConfig, notes: list[Note], kind: type) -> dict[str, Any]:
    """A JSON object whose values are all of one kind."""
    found = read_json(path, config, notes)
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: expected an object {{...}}, got {str(found)[:40]!r}")
    for name, value in found.items():
        if not isinstance(value, kind):
            raise ValueError(
                f"{path}: expected a {kind.__name__} for {name!r}, got {str(value)[:40]!r}"
            )
    return found


def _events(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    found = _object(path, config, notes, list)
    users = pl.Series(list(found), dtype=pl.String)
    histories = as_lists(found.values(), path)
    return events_of_histories(numbers_where_written(users), histories)


def read_texts(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    """The items of a file ``.item.json``; raises as ``SourceReader.read``."""
    found = _object(path, config, notes, dict)
    rows = (json.dumps({**texts, "item_id": item}) for item, texts in found.items())
    table = table_of_objects(rows)
    return table.with_columns(numbers_where_written(table["item_id"]))
