"""Histories to recommend for, as users keep them: from a file, or typed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from baselines.data.plain_layout import read_table
from semid.arrays import IntArray
from semid.columns import as_ids, as_times
from semid.lists import as_id_lists
from semid.provenance import hash_arrays, hash_ids, hash_json

logger = logging.getLogger(__name__)

_ORDERS = ("timestamp", "position")


@dataclass(frozen=True, kw_only=True, eq=False)
class UserHistories:
    """What each user chose before, by item ids.

    Attributes:
        users: Their ids, Int64 or String, each once.
        items: Item ids, Int64 or String, all histories end to end, oldest first; none is missing.
        offsets: int64 ``(user + 1,)``; user ``u`` has ``items[offsets[u]:offsets[u + 1]]``.
    """

    users: pl.Series
    items: pl.Series
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def typed(cls, history: Sequence[str]) -> UserHistories:
        """A single history, of a user called 0."""
        items = as_ids(pl.Series("item_id", list(history), dtype=pl.String)).drop_nulls()
        return cls(users=pl.Series("user_id", [0]), items=items, offsets=np.array([0, len(items)]))

    @classmethod
    def read(
        cls, path: str | Path, *, known: pl.Series, time_format: str | None = None
    ) -> UserHistories:
        """Read a parquet, CSV or JSON-lines file.

        Args:
            path: Either a row a user, with ``user_id`` and a list ``history``, oldest first; or a
                row an event, with ``user_id``, ``item_id`` and ``timestamp`` or ``position``, of
                which equal ones keep the order of the file.
            known: The item ids that may occur, to read lists that are written as text.
            time_format: How dates in text are written; None to find out.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it lacks a column or holds what cannot be read, or a user has two lists.
        """
        table = read_table(path, ids=("user_id",))
        try:
            if "history" in table.columns:
                return cls.of_lists(table, known)
            return cls._of_events(table, time_format)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def of_lists(cls, table: pl.DataFrame, known: pl.Series) -> UserHistories:
        """Those of a table with ``user_id`` and a list ``history``; ``known`` as in ``read``.

        Raises:
            ValueError: If a list cannot be read, or a user has none or two.
        """
        users = as_ids(table["user_id"])
        repeated = users.is_null() | users.is_duplicated()
        if repeated.any():
            raise ValueError(
                "expected one history of each user, got several, or a missing user_id: "
                f"{users.filter(repeated)[0]!r}"
            )
        lists = as_id_lists(table["history"], known)
        lengths = lists.list.len().fill_null(0).to_numpy()
        owner = np.repeat(np.arange(len(users)), lengths)
        items = as_ids(lists.filter(lists.list.len() > 0).explode())
        lengths = np.bincount(owner[items.is_not_null().to_numpy()], minlength=len(users))
        return cls(users=users, items=items.drop_nulls(), offsets=_offsets(lengths))

    @classmethod
    def _of_events(cls, table: pl.DataFrame, time_format: str | None) -> UserHistories:
        order = next((name for name in _ORDERS if name in table.columns), None)
        if "item_id" not in table.columns or order is None:
            raise ValueError(
                "expected a column history, or item_id and one of "
                f"{' and '.join(_ORDERS)}; its columns are {', '.join(table.columns)}"
            )
        times = as_times(table[order], time_format if order == "timestamp" else None)
        events = pl.DataFrame(
            {
                "user_id": as_ids(table["user_id"]),
                "item_id": as_ids(table["item_id"]),
                "time": times,
            }
        )
        whole = events.drop_nulls()
        if missing := events.height - whole.height:
            logger.warning("%d events have a missing value and were left out", missing)
        if not whole.height:
            raise ValueError("expected events, got none without a missing value")
        by_user = whole.group_by("user_id", maintain_order=True).agg(
            pl.col("item_id").sort_by("time", maintain_order=True)
        )
        return cls(
            users=by_user["user_id"],
            items=by_user["item_id"].explode(),
            offsets=_offsets(by_user["item_id"].list.len().to_numpy()),
        )

    def lists(self, first: int, last: int) -> pl.DataFrame:
        """The users from number ``first`` up to ``last``, as ``of_lists`` reads them."""
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        owner = np.repeat(np.arange(last - first), np.diff(self.offsets[first : last + 1]))
        found = pl.DataFrame({"owner": owner, "history": self.items[begin:end]})
        found = found.group_by("owner", maintain_order=True).agg("history")
        users = pl.DataFrame({"user_id": self.users[first:last]}).with_row_index("owner")
        return users.cast({"owner": pl.Int64}).join(found, on="owner", how="left").drop("owner")

    def only(self, user: str) -> UserHistories:
        """That of one user, whose id may be written as text.

        Raises:
            ValueError: If there is none.
        """
        (found,) = np.nonzero((self.users.cast(pl.String) == user).to_numpy())
        if not len(found):
            raise ValueError(
                f"expected a user out of {len(self)}, such as {self.users[0]!r}, got {user!r}"
            )
        first, last = self.offsets[found[0]], self.offsets[found[0] + 1]
        return dataclasses.replace(
            self,
            users=self.users.gather([int(found[0])]),
            items=self.items[int(first) : int(last)],
            offsets=np.array([0, last - first]),
        )

    def content_hash(self) -> str:
        """Hash of users, items and their order."""
        return hash_json(
            [
                hash_ids(self.users.to_list()),
                hash_ids(self.items.to_list()),
                hash_arrays(self.offsets),
            ]
        )


def _offsets(lengths: IntArray) -> IntArray:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
