"""The JSON files of LETTER, LC-Rec and MiniOneRec.

``NAME.inter.json`` maps each user to the list of his items, oldest first, and ``NAME.item.json``
each item to an object with its texts; both may be compressed. The codes in ``NAME.index.json`` are
read elsewhere: by ``--tokenizer file:NAME.index.json``.
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
from baselines.data.sources.opening import COMPRESSED
from semid.columns import numbers_where_written
from semid.json_lines import table_of_objects

_EVENTS, _ITEMS = ".inter.json", ".item.json"
_WRITTEN: dict[type, str] = {
    list: 'each user with a list of items, such as {"1": [2, 3]}',
    dict: 'each item with its texts, such as {"2": {"title": "Tea"}}',
}
"""What the file of events and that of items hold."""


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
        stem = _plain_name(found[0]).removesuffix(_EVENTS)
        beside = [found[0].with_name(stem + _ITEMS + ending) for ending in ("", *COMPRESSED)]
        given = beside if config.items is None else [Path(config.items)]
        items = None
        if path := next((file for file in given if config.items or file.is_file()), None):
            items = item_columns(read_texts(path, config, notes), config.columns, path, notes)
        events = _events(found[0], config, notes)
        return RawTables(events=events, items=items, notes=notes)


def _event_files(source: Path) -> list[Path]:
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return [path for path in paths if _plain_name(path).endswith(_EVENTS)]


def holds_texts(path: Path) -> bool:
    """Whether a file is named ``.item.json``, plain or compressed."""
    return _plain_name(path).endswith(_ITEMS)


def _plain_name(path: Path) -> str:
    """The name of a file without the ending of its compression."""
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


def _object(path: Path, config: SourceConfig, notes: list[Note], kind: type) -> dict[str, Any]:
    """A JSON object whose values are all of one kind."""
    found = read_json(path, config, notes)
    if not isinstance(found, dict) or not found:
        raise ValueError(
            f"{path}: expected an object {{...}}, got {str(found)[:40]!r}; write {_WRITTEN[kind]}"
        )
    for name, value in found.items():
        if not isinstance(value, kind):
            raise ValueError(
                f"{path}: expected a {kind.__name__} for {name!r}, got {str(value)[:40]!r}; write "
                f"{_WRITTEN[kind]}"
            )
    return found


def _events(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    found = _object(path, config, notes, list)
    _refuse_mixed_ids(found, path)
    users = pl.Series(list(found), dtype=pl.String)
    histories = as_lists(found.values(), path)
    return events_of_histories(numbers_where_written(users), histories)


def _refuse_mixed_ids(histories: dict[str, list[Any]], path: Path) -> None:
    """Raise if some items are numbers and others text: ``1`` and ``"1"`` would be one item."""
    first: dict[type, str] = {}
    for user, items in histories.items():
        for item in items:
            if type(item) not in first:
                first[type(item)] = f"{item!r} of user {user!r}"
    if int in first and str in first:
        raise ValueError(
            f"{path}: expected lists of ids of one type, got {first[int]} and {first[str]}; write "
            "all items as numbers or all as text"
        )


def read_texts(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    """The items of a file ``.item.json``; raises as ``SourceReader.read``."""
    found = _object(path, config, notes, dict)
    rows = (json.dumps({**texts, "item_id": item}) for item, texts in found.items())
    table = table_of_objects(rows)
    return table.with_columns(numbers_where_written(table["item_id"]))
