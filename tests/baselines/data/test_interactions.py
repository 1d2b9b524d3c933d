from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.data.config import Ties
from baselines.data.interactions import Interactions
from semid.catalog import Catalog

CATALOG = Catalog(item_ids=[30, 10, 20, 40], fields=pl.DataFrame())


def table(*rows: tuple[Any, Any, Any], order: str = "timestamp") -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", order], orient="row")


def sequences(interactions: Interactions, catalog: Catalog = CATALOG) -> dict[Any, list[Any]]:
    """Outside ids of each user's items, in order."""
    found: dict[Any, list[Any]] = {}
    for user, item in zip(interactions.users.tolist(), interactions.items.tolist(), strict=True):
        found.setdefault(interactions.user_ids[user], []).append(catalog.item_ids[item])
    return found


def slow_sequences(rows: list[tuple[int, int, int]], ties: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for user in sorted({user for user, _, _ in rows}):
        mine = [
            (time, item) for who, item, time in rows if who == user and item in (10, 20, 30, 40)
        ]
        mine.sort(key=lambda event: event if ties == "item" else event[0])
        if mine:
            found[user] = [item for _, item in mine]
    return found


EVENTS = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([10, 20, 30, 40, 50]), st.integers(0, 3)),
    min_size=1,
    max_size=30,
).filter(lambda rows: any(item != 50 for _, item, _ in rows))


@given(EVENTS, st.sampled_from(["file", "item"]))
def test_events_stand_by_user_then_time_then_the_tie_rule(
    rows: list[tuple[int, int, int]], ties: Ties
) -> None:
    read = Interactions.from_table(table(*rows), CATALOG, ties=ties)
    assert sequences(read) == slow_sequences(rows, ties)
    assert read.user_ids == sorted(slow_sequences(rows, ties))
    assert read.dropped["interactions_with_unknown_items"] == sum(i == 50 for _, i, _ in rows)
    users = {user for user, _, _ in rows}
    assert read.dropped["users_without_interactions_left"] == len(users) - len(read.user_ids)
    assert read.offsets.tolist() == [
        sum(user < n for user in read.users) for n in range(len(read.user_ids) + 1)
    ]
    assert read.times is not None
    assert all(
        read.times[k] <= read.times[k + 1]
        for k in range(len(read) - 1)
        if read.users[k] == read.users[k + 1]
    )


@given(EVENTS, st.randoms(use_true_random=False), st.sampled_from(["item", "shuffle"]))
def test_only_the_file_rule_looks_at_the_order_of_rows(
    rows: list[tuple[int, int, int]], random: Any, ties: Ties
) -> None:
    others = list(rows)
    random.shuffle(others)
    read = [Interactions.from_table(table(*r), CATALOG, ties=ties, seed=3) for r in (rows, others)]
    assert sequences(read[0]) == sequences(read[1])


def test_shuffled_ties_move_within_their_time_and_depend_on_the_seed() -> None:
    rows = [(user, item, time) for user in range(20) for time in (2, 1) for item in (10, 20, 30)]
    shuffled = [
        sequences(Interactions.from_table(table(*rows), CATALOG, ties="shuffle", seed=seed))
        for seed in (0, 0, 1)
    ]
    assert shuffled[0] == shuffled[1]
    assert shuffled[0] != shuffled[2]
    assert all(sorted(s[:3]) == sorted(s[3:]) == [10, 20, 30] for s in shuffled[0].values())
    assert len({tuple(s[:3]) for s in shuffled[0].values()}) > 2


