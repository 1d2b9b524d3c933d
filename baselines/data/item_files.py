"""Lists of items from files: those that may be recommended, and those that are boosted."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from baselines.data.plain_layout import is_plain_table, read_table
from semid.columns import as_ids


def read_items(path: str | Path) -> tuple[str | int, ...]:
    """Item ids from a table with a column ``item_id``, or a text file with an id on each line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a table cannot be read or lacks the column, or there is no id.
    """
    path = Path(path)
    if is_plain_table(path):
        ids = as_ids(read_table(path, ids=("item_id",))["item_id"]).drop_nulls()
        found: tuple[str | int, ...] = tuple(ids.to_list())
    elif path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected text in UTF-8, got {error.reason}") from None
        found = tuple(filter(None, map(str.strip, lines)))
    else:
        raise FileNotFoundError(f"no file {path}; name one that is there")
    if not found:
        raise ValueError(f"{path}: expected item ids, got none")
    return found


def read_boosts(path: str | Path) -> dict[str | int, float]:
    """Item ids with a number from a table with columns ``item_id`` and ``boost``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, lacks a column, or a value is missing, repeated or no
            finite number.
    """
    table = read_table(path, ids=("item_id",), required=("boost",))
    ids = as_ids(table["item_id"])
    boosts = table["boost"].cast(pl.Float64, strict=False)
    for wrong, what in (
        (ids.is_null(), "an item_id in each row"),
        (ids.is_duplicated(), "each item once"),
        (~boosts.is_finite().fill_null(False), "a finite number as boost"),
    ):
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise ValueError(
                f"{path}: expected {what}, got {table['boost'][row]!r} for item {ids[row]!r}"
            )
    return dict(zip(ids.to_list(), boosts.to_list(), strict=True))
