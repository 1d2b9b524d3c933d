"""Append new events to a data folder."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from baselines.data.loading import load_catalog
from baselines.data.plain_layout import read_table
from baselines.data.sources.prepare import DATA_FILE
from semid.atomic import alone_in, atomic_write
from semid.columns import MISSING_WORDS, as_ids, as_times
from semid.json_files import load_json

_FILE = "interactions.parquet"
_KEY = ["user", "item", "time"]
_MICROSECONDS_OF_1990 = 631_152_000 * 10**6


@dataclass(frozen=True, kw_only=True)
class Appended:
    """What became of new events.

    Attributes:
        events: Number of events appended.
        users: Number of users they are of.
        new_users: Number of users among them without earlier events.
        left_out: Number of events left out, by reason; non-zero counts only.
        unknown_items: Ids of the unknown items, in order of appearance.
    """

    events: int
    users: int
    new_users: int
    left_out: dict[str, int]
    unknown_items: tuple[str | int, ...]


def append_events(folder: str | Path, events: str | Path) -> Appended:
    """Append the events of a table to ``interactions.parquet`` of a data folder, atomically.

    Rows with a missing value, events of items that ``items.*`` lacks, and events that equal another
    in user, item and time are left out, so that appending a file again changes nothing. Columns
    that the folder does not have are ignored; those that the table does not have become null.

    Args:
        folder: A folder in the plain layout.
        events: A parquet, CSV or JSON-lines file with ``user_id``, ``item_id`` and the folder's
            ``timestamp`` or ``position``, in its unit.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If a file is malformed, a value does not fit the folder's column, or an event is
            earlier than the last one of the folder (with positions: of its user), or none is left.
    """
    target, source = Path(folder) / _FILE, Path(events)
    if not target.is_file():
        raise FileNotFoundError(
            f"expected {_FILE} in {folder} to append events to, got none. Name a folder of "
            "interactions, in parquet."
        )
    with alone_in(folder):
        old = read_table(target, ids=("user_id", "item_id"))
        order = "timestamp" if "timestamp" in old.columns else "position"
        new = read_table(source, ids=("user_id", "item_id"), required=(order,))
        catalog = load_catalog(folder)
        try:
            if _holds_dates(old[order]) and new[order].dtype == pl.String:
                new = new.with_columns(as_times(new[order]))
            rows = _like(new, old)
            before, after = _events(old, order), _events(rows, order)
            _require_one_unit(before["time"], after["time"])
            after = after.with_columns(known=pl.Series(catalog.find(after["item"])) >= 0)
            kept, found = _sorted_out(before, after)
            _require_later(kept, before, order)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        if kept.height:
            buffer = io.BytesIO()
            pl.concat([old, rows[kept["row"]]]).write_parquet(buffer)
            atomic_write(target, buffer.getvalue())
        _keep_record(Path(folder), source, found)
    return found


def _keep_record(folder: Path, source: Path, found: Appended) -> None:
    """Bring ``data.json`` of a prepared folder up to date, also after a command that was killed."""
    path, target = folder / DATA_FILE, folder / _FILE
    if not path.is_file():
        return
    record, content = load_json(path), target.read_bytes()
    content_hash = hashlib.sha256(content).hexdigest()
    if not isinstance(record, dict) or record.get("sha256", {}).get(_FILE) in (None, content_hash):
        return
    table = pl.read_parquet(io.BytesIO(content), columns=["user_id"])
    record["sha256"][_FILE] = content_hash
    record["counts"] |= {"events": table.height, "users": table["user_id"].n_unique()}
    says = f"events of {source.name}"
    record["notes"].append(
        {"kind": "appended", "says": says, "count": found.events, "examples": []}
    )
    atomic_write(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _sorted_out(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, Appended]:
    """The events to append, and what becomes of the others."""
    whole = after.drop_nulls(_KEY)
    known = whole.filter("known")
    kept = known.unique(_KEY, keep="first", maintain_order=True)
    kept = kept.join(before, on=_KEY, how="anti", maintain_order="left")
    counts = {
        "events with missing values": after.height - whole.height,
        "events with unknown items": whole.height - known.height,
        "repeated events": known.height - kept.height,
    }
    left_out = {reason: count for reason, count in counts.items() if count}
    if not known.height:
        raise ValueError(
            f"expected events of known items, got none of {after.height}: "
            + ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        )
    unknown = whole.filter(~pl.col("known"))["item"].unique(maintain_order=True)
    return kept, Appended(
        events=kept.height,
        users=kept["user"].n_unique(),
        new_users=kept.join(before, on="user", how="anti")["user"].n_unique(),
        left_out=left_out,
        unknown_items=tuple(unknown),
    )


def _holds_dates(times: pl.Series) -> bool:
    """Whether these are microseconds, which the preparation of a log makes of dates."""
    return times.dtype == pl.Int64 and bool((times >= _MICROSECONDS_OF_1990).all())


def _like(new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
    """New rows with the columns and types of the old ones."""
    columns = []
    for name, kind in old.schema.items():
        if name not in new.columns:
            columns.append(pl.Series(name, [None] * new.height, dtype=kind))
        else:
            is_id = name in ("user_id", "item_id")
            given = as_ids(new[name]) if is_id else new[name]
            columns.append(_cast(given, kind, exact=is_id))
    return pl.DataFrame(columns)


def _cast(column: pl.Series, kind: pl.DataType, *, exact: bool) -> pl.Series:
    """A column in another type, or an error that names the first value that would change.

    Args:
        column: Values.
        kind: The type.
        exact: Whether text that spells a number otherwise than usual, such as ``007``, is another.
    """
    if column.dtype == kind:
        return column
    if column.dtype == pl.String:
        blank = column.str.strip_chars().is_in(["", *MISSING_WORDS])
        column = column.set(blank, None)
    if column.dtype == pl.String and kind.is_temporal():
        same = column.str.contains(r"[0-9]\D+[0-9]")  # a date, not a number
        to_microseconds = column.str.replace(r"([.,][0-9]{6})[0-9]+", "${1}").set(~same, None)
        cast = as_times(to_microseconds).cast(pl.Datetime("us")).cast(kind)
    else:
        cast = column.cast(kind, strict=False)
        same = cast.is_not_null()
        if exact or column.dtype != pl.String:
            same &= cast.cast(column.dtype, strict=False) == column
    wrong = column.is_not_null() & ~same.fill_null(False)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise ValueError(
            f"expected {column.name} as {kind}, as in the folder, got {column[row]!r} in row {row} "
            "(counted from 0). Write it alike."
        )
    return cast


def _events(table: pl.DataFrame, order: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": as_ids(table["user_id"]),
            "item": as_ids(table["item_id"]),
            "time": as_times(table[order]),
            "row": pl.int_range(table.height, eager=True),
        }
    )


def _require_one_unit(before: pl.Series, after: pl.Series) -> None:
    latest = pl.Series("time", [before.max(), after.max()])
    try:
        as_times(latest)
    except ValueError:
        raise ValueError(
            f"expected times in the unit of the folder, whose last is {latest[0]}, got up to "
            f"{latest[1]}. Write them in the same unit."
        ) from None


def _require_later(kept: pl.DataFrame, before: pl.DataFrame, order: str) -> None:
    """Refuse events that the folder's own events would have to make room for."""
    if order == "timestamp":
        early = kept.filter(pl.col("time") < before["time"].max())
    else:
        of_user = before.group_by("user").agg(last=pl.col("time").max())
        early = kept.join(of_user, on="user").filter(pl.col("time") <= pl.col("last")).sort("row")
    if early.height:
        first = early.row(0, named=True)
        last = "the last one of the folder" if order == "timestamp" else "the last of its user"
        raise ValueError(
            f"expected no event before {last}, got {early.height}, the first in row "
            f"{first['row']} (counted from 0): user {first['user']!r}, item {first['item']!r}, "
            f"{order} {first['time']}. Prepare the whole log again."
        )
