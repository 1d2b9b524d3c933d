from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from baselines.data.preparing.config import PreparationConfig
from baselines.data.preparing.events import prepare_events

Row = tuple[int, int, int, int]
"""Place in the log, user, item and time."""

LOGS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=40
)


def table(rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    names = ["user_id", "item_id", "timestamp", "rating"]
    found = list(rows)
    return pl.DataFrame(found, schema=names[: len(found[0])], orient="row")


def slow_core(rows: list[Row], user_core: int, item_core: int) -> list[Row]:
    while True:
        users, items = Counter(row[1] for row in rows), Counter(row[2] for row in rows)
        kept = [r for r in rows if users[r[1]] >= user_core and items[r[2]] >= item_core]
        if len(kept) == len(rows):
            return kept
        rows = kept


def slow_repeats(rows: list[Row], repeats: str) -> list[Row]:
    kept: list[Row] = []
    ordered = sorted(rows, key=lambda row: (row[1], row[3], row[0]))
    for _, history in groupby(ordered, key=lambda row: row[1]):
        seen: set[Any] = set()
        last = None
        for row in history:
            key = row[2] if repeats == "first" else row[2:]
            repeated = row[2] == last if repeats == "consecutive" else key in seen
            if repeats == "keep" or not repeated:
                kept.append(row)
            seen.add(key)
            last = row[2]
    return sorted(kept)


def slow_latest(rows: list[Row], most: int) -> list[Row]:
    ordered = sorted(rows, key=lambda row: (row[1], row[3], row[0]))
    histories = [list(history) for _, history in groupby(ordered, key=lambda row: row[1])]
    return sorted(row for history in histories for row in history[-most:])


@given(
    LOGS,
    st.sampled_from(["keep", "exact", "consecutive", "first"]),
    st.none() | st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_a_prepared_log_is_that_of_plain_python(
    log: list[tuple[int, int, int]], repeats: Any, most: int | None, user_core: int, item_core: int
) -> None:
    rows = slow_repeats([(at, *row) for at, row in enumerate(log)], repeats)
    if most is not None:
        rows = slow_latest(rows, most)
    rows = slow_core(rows, user_core, item_core)
    config = PreparationConfig(
        repeats=repeats, max_history=most, user_core=user_core, item_core=item_core
    )
    if not rows:
        with pytest.raises(ValueError, match=r"core of . per user and . per item leaves none of"):
            prepare_events(table(log), config)
        return
    kept, report = prepare_events(table(log), config)
    assert_frame_equal(kept, table(row[1:] for row in rows))
    assert sum(step.events for step in report) == len(log) - len(rows)
    assert sum(step.users for step in report) == len({r[0] for r in log}) - len(
        {r[1] for r in rows}
    )
    assert sum(step.items for step in report) == len({r[1] for r in log}) - len(
        {r[2] for r in rows}
    )


def test_each_step_says_what_it_left_out() -> None:
    log = table(
        [
            ("a", "x", 1, 5),
            (None, "x", 1, 5),
            ("a", "y", 2, 2),
            ("b", "x", 1, 4),
            ("b", "x", 3, 4),
            ("c", "z", 1, 4),
        ]
    )
    config = PreparationConfig(min_rating=4, repeats="first", item_core=2)
    kept, report = prepare_events(log, config)
    assert kept.rows() == [("a", "x", 1, 5), ("b", "x", 1, 4)]
    assert [(s.step, s.events, s.users, s.items, s.examples.rows()) for s in report] == [
        ("dropping missing values", 1, 0, 0, [(None, "x", 1, 5)]),
        ("rating >= 4", 1, 0, 1, [("a", "y", 2, 2)]),
        ("repeats first", 1, 0, 0, [("b", "x", 3, 4)]),
        ("core of 1 per user and 2 per item", 1, 1, 1, [("c", "z", 1, 4)]),
    ]


def test_a_rating_that_is_no_number_is_missing() -> None:
    log = table([(1, 2, 3, 5.0), (1, 3, 4, float("nan")), (1, 4, 5, None)])
    kept, (step,) = prepare_events(log, PreparationConfig(min_rating=1))
    assert kept.rows() == [(1, 2, 3, 5.0)]
    assert (step.step, step.events) == ("dropping missing values", 2)


def test_without_settings_only_missing_values_are_left_out() -> None:
    log = table([(1, 2, 3), (1, 2, 3), (1, 4, 3)]).rename({"timestamp": "position"})
    kept, report = prepare_events(log, PreparationConfig())
    assert_frame_equal(kept, log)
    assert report == []


def test_a_log_without_a_needed_column_is_refused() -> None:
    with pytest.raises(ValueError, match="events need a column rating, got user_id, item_id, tim"):
        prepare_events(table([(1, 2, 3)]), PreparationConfig(min_rating=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": "none"}, "repeats must be one of keep, exact, consecutive, first, got 'none'"),
        ({"user_core": 0}, "user_core must be at least 1, got 0"),
        ({"max_history": 0}, "max_history must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreparationConfig(**settings)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, None])
def test_events_outside_the_dates_are_left_out(unit: int | None) -> None:
    june, december = 1496275200, 1512086400
    seconds = [june - 1, june, december - 1, december]
    log = table((1, item, time) for item, time in enumerate(seconds))
    if unit is None:
        log = log.with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S"))
    else:
        log = log.with_columns(pl.col("timestamp") * unit)
    config = PreparationConfig(since="2017-06-01", until="2017-12-01")
    kept, (step,) = prepare_events(log, config)
    assert kept["item_id"].to_list() == [1, 2]
    assert kept["timestamp"].equals(log["timestamp"][1:3])
    assert (step.step, step.events) == ("since 2017-06-01 until 2017-12-01", 2)
    kept, _ = prepare_events(log, PreparationConfig(until="2017-12-01"))
    assert kept["item_id"].to_list() == [0, 1, 2]


def test_dates_need_times() -> None:
    log = table([(1, 2, 3)]).rename({"timestamp": "position"})
    with pytest.raises(ValueError, match="events need a column timestamp, got user_id, item_id, p"):
        prepare_events(log, PreparationConfig(since="2017-06-01"))


def test_times_and_ids_are_read_as_in_files() -> None:
    log = table([(1, "a", "9.10.2020"), (1, "b", "13.9.2020"), (1, "NULL", "14.9.2020")])
    kept, (missing, early) = prepare_events(log, PreparationConfig(max_history=1))
    assert kept.rows() == [(1, "a", "9.10.2020")]
    assert (missing.step, missing.events) == ("dropping missing values", 1)
    assert early.examples.rows() == [(1, "b", "13.9.2020")]
    kept, _ = prepare_events(log, PreparationConfig(max_history=1), time_format="%d.%m.%Y")
    assert kept["item_id"].to_list() == ["a"]
