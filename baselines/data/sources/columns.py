"""Which column is which, and what its cells become."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.sources.config import ColumnNames
from baselines.data.sources.contract import Note
from baselines.data.sources.headers import looks_like_data, without_header
from semid.lists import as_id_lists

_USER = (
    *("user_id", "user", "uid", "reviewer_id", "customer_id", "visitor_id", "household_id"),
    *("member_id", "author_id", "username", "user_name"),
)
_ITEM = (
    *("item_id", "item", "iid", "parent_asin", "asin", "movie_id", "product_id", "business_id"),
    *("article_id", "book_id", "song_id", "track_id", "game_id", "sku", "id"),
)
_TIME = (
    *("timestamp", "time", "unix_review_time", "position", "ts", "event_time", "datetime"),
    *("date", "created_at", "transaction_timestamp", "review_time"),
)
_RATING = ("rating", "overall", "stars", "score")
_TITLE = ("title", "name", "app_name", "item_name", "product_title", "product_name", "movie_title")
_CATEGORIES = ("categories", "genres", "genre", "category", "class")
_LISTED = r"(?s)^\s*\[.*\]\s*$"


def event_role(name: str, names: ColumnNames) -> str | None:
    """Whether a column of this name may hold an ``id`` or a ``value`` of events, or neither."""
    plain = _plain(name)
    if name in (names.user, names.item) or plain in map(_plain, (*_USER, *_ITEM)):
        return "id"
    is_value = name in (names.time, names.rating) or plain in map(_plain, (*_TIME, *_RATING))
    return "value" if is_value else None


def event_columns(
    table: pl.DataFrame, names: ColumnNames, where: Path, notes: list[Note]
) -> pl.DataFrame:
    """Name the columns of events: ``user_id``, ``item_id``, ``timestamp`` or ``position``.

    ``rating`` is kept if there is one; other columns are not.

    Raises:
        ValueError: If a needed column is not there.
    """
    user = _find(table, names.user, _USER, "user", where)
    item = _find(table, names.item, _ITEM[:-1], "item", where)
    time = _find(table, names.time, _TIME, "time", where)
    rating = _find(table, names.rating, _RATING, "rating", where, needed=False)
    order = "position" if time == "position" else "timestamp"
    found = {"user_id": user, "item_id": item, order: time, "rating": rating}
    chosen = {role: name for role, name in found.items() if name is not None}
    _note_names(chosen, where, notes)
    kind = pl.Null() if rating is None else table.schema[rating]
    if not (kind.is_numeric() or kind in (pl.String, pl.Categorical, pl.Null, pl.Boolean)):
        raise ValueError(
            f"{where}: expected numbers as ratings, got {kind} in column {rating!r}; name another "
            "by --read.columns.rating"
        )
    return table.select(pl.col(name).alias(role) for role, name in chosen.items())


def item_columns(
    table: pl.DataFrame, names: ColumnNames, where: Path, notes: list[Note]
) -> pl.DataFrame:
    """Name ``item_id``, ``title`` and ``categories``; other columns are kept.

    Printed lists become lists.

    Raises:
        ValueError: If there is no column of ids.
    """
    item = _find(table, names.item, _ITEM, "item", where)
    title = _find(table, names.title, _TITLE, "title", where, needed=False)
    groups = _find(table, names.categories, _CATEGORIES, "categories", where, needed=False)
    found = {"item_id": item, "title": title, "categories": groups}
    chosen = {role: name for role, name in found.items() if name is not None}
    _note_names(chosen, where, notes)
    replaced = [role for role in chosen if role in table.columns and role not in chosen.values()]
    for role in replaced:
        says = f"{where.name}: column {role}, as {role} <- {chosen[role]}"
        notes.append(Note(kind="left out", says=says))
    taken = table.drop(replaced)
    table = taken.rename({name: role for role, name in chosen.items()})
    plain = ("item_id", "title")  # a title may begin and end with brackets
    return table.with_columns(
        _as_list(column, where, notes) for column in table if column.name not in plain
    ).select("item_id", pl.exclude("item_id"))


def names_columns(words: Sequence[str]) -> bool:
    """Whether one of these words is a common name of a column of users or items."""
    return not {_plain(word) for word in words}.isdisjoint(map(_plain, (*_USER, *_ITEM)))


def _find(
    table: pl.DataFrame,
    name: str | None,
    usual: tuple[str, ...],
    role: str,
    where: Path,
    *,
    needed: bool = True,
) -> str | None:
    if name is not None and name in table.columns:
        return name
    if name is None:
        least_alike = sorted(reversed(table.columns), key=lambda column: column in usual)
        by_plain = {_plain(column): column for column in least_alike}
        found = [by_plain[one] for one in map(_plain, usual) if one in by_plain]
        filled = [one for one in found if 2 * table[one].null_count() < table.height]
        if found or not needed:
            return next(iter(filled or found), None)
    if looks_like_data(table.columns):
        raise ValueError(f"{where}: {without_header(table.columns)}")
    sought = f"a column {name}" if name is not None else f"a column such as {', '.join(usual[:4])}"
    raise ValueError(
        f"{where}: expected {sought} for the {role}, got the columns {', '.join(table.columns)}; "
        f"name it by --read.columns.{role}, or all of them by --read.header if there is no header"
    )


def _plain(name: str) -> str:
    """A name in lower case, without separators and the type that RecBole appends."""
    return re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0])


def _note_names(chosen: dict[str, str], where: Path, notes: list[Note]) -> None:
    renamed = [f"{role} <- {name}" for role, name in chosen.items() if role != name]
    if renamed:
        notes.append(Note(kind="guessed", says=f"{where.name}: {', '.join(renamed)}"))


def _as_list(column: pl.Series, where: Path, notes: list[Note]) -> pl.Series:
    """Lists within lists flattened, and text that prints lists read as lists."""
    kind = column.dtype
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.List):
        flat = column.list.eval(pl.element().explode().unique(maintain_order=True))
        says = f"{where.name}: lists within lists of {column.name} flattened"
        notes.append(Note(kind="repaired", says=says, count=column.len()))
        return flat
    if kind != pl.String or not column.str.contains(_LISTED).all() or column.is_null().all():
        return column
    try:
        lists = as_id_lists(column, pl.Series([], dtype=pl.String))
    except ValueError:
        return column
    says = f"{where.name}: lists printed in {column.name} read as lists"
    notes.append(Note(kind="repaired", says=says, count=column.len()))
    return lists


def events_of_histories(users: pl.Series, histories: pl.Series) -> pl.DataFrame:
    """One row per event, with its position, from a list of items for each user."""
    table = pl.DataFrame({"user_id": users, "item_id": histories})
    table = table.filter(pl.col("item_id").list.len() > 0)
    positions = pl.int_ranges(pl.col("item_id").list.len()).alias("position")
    return table.with_columns(positions).explode("item_id", "position")


def as_lists(lists: Iterable[list[Any]], where: Path) -> pl.Series:
    """A column of lists whose entries are of one type.

    Raises:
        ValueError: If they are not, or are no lists of values.
    """
    try:
        column = pl.Series(list(lists))
        if not isinstance(column.dtype, pl.List):
            raise TypeError(f"got {column.dtype}")
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{where}: expected lists of ids of one type ({reason}); write all as numbers or all "
            "as text"
        ) from None
    return column
