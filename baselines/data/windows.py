"""Windows, a history and its target in each row, by the names that their publishers give."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from baselines.data.plain_layout import read_table, require_columns
from baselines.data.sources.files import with_typed_ids
from semid.lists import as_id_lists

_NAMES = {
    "history": ("history_item_id", "hist_id"),  # of MiniOneRec, of TCA4Rec
    "item_id": ("iid",),
    "user_id": ("uid",),
}
_SEQUENCE = "item_ids"  # of MSL: the history and, last, the target


def read_windows(path: str | Path) -> pl.DataFrame:
    """Read windows in the plain layout, or as MiniOneRec, TCA4Rec and MSL publish them.

    Returns:
        One row per window: ``history`` (lists, or text that prints them), ``item_id``, perhaps
        ``user_id`` and ``timestamp``, and the other columns of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or has no column of histories or targets.
    """
    path = Path(path)
    try:
        table = as_windows(read_table(path))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    require_columns(table, path, ("history", "item_id"))
    return with_typed_ids(table, path, ("item_id",))


def as_windows(table: pl.DataFrame) -> pl.DataFrame:
    """A table with the columns of the plain layout; those of its names are taken as they are.

    Raises:
        ValueError: If a column of sequences holds no lists.
    """
    if _SEQUENCE in table.columns and not {"history", "item_id"} & set(table.columns):
        sequences = as_id_lists(table[_SEQUENCE], pl.Series([], dtype=pl.String))
        history = sequences.list.reverse().list.slice(1).list.reverse()
        item = sequences.list.last()
        table = table.drop(_SEQUENCE).with_columns(history.alias("history"), item.alias("item_id"))
    found = {
        other: name
        for name, others in _NAMES.items()
        for other in others
        if other in table.columns and name not in table.columns
    }
    return table.rename(found)
