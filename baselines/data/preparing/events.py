"""Leave events out of a log, step by step, and say which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from baselines.data.preparing.config import PreparationConfig, PreparedRepeats

EXAMPLES = 5
"""Rows of a step that a report shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """What one step left out.

    Attributes:
        step: Name of the step.
        events: Number of events.
        users: Number of users without an event left.
        items: Number of items without an event left.
        examples: The first ``EXAMPLES`` of these events, with the columns of the log.
    """

    step: str
    events: int
    users: int
    items: int
    examples: pl.DataFrame


def prepare_events(
    events: pl.DataFrame, config: PreparationConfig
) -> tuple[pl.DataFrame, list[LeftOut]]:
    """Leave events out in this order: missing values, ratings, repeats, long histories, k-core.

    The core comes last, so every remaining user and item has as many events as was asked for.

    Args:
        events: One row per event: ``user_id``, ``item_id``, ``timestamp`` or ``position``, and
            ``rating`` if a least rating is asked for. NaN counts as missing. A user's events at the
            same time keep their order.
        config: The settings.

    Returns:
        The remaining rows, in their order, and what each step left out, if anything.

    Raises:
        ValueError: If a column is missing, or a step leaves no event.
    """
    order = "timestamp" if "timestamp" in events.columns else "position"
    needed = ["user_id", "item_id", order]
    if config.min_rating is not None:
        needed.append("rating")
    if missing := [name for name in needed if name not in events.columns]:
        raise ValueError(
            f"events need a column {', '.join(missing)}, got {', '.join(events.columns)}"
        )
    report = []
    events = events.with_row_index(_NUMBER)
    for step, keep in _steps(config, needed, order):
        kept = keep(events)
        if not kept.height:
            raise ValueError(
                f"{step} leaves none of {events.height} events of {events['user_id'].n_unique()} "
                f"users with {events['item_id'].n_unique()} items; ask for less"
            )
        if kept.height < events.height:
            report.append(_left_out(step, events, kept))
        events = kept
    return events.drop(_NUMBER), report


_Step = Callable[[pl.DataFrame], pl.DataFrame]


def _steps(config: PreparationConfig, needed: list[str], order: str) -> Iterator[tuple[str, _Step]]:
    yield "dropping missing values", lambda events: _whole(events, needed)
    if config.min_rating is not None:
        least = pl.lit(config.min_rating)
        yield (
            f"rating >= {config.min_rating:g}",
            lambda events: events.filter(pl.col("rating") >= least),
        )
    if config.repeats != "keep":
        yield (
            f"repeats {config.repeats}",
            lambda events: without_repeats(events, config.repeats, order),
        )
    if (most := config.max_history) is not None:
        yield f"max_history {most}", lambda events: latest_events(events, most, order)
    if config.user_core > 1 or config.item_core > 1:
        yield (
            f"core of {config.user_core} per user and {config.item_core} per item",
            lambda events: k_core(events, user_core=config.user_core, item_core=config.item_core),
        )


def _whole(events: pl.DataFrame, needed: list[str]) -> pl.DataFrame:
    numbers = [name for name in needed if events.schema[name].is_float()]
    return events.drop_nans(numbers).drop_nulls(needed) if numbers else events.drop_nulls(needed)


def k_core(events: pl.DataFrame, *, user_core: int, item_core: int) -> pl.DataFrame:
    """The largest set of events in which each user and each item has at least so many.

    Users and items with too few are left out until none has; repeated events count each time.
    """
    while True:
        enough = (pl.len().over("user_id") >= user_core) & (pl.len().over("item_id") >= item_core)
        kept = events.filter(enough)
        if kept.height in (0, events.height):
            return kept
        events = kept


def without_repeats(events: pl.DataFrame, repeats: PreparedRepeats, order: str) -> pl.DataFrame:
    """Events without repeats, in the order of the rows; see ``PreparationConfig.repeats``."""
    if repeats == "keep":
        return events
    if repeats == "exact":
        return events.unique(["user_id", "item_id", order], keep="first", maintain_order=True)
    ordered = events.with_row_index(_ROW).sort("user_id", order, maintain_order=True)
    if repeats == "first":
        kept = ordered.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    else:
        same = (pl.col("item_id") == pl.col("item_id").shift()) & (
            pl.col("user_id") == pl.col("user_id").shift()
        )
        kept = ordered.filter(~same.fill_null(False))
    return kept.sort(_ROW).drop(_ROW)


def latest_events(events: pl.DataFrame, most: int, order: str) -> pl.DataFrame:
    """Each user's latest events, at most so many, in the order of the rows."""
    ordered = events.with_row_index(_ROW).sort("user_id", order, maintain_order=True)
    after = pl.len().over("user_id") - pl.int_range(pl.len()).over("user_id")
    return ordered.filter(after <= most).sort(_ROW).drop(_ROW)


_ROW, _NUMBER = "__row", "__number"
"""Columns for the place of a row in the table of one step, and in the whole log."""


def _left_out(step: str, before: pl.DataFrame, after: pl.DataFrame) -> LeftOut:
    gone = before.filter(~pl.col(_NUMBER).is_in(after[_NUMBER].implode()))
    users, items = (
        before[column].drop_nulls().n_unique() - after[column].n_unique()
        for column in ("user_id", "item_id")
    )
    return LeftOut(
        step=step,
        events=gone.height,
        users=users,
        items=items,
        examples=gone.head(EXAMPLES).drop(_NUMBER),
    )
