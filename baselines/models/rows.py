"""Recommendations as a function of rows, for one process or many workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from baselines.data.histories import UserHistories
from baselines.models.recommender import Recommender
from baselines.models.requests import (
    KnownHistories,
    ListOptions,
    known_histories,
    require_histories,
)


@dataclass(frozen=True, kw_only=True)
class Request(ListOptions):
    """The options of the lists of many users.

    Attributes:
        batch_size: Histories decoded at a time.
    """

    batch_size: int = 256


class RecommendRows:
    """Histories in, lists out: a function of rows that Ray Data or Spark can run.

    The lists of a user do not depend on the other rows, but for the last digits of scores.

    Args:
        recommender: The model.
        request: The options, the same for every user.
    """

    def __init__(self, recommender: Recommender, request: Request) -> None:
        self._recommender, self._request = recommender, request
        self._titles = pl.Series("title", recommender.titles, dtype=pl.String)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The lists of some users.

        Args:
            rows: Columns ``user_id`` and ``history``, a list of item IDs, oldest first.

        Returns:
            Columns ``user_id``, ``rank`` (from 1), ``item_id``, ``score`` and ``title``, with users
            in input order.

        Raises:
            ValueError: If a column is missing, a user has two rows, an item is unknown or a history
                has no known item and the request refuses that, or no item may be recommended.
        """
        catalog = self._recommender.model.items.catalog
        table = cast(pl.DataFrame, pl.from_arrow(rows))
        if lacking := {"user_id", "history"} - set(table.columns):
            raise ValueError(
                f"expected columns user_id and history, got {', '.join(table.columns)}: "
                f"{' and '.join(sorted(lacking))} missing"
            )
        histories = UserHistories.of_lists(table, catalog.ids)
        known = known_histories(catalog, histories, self._request.unknown)
        require_histories(known, self._request.empty)
        return self.lists(histories.users, known).to_arrow(compat_level=pl.CompatLevel.oldest())

    def lists(self, users: pl.Series, known: KnownHistories) -> pl.DataFrame:
        """The lists of users whose items were looked up already, as a table."""
        request = self._request
        rows, scores = self._recommender.best_rows(
            known,
            request.k,
            within=request.within,
            exclude_seen=request.exclude_seen,
            boosts=request.boosts,
            batch_size=request.batch_size,
        )
        user, place = np.nonzero(rows >= 0)
        items = rows[user, place]
        return pl.DataFrame(
            [
                users.gather(user).alias("user_id"),
                pl.Series("rank", place + 1, dtype=pl.Int32),
                self._recommender.model.items.catalog.ids.gather(items).alias("item_id"),
                pl.Series("score", scores[user, place]),
                self._titles.gather(items),
            ]
        )
