"""Leave events out of a log, step by step, and say which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from baselines.data.dates import count_of, units_per_second
from baselines.data.preparing.coded import ID_COLUMNS, CodedEvents
from baselines.data.preparing.config import PreparationConfig, PreparedRepeats
from baselines.runtime.progress import track
from semid.columns import as_times

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
    _require_columns(events, config)
    kept, report = leave_out(CodedEvents.of(events), config, time_format=time_format)
    return kept.decoded(), report


def leave_out(
    events: CodedEvents, config: PreparationConfig, *, time_format: str | None = None
) -> tuple[CodedEvents, list[LeftOut]]:
    """As `prepare_events`, for events that are coded: a few bytes an event beside them."""
    needed = _require_columns(events.table, config)
    order = "timestamp" if "timestamp" in events.table.columns else "position"
    times = as_times(events.table[order], time_format if order == "timestamp" else None)
    rest = events.table.select(needed).with_columns(times.alias(order)).with_row_index(_NUMBER)
    report = []
    users, items = _present(events, rest)
    for step, keep in _followed(list(_steps(config, needed, order))):
        is_kept = keep(rest).fill_null(False)
        if is_kept.all() and rest.height:
            continue
        if not is_kept.any():
            of = [rest[column].n_unique() for column in ID_COLUMNS]
            raise ValueError(
                f"{step} leaves none of {rest.height} events of {of[0]} users with {of[1]} items; "
                "ask for less"
            )
        gone = rest[_NUMBER].filter(~is_kept)
        rest = rest.filter(is_kept)
        before = users, items
        users, items = _present(events, rest)
        report.append(
            LeftOut(
                step=step,
                events=len(gone),
                users=before[0] - users,
                items=before[1] - items,
                examples=events.take(gone.head(EXAMPLES)).decoded(),
            )
        )
    if rest.height == events.table.height:
        return events, report
    return events.take(rest[_NUMBER]), report


def _require_columns(events: pl.DataFrame, config: PreparationConfig) -> list[str]:
    """The columns that are needed; raises if one is not there."""
    order = "timestamp" if "timestamp" in events.columns or any(config.dates) else "position"
    needed = [*ID_COLUMNS, order] + ["rating"] * (config.min_rating is not None)
    if missing := [name for name in needed if name not in events.columns]:
        raise ValueError(
            f"events need a column {', '.join(missing)}, got {', '.join(events.columns)}; name the "
            "column that is one, or leave out what asks for it"
        )
    return needed


_Step = Callable[[pl.DataFrame], pl.Series]
"""Which rows are kept, Boolean."""


def _followed(steps: list[tuple[str, _Step]]) -> Iterator[tuple[str, _Step]]:
    """The steps, with progress."""
    with track("preparing events, steps", len(steps)) as tracker:
        for name, step in steps:
            tracker.note(name)
            yield name, step
            tracker.advance(1)


def _steps(config: PreparationConfig, needed: list[str], order: str) -> Iterator[tuple[str, _Step]]:
    yield "dropping missing values", lambda events: _are_whole(events, needed)
    if any(config.dates):
        ends = (("since", config.since), ("until", config.until))
        name = " ".join(f"{word} {date}" for word, date in ends if date is not None)
        yield name, lambda events: are_within(events[order], *config.dates)
    if (least := config.min_rating) is not None:
        yield f"rating >= {least:g}", lambda events: events["rating"] >= least
    if config.repeats != "keep":
        yield (
            f"repeats {config.repeats}",
            lambda events: are_no_repeats(events, config.repeats, order),
        )
    if (most := config.max_history) is not None:
        yield f"max_history {most}", lambda events: are_latest(events, most, order)
    if config.user_core > 1 or config.item_core > 1:
        yield (
            f"core of {config.user_core} per user and {config.item_core} per item",
            lambda events: are_in_core(
                events, {"user_id": config.user_core, "item_id": config.item_core}
            ),
        )


def _are_whole(events: pl.DataFrame, needed: list[str]) -> pl.Series:
    checks = [pl.col(name).is_not_null() for name in needed]
    checks += [pl.col(name).is_not_nan() for name in needed if events.schema[name].is_float()]
    return events.select(pl.all_horizontal(checks)).to_series()


def are_within(times: pl.Series, since: datetime | None, until: datetime | None) -> pl.Series:
    """Which times are on or after one date and before another.

    Times count from 1970 in seconds, milliseconds, microseconds or nanoseconds, as the latest of
    them tells.
    """
    last = times.max()
    assert isinstance(last, (int, float))
    per_second = units_per_second(last)
    within = times.is_not_null()
    if since is not None:
        within &= times >= count_of(since, per_second)
    if until is not None:
        within &= times < count_of(until, per_second)
    return within


def are_in_core(events: pl.DataFrame, least: Mapping[str, int]) -> pl.Series:
    """Which events are in the largest set where each id of a column has at least so many.

    Users and items with too few are left out until none has; repeated events count each time.
    """
    codes = {column: events[column].to_numpy() for column in least}
    rows = np.arange(events.height, dtype=np.uint32)
    while True:
        enough = np.ones(len(rows), dtype=np.bool_)
        for column, core in least.items():
            enough &= (np.bincount(codes[column]) >= core)[codes[column]]
        if enough.all():
            break
        rows = rows[enough]
        codes = {column: found[enough] for column, found in codes.items()}
    return _mask(rows, events.height)


def are_no_repeats(events: pl.DataFrame, repeats: PreparedRepeats, order: str) -> pl.Series:
    """Which events repeat none; see ``PreparationConfig.repeats``, other than ``keep``."""
    by_user = ["user_id", order] if repeats == "consecutive" else ["user_id", "item_id", order]
    compared = ["user_id", "item_id", order] if repeats == "exact" else list(ID_COLUMNS)
    rows = _sorted_rows(events, by_user)
    is_new = np.zeros(len(rows), dtype=np.bool_)
    for column in compared:
        found = events[column].to_numpy()[rows]
        is_new[1:] |= found[1:] != found[:-1]
    is_new[:1] = True
    return _mask(rows[is_new], len(rows))


def are_latest(events: pl.DataFrame, most: int, order: str) -> pl.Series:
    """Which events are among their user's latest, at most so many."""
    rows = _sorted_rows(events, ["user_id", order])
    users = events["user_id"].to_numpy()[rows]
    ends = np.bincount(users).cumsum()
    return _mask(rows[ends[users] - np.arange(len(rows)) <= most], len(rows))


def _sorted_rows(events: pl.DataFrame, by: list[str]) -> NDArray[np.int64]:
    """Rows in the order of some columns; equal ones keep their order."""
    return np.lexsort([events[column].to_numpy() for column in reversed(by)])


def _mask(rows: NDArray[Any], height: int) -> pl.Series:
    mask = np.zeros(height, dtype=np.bool_)
    mask[rows] = True
    return pl.Series(mask)


_NUMBER = "__number"
"""Column for the place of a row in the whole log."""


def _present(log: CodedEvents, events: pl.DataFrame) -> tuple[int, int]:
    """How many users and items have one of these events of the log."""
    users, items = (replace(log, table=events).count(column) for column in ID_COLUMNS)
    return users, items