def test_rows_with_missing_values_are_dropped_and_counted() -> None:
    rows = [(1, 10, 5.0), (None, 10, 1.0), (1, None, 1.0), (1, 20, None), (2, 20, float("nan"))]
    read = Interactions.from_table(table(*rows), CATALOG)
    assert sequences(read) == {1: [10]}
    assert read.dropped == {
        "interactions_with_missing_values": 4,
        "interactions_with_unknown_items": 0,
        "users_without_interactions_left": 1,
    }


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_ids_that_stand_for_none_are_missing_in_every_kind_of_file(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = ["u", "", " ", "nan", "None", "u", "u", "u"]
    items = ["a", "a", "b", "b", "a", "", "NULL", "b"]
    rows = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": list("12345678")})
    path = tmp_path / f"interactions.{suffix}"
    writers = {"parquet": rows.write_parquet, "jsonl": rows.write_ndjson}
    writers.get(suffix, lambda path: rows.write_csv(path, quote_style="always"))(path)
    words = Catalog(item_ids=["a", "b"], fields=pl.DataFrame())
    read = Interactions.read(path, words)
    assert sequences(read, words) == {"u": ["a", "b"]}
    assert read.dropped == {
        "interactions_with_missing_values": 6,
        "interactions_with_unknown_items": 0,
        "users_without_interactions_left": 0,
    }
    assert "2 cells of column 'user_id' are words such as 'nan', and count" in caplog.text
    assert "1 cells of column 'item_id' are words such as 'NULL', and count" in caplog.text


def test_events_lost_to_letter_case_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    words = Catalog(item_ids=["A1", "B2"], fields=pl.DataFrame())
    read = Interactions.from_table(
        table(("u", "A1", 1), ("u", "a1", 2), ("u", " B2", 3), ("U", "B2", 4), ("u", "x", 5)), words
    )
    assert read.dropped["interactions_with_unknown_items"] == 3
    assert read.dropped["interactions_with_near_equal_items"] == 2
    assert read.noted == {"near_equal_user_ids": 2}
    assert "such as 'a1' from 'A1'" in caplog.text
    assert "such as 'U' and 'u'" in caplog.text


@given(EVENTS, st.integers(1, 3))
def test_a_log_written_again_is_the_log_without_its_exact_repeats(
    rows: list[tuple[int, int, int]], times: int
) -> None:
    once = Interactions.from_table(table(*rows), CATALOG, repeats="exact")
    again = Interactions.from_table(table(*rows * times), CATALOG, repeats="exact")
    assert sequences(once) == sequences(again)
    known = [row for row in rows if row[1] != 50]
    extra = len(known) * times - len(set(known))
    assert again.dropped.get("repeated_interactions", 0) == extra
    assert again.repeated == 0
    kept = Interactions.from_table(table(*rows * times), CATALOG)
    assert kept.repeated == extra
    assert len(kept) == len(known) * times


def test_repeated_visits_stay() -> None:
    rows = [(1, 10, 1), (1, 10, 1), (1, 10, 2)]
    assert sequences(Interactions.from_table(table(*rows), CATALOG)) == {1: [10, 10, 10]}


def test_positions_give_an_order_and_no_times() -> None:
    read = Interactions.from_table(table((1, 10, 2), (1, 20, 0), order="position"), CATALOG)
    assert sequences(read) == {1: [20, 10]}
    assert read.times is None


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_kind_of_file_gives_the_same_interactions(suffix: str, tmp_path: Path) -> None:
    rows = table((2, 10, 5), (1, 30, 7), (1, 20, 7), (2, 40, 1))
    path = tmp_path / f"interactions.{suffix}"
    {"parquet": rows.write_parquet, "csv": rows.write_csv, "jsonl": rows.write_ndjson}[suffix](path)
    read = Interactions.read(path, CATALOG)
    assert sequences(read) == {1: [30, 20], 2: [40, 10]}
    assert read.users.dtype == read.items.dtype == np.int64
    assert sequences(Interactions.read(path, CATALOG, ties="item")) == {1: [20, 30], 2: [40, 10]}


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("who,what,when\nann,20,2014-07-23\nann,10,2014-07-22\n")
    read = Interactions.read(
        path, CATALOG, user_column="who", item_column="what", time_column="when"
    )
    assert sequences(read) == {"ann": [10, 20]}
    assert read.times is not None
    assert np.diff(read.times).tolist() == [24 * 3600 * 10**6]


@pytest.mark.parametrize("time", ["2", "2.5", "2014-07-23", "2014-07-23 10:00:00"])
def test_times_in_csv_are_numbers_or_dates(time: str, tmp_path: Path) -> None:
    path = tmp_path / "i.csv"
    path.write_text(f"user_id,item_id,timestamp\n1,10,{time}\n1,20,{time}\n")
    assert sequences(Interactions.read(path, CATALOG)) == {1: [10, 20]}


def test_dates_in_parquet_are_times(tmp_path: Path) -> None:
    days = pl.Series("timestamp", ["2014-07-23", "2014-07-22"]).str.to_date()
    path = tmp_path / "i.parquet"
    table((1, 10, 0), (1, 20, 0)).with_columns(days).write_parquet(path)
    assert sequences(Interactions.read(path, CATALOG)) == {1: [20, 10]}


def test_dates_may_be_written_in_a_named_format(tmp_path: Path) -> None:
    path = tmp_path / "i.csv"
    path.write_text("user_id,item_id,timestamp\n1,10,02/01/2014\n1,20,01/02/2014\n")
    with pytest.raises(ValueError, match=r"i.csv: .* '02/01/2014' in row 0 .* time_format"):
        Interactions.read(path, CATALOG)
    day_first = Interactions.read(path, CATALOG, time_format="%d/%m/%Y")
    month_first = Interactions.read(path, CATALOG, time_format="%m/%d/%Y")
    assert (sequences(day_first), sequences(month_first)) == ({1: [10, 20]}, {1: [20, 10]})


def test_times_that_mix_seconds_and_milliseconds_are_refused() -> None:
    with pytest.raises(ValueError, match="column 'timestamp' mixes units"):
        Interactions.from_table(table((1, 10, 1_400_000_000), (1, 20, 1_400_000_000_000)), CATALOG)


def test_nanoseconds_keep_their_order() -> None:
    times = pl.Series("timestamp", [1_700_000_000_000_000_002, 1_700_000_000_000_000_001])
    rows = table((1, 10, 0), (1, 20, 0)).with_columns(times.cast(pl.Datetime("ns")))
    assert sequences(Interactions.from_table(rows, CATALOG)) == {1: [20, 10]}


def test_a_timestamp_goes_before_a_position(tmp_path: Path) -> None:
    path = tmp_path / "i.csv"
    path.write_text("user_id,item_id,position,timestamp\n1,10,0,9\n1,20,1,8\n")
    assert sequences(Interactions.read(path, CATALOG)) == {1: [20, 10]}
    by_position = Interactions.read(path, CATALOG, time_column="position")
    assert sequences(by_position) == {1: [10, 20]}
    assert by_position.times is None


def test_item_ids_are_translated_where_nothing_is_lost() -> None:
    words = Catalog(item_ids=["10", "x"], fields=pl.DataFrame())
    assert sequences(Interactions.from_table(table((1, 10, 0)), words), words) == {1: ["10"]}
    assert sequences(Interactions.from_table(table((1, "10", 0)), CATALOG)) == {1: [10]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item_id,timestamp\n1,10,1\n", "no column user_id; its columns are user, item_id"),
        ("user_id,item_id,time\n1,10,1\n", "no column timestamp or position to order events by"),
        ("user_id,item_id,timestamp\n1,B00,1\n", "item ids are whole numbers, got 'B00'"),
        ("user_id,item_id,timestamp\n1,10,noon\n", "numbers or dates such as .* got 'noon'"),
        (
            "user_id,item_id,timestamp\n1,10,2014-07-23\n1,20,noon\n1,10,2014-07-24\n",
            r"got 'noon' in row 1 \(counted from 0\) of column 'timestamp'",
        ),
        ("user_id,item_id,timestamp\n1,77,1\n1,10,\n", "left of 2: 1 .* the first 77"),
        ("user_id,item_id,timestamp\n", "is empty"),
        ("", "is empty"),
    ],
)
def test_a_bad_file_gives_one_clear_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Interactions.read(path, CATALOG)
    assert "interactions.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"numbers or text, got 1\.5 in row 0 .* column 'user_id'"):
        Interactions.from_table(table((1.5, 10, 1)), CATALOG)
    with pytest.raises(ValueError, match="numbers or dates, got Boolean in column 'timestamp'"):
        Interactions.from_table(table((1, 10, True)), CATALOG)
    with pytest.raises(ValueError, match="ties must be one of file, item, shuffle, got 'random'"):
        Interactions.from_table(table((1, 10, 1)), CATALOG, ties="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="repeats must be one of keep, exact, got 'all'"):
        Interactions.from_table(table((1, 10, 1)), CATALOG, repeats="all")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no file"):
        Interactions.read("nowhere.csv", CATALOG)
