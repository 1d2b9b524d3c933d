"""Sequence files: on each line a user and their items, oldest first (S3-Rec, P5, SASRec).

``NAME.txt`` (S3-Rec) or ``sequential_data.txt`` (P5) holds the lines, and
``NAME_item2attributes.json`` of S3-Rec lists of attributes by item; files of SASRec have a line for
each event. There are no times.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl

from baselines.data.sources.columns import as_lists, events_of_histories, names_columns
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader
from baselines.data.sources.files import kind_of, read_json, read_text
from baselines.data.sources.opening import COMPRESSED, start_of
from semid.columns import numbers_where_written

_ATTRIBUTES = "_item2attributes.json"
_LINE = re.compile(r"[^\s,;|]+( +[^\s,;|]+)+ *")


class Sequences(SourceReader):
    """A file of sequences, or a folder with one and perhaps attributes of items."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        """Whether it is a file of lines such as ``user item item``, or a folder with one."""
        return bool(_sequence_files(source))

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read the files; raises as ``SourceReader.read``."""
        found = _sequence_files(source) or ([source] if source.is_file() else [])
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ValueError(f"{source}: expected one file of sequences, got {names}; name one")
        notes: list[Note] = []
        words = _words(found[0], config, notes)
        users = numbers_where_written(words["user_id"])
        events = events_of_histories(users, words["items"])
        events = events.with_columns(numbers_where_written(events["item_id"]))
        return RawTables(events=events, items=_items(found[0], config, notes), notes=notes)


def _sequence_files(source: Path) -> list[Path]:
    if source.is_dir():
        return [path for path in sorted(source.iterdir()) if _holds_sequences(path)]
    return [source] if _holds_sequences(source) else []


def _holds_sequences(path: Path) -> bool:
    """Whether the first lines are words divided by blanks, and the first names no columns."""
    if not path.is_file() or kind_of(path) != ".txt":
        return False
    try:
        lines = start_of(path).splitlines()[:20]
    except (ValueError, OSError):
        return False  # what reads it says why
    first = [line for line in lines if line.strip()]
    return bool(first) and all(map(_LINE.fullmatch, first)) and not names_columns(first[0].split())


def _words(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    text = io.StringIO(read_text(path, config, notes), newline=None)
    lines = pl.Series([line.rstrip("\n") for line in text], dtype=pl.String)
    words = lines.str.extract_all(r"\S+")
    lengths = words.list.len()
    if (lengths == 1).any():
        row = int((lengths == 1).arg_max() or 0)
        raise ValueError(
            f"{path} line {row + 1}: expected a user and at least one item, got {lines[row]!r}; "
            "write the items behind the user, or take the line out"
        )
    numbers = (lengths > 0).arg_true() + 1
    words = words.filter(lengths > 0)
    if not len(words):
        raise ValueError(f"{path} is empty; write or fetch it again")
    users = words.list.first()
    if users.is_duplicated().any() and (words.list.len() == 2).all():
        notes.append(Note(kind="guessed", says=f"{path.name}: each line is an event, in order"))
        events = pl.DataFrame({"user_id": users, "items": words.list.last()})
        return events.group_by("user_id", maintain_order=True).agg("items")
    if users.is_duplicated().any():
        user = users.filter(users.is_duplicated())[0]
        first, second = numbers.filter(users == user)[:2]
        raise ValueError(
            f"{path} line {second}: expected each user on one line, got {user!r} on line {first} "
            "too; write all items of a user on one line"
        )
    return pl.DataFrame({"user_id": users, "items": words.list.slice(1)})


def _items(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame | None:
    beside = path.name.partition(".")[0] + _ATTRIBUTES
    found = [path.with_name(beside + ending) for ending in ("", *COMPRESSED)]
    given = found if config.items is None else [Path(config.items)]
    attributes = next((file for file in given if file.is_file()), given[0])
    if config.items is None and not attributes.is_file():
        return None
    listed = read_json(attributes, config, notes)
    if not isinstance(listed, dict) or not all(isinstance(one, list) for one in listed.values()):
        raise ValueError(
            f"{attributes}: expected an object of lists by item, got {str(listed)[:40]!r}; write "
            'each item with its attributes, such as {"2": ["red", "small"]}'
        )
    ids = pl.Series("item_id", list(listed), dtype=pl.String)
    texts = as_lists(listed.values(), attributes).alias("attributes")
    return pl.DataFrame([numbers_where_written(ids), texts])
