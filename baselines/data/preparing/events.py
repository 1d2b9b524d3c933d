"""Leave events out of a log, step by step, and say which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from baselines.data.dates import count_of, units_per_second
from baselines.data.preparing.config import PreparationConfig, PreparedRepeats
from semid.columns import as_ids, as_times

EXAMPLES = 5
"""Rows of a step that a report shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """What one step left out.

    Attributes:
        step: Name of the step.
        events: Number of events.
        users: Number of users without an event left.
        items: Number of items without an event left, or that the step left out.
        examples: The first ``EXAMPLES`` of these events with the columns of the log, or of these
            items with the columns of their table.
    """

    step: str
    events: int
    users: int
    items: int
    examples: pl.DataFrame


def prepare_events(
    events: pl.DataFrame, config: PreparationConfig, *, time_format: str | None = None
) -> tuple[pl.DataFrame, list[LeftOut]]:
    """Leave events out, step by step.

    In this order: missing values, times, ratings, repeats, long histories, k-core. The core comes
    last, so every remaining user and item has as many events as was asked for.

    Args:
        events: One row per event: ``user_id``, ``item_id``, ``timestamp`` or ``position`` in any
            form that `semid.columns` reads, and ``rating`` if a least rating is asked for. A user's
            events at the same time keep their order.
        config: The settings.
        time_format: Format of dates given as text; None to detect it.

    Returns:
        The remaining rows, in their order and with ids as `semid.columns.as_ids` gives them, and
        what each step left out, if anything.

    Raises:
        ValueError: If a column is missing or cannot be read, or a step leaves no event.
    """
    order = "timestamp" if "timestamp" in events.columns else "position"
    needed = ["user_id", "item_id", order] + ["rating"] * (config.min_rating is not None)
    if any(config.dates) and order == "position":
        needed[2] = "timestamp"
    if missing := [name for name in needed if name not in events.columns]:
        raise ValueError(
            f"events need a column {', '.join(missing)}, got {', '.join(events.columns)}"
        )
    times = as_times(events[order], time_format if order == "timestamp" else None)
    events = events.with_columns(
        as_ids(events["user_id"]), as_ids(events["item_id"]), times.alias(_TIME)
    ).with_row_index(_NUMBER)
    report = []
    for step, keep in _steps(config, [_TIME if name == order else name for name in needed]):
        kept = keep(events)
        if not kept.height:
            raise ValueError(
                f"{step} leaves none of {events.height} events of {events['user_id'].n_unique()} "
                f"users with {events['item_id'].n_unique()} items; ask for less"
            )
        if kept.height < events.height:
            report.append(_left_out(step, events, kept))
        events = kept
    return events.drop(_NUMBER, _TIME), report


_Step = Callable[[pl.DataFrame], pl.DataFrame]


def _steps(config: PreparationConfig, needed: list[str]) -> Iterator[tuple[str, _Step]]:
    yield "dropping missing values", lambda events: _whole(events, needed)
    if any(config.dates):
        ends = (("since", config.since), ("until", config.until))
        name = " ".join(f"{word} {date}" for word, date in ends if date is not None)
        yield name, lambda events: within(events, *config.dates, _TIME)
    if config.min_rating is not None:
        least = pl.lit(config.min_rating)
        yield (
            f"rating >= {config.min_rating:g}",
            lambda events: events.filter(pl.col("rating") >= least),
        )
    if config.repeats != "keep":
        yield (
            f"repeats {config.repeats}",
            lambda events: without_repeats(events, config.repeats, _TIME),
        )
    if (most := config.max_history) is not None:
        yield f"max_history {most}", lambda events: latest_events(events, most, _TIME)
    if config.user_core > 1 or config.item_core > 1:
        yield (
            f"core of {config.user_core} per user and {config.item_core} per item",
            lambda events: k_core(events, user_core=config.user_core, item_core=config.item_core),
        )


def _whole(events: pl.DataFrame, needed: list[str]) -> pl.DataFrame:
    numbers = [name for name in needed if events.schema[name].is_float()]
    return events.drop_nans(numbers).drop_nulls(needed) if numbers else events.drop_nulls(needed)


def within(
    events: pl.DataFrame, since: datetime | None, until: datetime | None, order: str
) -> pl.DataFrame:
    """Events from one date on and before another.

    Times count from 1970 in seconds, milliseconds, microseconds or nanoseconds, as the latest of
    them tells.
    """
    last = events[order].max()
    assert isinstance(last, (int, float))
    per_second = units_per_second(last)
    if since is not None:
        events = events.filter(pl.col(order) >= count_of(since, per_second))
    if until is not None:
        events = events.filter(pl.col(order) < count_of(until, per_second))
    return events


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


_ROW, _NUMBER, _TIME = "__row", "__number", "__time"
"""Columns for the place of a row in the table of one step, in the whole log, and in time."""


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
        examples=gone.head(EXAMPLES).drop(_NUMBER, _TIME),
    )
