"""Interactions: who met which item, in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from baselines.data.config import Ties
from semid.catalog import Catalog, as_ids, read_table

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """Events sorted by user, then from oldest to newest.

    Attributes:
        users: int64 ``(event,)``, dense user number in ``[0, len(user_ids))``, non-decreasing.
        user_ids: The outside id of each user number, in the order of the ids.
        items: int64 ``(event,)``, catalogue rows.
        times: ``(event,)``, int64 or float64, or None where the source gives the order only.
        dropped: How many rows (or users) of the source were left out, by reason.
    """

    users: IntArray
    user_ids: list[str] | list[int]
    items: IntArray
    times: NDArray[np.int64] | NDArray[np.float64] | None
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def offsets(self) -> IntArray:
        """int64 ``(user + 1,)``; user ``u`` has the events ``offsets[u]`` to ``offsets[u + 1]``."""
        counts = np.bincount(self.users, minlength=len(self.user_ids))
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)

    @classmethod
    def read(
        cls,
        path: str | Path,
        catalog: Catalog,
        *,
        user_column: str = "user_id",
        item_column: str = "item_id",
        time_column: str | None = None,
        ties: Ties = "file",
        seed: int = 0,
    ) -> Interactions:
        """Read interactions from a parquet, CSV or JSON-lines file with one row an event.

        Args:
            path: The file.
            catalog: Gives each item its row. Events with other items are dropped and counted.
            user_column: Column of user ids.
            item_column: Column of item ids.
            time_column: Column that orders a user's events: numbers, dates, or text that spells
                either. None takes ``timestamp`` if there is one, else ``position``. A column named
                ``position`` gives an order and no times.
            ties: See ``from_table``.
            seed: See ``from_table``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If a column is missing or of the wrong kind, or no event is left.
        """
        table = read_table(path, required=(user_column, item_column))
        candidates = ("timestamp", "position") if time_column is None else (time_column,)
        present = [name for name in candidates if name in table.columns]
        if not present:
            raise ValueError(
                f"{path} has no column {' or '.join(candidates)} to order events by; its columns "
                f"are {', '.join(table.columns)}; name one of them as the time column"
            )
        try:
            return cls.from_table(
                table.select(
                    user_id=user_column,
                    item_id=item_column,
                    **{_order_name(present[0]): present[0]},
                ),
                catalog,
                ties=ties,
                seed=seed,
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_table(
        cls, table: pl.DataFrame, catalog: Catalog, *, ties: Ties = "file", seed: int = 0
    ) -> Interactions:
        """Take interactions from a table in memory.

        Args:
            table: One row an event, with the columns ``user_id``, ``item_id``, and ``timestamp`` or
                ``position``. Rows with a missing value are dropped and counted.
            catalog: Gives each item its row. Events with other items are dropped and counted.
            ties: Order of events of one user at one time. ``"file"`` keeps the order of the rows,
                ``"item"`` sorts by item id, and ``"shuffle"`` draws an order that depends on
                ``seed`` and the events, not on the order of the rows.
            seed: Seed of ``"shuffle"``.

        Raises:
            ValueError: If ids or times are of the wrong kind, or no event is left.
        """
        if ties not in get_args(Ties):
            raise ValueError(f"ties must be one of {', '.join(get_args(Ties))}, got {ties!r}")
        order = "timestamp" if "timestamp" in table.columns else "position"
        events = pl.DataFrame(
            {
                "user": as_ids(table["user_id"]),
                "item": as_ids(table["item_id"]),
                "row": catalog.find(table["item_id"]),
                "time": as_times(table[order]),
            }
        )
        whole = events.drop_nulls()
        kept = whole.filter(pl.col("row") >= 0)
        if not kept.height:
            raise ValueError(
                f"no interaction left of {events.height}: {events.height - whole.height} have a "
                f"missing value and {whole.height} an item that is not in the catalogue"
                + (f", the first {whole['item'][0]!r}" if whole.height else "")
            )
        if ties == "file":
            kept = kept.sort("user", "time", maintain_order=True)
        else:
            kept = kept.sort("user", "time", "item", maintain_order=True)
        if ties == "shuffle":
            draw = np.random.default_rng(seed).random(kept.height)
            kept = kept.with_columns(draw=draw).sort("user", "time", "draw", maintain_order=True)
        user_ids = kept["user"].unique(maintain_order=True)
        return cls(
            users=kept["user"].rle_id().cast(pl.Int64).to_numpy(writable=True),
            user_ids=user_ids.to_list(),
            items=kept["row"].to_numpy(writable=True),
            times=kept["time"].to_numpy(writable=True) if order == "timestamp" else None,
            dropped={
                "interactions_with_missing_values": events.height - whole.height,
                "interactions_with_unknown_items": whole.height - kept.height,
                "users_without_interactions_left": (
                    events["user"].drop_nulls().n_unique() - len(user_ids)
                ),
            },
        )


def _order_name(column: str) -> str:
    return "position" if column == "position" else "timestamp"


def as_times(column: pl.Series) -> pl.Series:
    """Times as Int64 or Float64; dates become microseconds since 1970, NaN becomes missing."""
    times: pl.Series = _parse_times(column) if column.dtype == pl.String else column
    if times.dtype in (pl.Date, pl.Datetime):
        times = times.dt.epoch("us")
    if times.dtype.is_integer():
        times = times.cast(pl.Int64)
    elif times.dtype.is_float():
        times = times.cast(pl.Float64).fill_nan(None)
    else:
        raise ValueError(
            f"times must be numbers or dates, got {times.dtype} in column {column.name!r}"
        )
    return times


def _parse_times(column: pl.Series) -> pl.Series:
    """Text read as whole numbers, else as numbers, else as dates: the first that fits it all."""
    for kind in (pl.Int64, pl.Float64):
        numbers: pl.Series = column.cast(kind, strict=False)
        if numbers.null_count() == column.null_count():
            return numbers
    try:
        dates: pl.Series = column.str.to_datetime()
    except pl.exceptions.PolarsError:
        raise ValueError(
            f"times must be numbers or dates such as 2014-07-23, got {column.drop_nulls()[0]!r} in "
            f"column {column.name!r}"
        ) from None
    return dates
