"""Interactions: the ordered events of users with items."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from baselines.data.config import Repeats, Ties
from baselines.data.plain_layout import read_table
from semid.arrays import IntArray
from semid.catalog import Catalog
from semid.columns import as_ids, as_times, note_near_equal

logger = logging.getLogger(__name__)


class EventOptions(TypedDict, total=False):
    """Options of ``Interactions.from_table``."""

    ties: Ties
    repeats: Repeats
    time_format: str | None
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """Events sorted by user, then from oldest to newest.

    Attributes:
        users: int64 ``(event,)``, dense user number in ``[0, len(user_ids))``, non-decreasing.
        user_ids: The original id of each user number, in sorted order.
        items: int64 ``(event,)``, catalogue rows.
        times: ``(event,)``, int64 or float64, or None if the source gives only an order.
        dropped: Number of rows (or users) of the source that were left out, by reason.
        repeated: Number of kept events that equal an earlier one in user, item and time.
        noted: Counts of unusual ids that were kept, by kind; non-zero kinds only.
    """

    users: IntArray
    user_ids: list[str] | list[int]
    items: IntArray
    times: NDArray[np.int64] | NDArray[np.float64] | None
    dropped: dict[str, int]
    repeated: int = 0
    noted: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def offsets(self) -> IntArray:
        """int64 ``(user + 1,)``; user ``u`` has the events ``offsets[u]:offsets[u + 1]``."""
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
        **options: Unpack[EventOptions],
    ) -> Interactions:
        """Read interactions from a parquet, CSV or JSON-lines file with one row per event.

        Args:
            path: The file.
            catalog: Maps items to rows. Events with unknown items are dropped and counted.
            user_column: Column of user ids.
            item_column: Column of item ids.
            time_column: Column that orders a user's events: numbers, dates, or text containing
                either. None means ``timestamp`` if present, else ``position``. A column named
                ``position`` gives an order but no times.
            options: ``ties``, ``repeats``, ``time_format`` and ``seed``, see ``from_table``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If a column is missing or of the wrong kind, or no event is left.
        """
        table = read_table(path, ids=(user_column, item_column))
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
                **options,
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_table(
        cls,
        table: pl.DataFrame,
        catalog: Catalog,
        *,
        ties: Ties = "file",
        repeats: Repeats = "keep",
        time_format: str | None = None,
        seed: int = 0,
    ) -> Interactions:
        """Read interactions from a table in memory.

        Args:
            table: One row per event, with the columns ``user_id``, ``item_id``, and ``timestamp``
                or ``position``, in any form that `semid.columns` accepts. Rows with a missing value
                are dropped and counted.
            catalog: Maps items to rows. Events with unknown items are dropped and counted.
            ties: Order of a user's simultaneous events. ``"file"`` keeps the order of the rows,
                ``"item"`` sorts by item id, and ``"shuffle"`` draws an order that depends on
                ``seed`` and the events, not on the order of the rows.
            repeats: Treatment of events that equal an earlier one in user, item and time, as in a
                log that was written twice. ``"keep"`` keeps and counts them, ``"exact"`` drops
                and counts them.
            time_format: Format of dates given as text, such as ``"%d/%m/%Y"``; None to detect it.
            seed: Seed for ``"shuffle"``.

        Raises:
            ValueError: If ids or times are of the wrong kind, or no event is left.
        """
        for name, value, kind in (("ties", ties, Ties), ("repeats", repeats, Repeats)):
            if value not in get_args(kind):
                raise ValueError(
                    f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}"
                )
        order = "timestamp" if "timestamp" in table.columns else "position"
        events = _events(table, catalog, order, time_format)
        whole = events.drop_nulls()
        kept = whole.filter(pl.col("row") >= 0)
        dropped = _left_out(events, kept, catalog)
        if not kept.height:
            raise ValueError(_none_left(events, whole))
        distinct = kept.unique(["user", "row", "time"], keep="first", maintain_order=True)
        repeated = kept.height - distinct.height
        if repeats == "exact" and repeated:
            dropped["repeated_interactions"] = repeated
            kept, repeated = distinct, 0
        kept = _sorted(kept, ties, seed)
        user_ids = kept["user"].unique(maintain_order=True)
        return cls(
            users=kept["user"].rle_id().cast(pl.Int64).to_numpy(writable=True),
            user_ids=user_ids.to_list(),
            items=kept["row"].to_numpy(writable=True),
            times=kept["time"].to_numpy(writable=True) if order == "timestamp" else None,
            dropped=dropped,
            repeated=repeated,
            noted=note_near_equal(user_ids, "user"),
        )


def _order_name(column: str) -> str:
    return "position" if column == "position" else "timestamp"


def _events(
    table: pl.DataFrame, catalog: Catalog, order: str, time_format: str | None
) -> pl.DataFrame:
    items = as_ids(table["item_id"])
    return pl.DataFrame(
        {
            "user": as_ids(table["user_id"]),
            "item": items,
            "row": catalog.find(items),
            "time": as_times(table[order], time_format if order == "timestamp" else None),
        }
    )


def _none_left(events: pl.DataFrame, whole: pl.DataFrame) -> str:
    return (
        f"no interaction left of {events.height}: {events.height - whole.height} have a "
        f"missing value and {whole.height} an item that is not in the catalogue"
        + (f", the first {whole['item'][0]!r}" if whole.height else "")
    )


def _sorted(events: pl.DataFrame, ties: Ties, seed: int) -> pl.DataFrame:
    """Sort events by user and time, and ties by the given rule."""
    if ties == "file":
        return events.sort("user", "time", maintain_order=True)
    events = events.sort("user", "time", "item", maintain_order=True)
    if ties == "item":
        return events
    draw = np.random.default_rng(seed).random(events.height)
    return events.with_columns(draw=draw).sort("user", "time", "draw", maintain_order=True)


def _left_out(events: pl.DataFrame, kept: pl.DataFrame, catalog: Catalog) -> dict[str, int]:
    """Number of rows and users left out, by reason."""
    unknown = events.drop_nulls().filter(pl.col("row") < 0)
    counts = {
        "interactions_with_missing_values": events.height - kept.height - unknown.height,
        "interactions_with_unknown_items": unknown.height,
        "users_without_interactions_left": (
            events["user"].drop_nulls().n_unique() - kept["user"].n_unique()
        ),
    }
    if misses := catalog.near_misses(unknown["item"]):
        counts["interactions_with_near_equal_items"] = misses
    return counts
