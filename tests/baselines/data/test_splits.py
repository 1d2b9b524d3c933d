from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.data.config import TimeCuts, require_split
from baselines.data.dataset import split_interactions
from baselines.data.interactions import Interactions
from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits, given_windows, global_time, leave_one_out
from semid.catalog import Catalog

CATALOG = Catalog(item_ids=list(range(10)), fields=pl.DataFrame())


def interactions_of(
    *users: list[int], times: Sequence[Sequence[float]] | None = None
) -> Interactions:
    """Users with the given items, at the given times or else in that order only."""
    rows = [
        {"user_id": user, "item_id": item, "position" if times is None else "timestamp": time}
        for user, items in enumerate(users)
        for item, time in zip(
            items, range(len(items)) if times is None else times[user], strict=True
        )
    ]
    return Interactions.from_table(pl.DataFrame(rows), CATALOG)


def targets(sequences: SequenceSet) -> Iterator[tuple[int, list[int], int]]:
    """User, history and target item of each target."""
    for number, event in zip(*sequences.targets(), strict=True):
        start = sequences.offsets[number]
        yield (
            int(sequences.users[number]),
            sequences.items[start:event].tolist(),
            int(sequences.items[event]),
        )


def test_leave_one_out_holds_the_last_two_items_out() -> None:
    splits = leave_one_out(interactions_of([1, 2, 3, 4, 5], [6, 7, 8], [9, 0], [3]))
    assert list(targets(splits.train)) == [(0, [1], 2), (0, [1, 2], 3), (2, [9], 0)]
    assert list(targets(splits.valid)) == [(0, [1, 2, 3], 4), (1, [6], 7)]
    assert list(targets(splits.test)) == [(0, [1, 2, 3, 4], 5), (1, [6, 7], 8)]
    assert splits.train.users.tolist() == [0, 1, 2]
    assert splits.dropped == {
        "users_too_short_for_evaluation": 2,
        "users_too_short_for_training": 1,
    }
    assert splits.protocol == "leave_one_out"


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=6))
def test_leave_one_out_is_its_definition(users: list[list[int]]) -> None:
    users = [*users, [1, 2, 3, 4]]
    splits = leave_one_out(interactions_of(*users), min_length=4)
    held = [(user, items) for user, items in enumerate(users) if len(items) >= 4]
    assert list(targets(splits.test)) == [(user, items[:-1], items[-1]) for user, items in held]
    assert list(targets(splits.valid)) == [(user, items[:-2], items[-2]) for user, items in held]
    kept = {user: items[:-2] if len(items) >= 4 else items for user, items in enumerate(users)}
    assert list(targets(splits.train)) == [
        (user, items[:pos], items[pos])
        for user, items in kept.items()
        for pos in range(1, len(items))
    ]


def test_leave_one_out_needs_users_with_three_items() -> None:
    with pytest.raises(ValueError, match=r"min_length must be at least 3 .* got 2"):
        leave_one_out(interactions_of([1, 2, 3]), min_length=2)
    with pytest.raises(ValueError, match="leave_one_out split leaves no valid target"):
        leave_one_out(interactions_of([1, 2]))


QUARTERS = TimeCuts(ratios=(0.5, 0.25, 0.25))
EVENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=10),
    min_size=3,
    max_size=6,
)


@given(EVENTS, st.integers(1, 3))
def test_global_time_is_its_definition(
    users: list[list[tuple[int, int]]], min_history: int
) -> None:
    users = [sorted(events, key=lambda event: event[1]) for events in users]
    everything = sorted(
        (
            (time, user, pos)
            for user, events in enumerate(users)
            for pos, (_, time) in enumerate(events)
        ),
    )
    cuts = [round(0.5 * len(everything)), round(0.75 * len(everything))]
    expected: dict[str, list[tuple[int, list[int], int]]] = {"train": [], "valid": [], "test": []}
    dropped = {"valid_targets_with_too_short_history": 0, "test_targets_with_too_short_history": 0}
    for rank, (_, user, pos) in enumerate(everything):
        part = "train" if rank < cuts[0] else "valid" if rank < cuts[1] else "test"
        items = [item for item, _ in users[user]]
        if pos >= min_history:
            expected[part].append((user, items[:pos], items[pos]))
        elif part != "train":
            dropped[f"{part}_targets_with_too_short_history"] += 1

    world = interactions_of(
        *([item for item, _ in events] for events in users),
        times=[[time for _, time in events] for events in users],
    )
    if not all(expected.values()):
        with pytest.raises(ValueError, match="split leaves no"):
            global_time(world, QUARTERS, min_history=min_history)
        return
    splits = global_time(world, QUARTERS, min_history=min_history)
    for part, found in expected.items():
        assert list(targets(getattr(splits, part))) == sorted(
            found, key=lambda t: (t[0], len(t[1]))
        )
    assert splits.dropped == dropped
    assert len(splits.train.items) == cuts[0]


def test_global_time_names_its_settings() -> None:
    world = interactions_of(list(range(10)), times=[list(range(10))])
    assert global_time(world).protocol == "global_time 0.8:0.1:0.1"
    splits = global_time(world, TimeCuts(ratios=(0.6, 0.2, 0.2)), min_history=2)
    assert splits.protocol == "global_time 0.6:0.2:0.2, history of at least 2"


def test_global_time_needs_times_and_sound_settings() -> None:
    with pytest.raises(ValueError, match="needs a timestamp for each interaction, got positions"):
        global_time(interactions_of([1, 2, 3]))
    world = interactions_of([1, 2, 3], times=[[1, 2, 3]])
    for ratios in [(0.8, 0.1, 0.2), (1.1, -0.2, 0.1), (0.9, 0.1)]:
        with pytest.raises(ValueError, match="three positive shares that sum to 1"):
            TimeCuts(ratios=ratios)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_history must be at least 1, got 0"):
        global_time(world, min_history=0)


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("fraction", [False, True])
def test_global_time_cuts_at_dates(per_second: int, fraction: bool) -> None:
    """Around midnight of 2017-06-01 (1496275200 s) and noon of 2017-12-01, one event at each."""
    june, december = 1496275200, 1512129600
    seconds = [june - 2, june - 1, june, december - 1, december, december + 1]
    times: list[float] = [at * per_second for at in seconds]
    if fraction:
        times = [time + 0.5 for time in times]
    world = interactions_of([1, 2, 3, 4, 5, 6], [7, 8], times=[times, [times[0], times[4]]])
    splits = split_interactions(world, "global_time:2017-06-01,2017-12-01T14:00+02:00")
    assert list(targets(splits.train)) == [(0, [1], 2)]
    assert list(targets(splits.valid)) == [(0, [1, 2], 3), (0, [1, 2, 3], 4)]
    assert list(targets(splits.test)) == [
        (0, [1, 2, 3, 4], 5),
        (0, [1, 2, 3, 4, 5], 6),
        (1, [7], 8),
    ]
    assert splits.protocol == ("global_time 2017-06-01T00:00:00+00:00, 2017-12-01T14:00:00+02:00")


def test_the_shares_in_the_name_of_a_split_are_those_of_its_cuts() -> None:
    world = interactions_of(list(range(10)), times=[list(range(10))])
    splits = split_interactions(world, "global_time:0.6,0.2,0.2")
    assert splits.protocol == "global_time 0.6:0.2:0.2"
    assert [splits.train.num_targets, splits.valid.num_targets, splits.test.num_targets] == [
        5,
        2,
        2,
    ]
    assert split_interactions(world, "global_time").protocol == "global_time 0.8:0.1:0.1"


def test_a_date_outside_the_events_is_refused_with_their_range() -> None:
    world = interactions_of([1, 2, 3], times=[[1496275200, 1496275201, 1496275202]])
    expected = (
        "2018-01-01T00:00:00.* from 2017-06-01T00:00:00.* to 2017-06-01T00:00:02.* give dates"
    )
    with pytest.raises(ValueError, match=expected):
        split_interactions(world, "global_time:2017-06-01T00:00:01,2018-01-01")


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("global_time:", "could not convert|not enough"),
        ("global_time:0.8,0.1", "Invalid isoformat"),
        ("global_time:0.8,0.1,0.2", "sum to 1"),
        ("global_time:0.8,nan,0.2", "sum to 1"),
        ("global_time:2017-12-01,2017-06-01", "test must begin after validation does"),
        ("global_time:2017-06-01,2017-13-01", "month must be in 1..12"),
        ("global_time:2017,2018", "Invalid isoformat"),
    ],
)
def test_cuts_that_are_no_cuts_are_refused_before_anything_is_read(split: str, reason: str) -> None:
    with pytest.raises(
        ValueError, match=f"split must be global_time, .* got '{split}' .*({reason})"
    ):
        require_split(split)


def window_files(folder: Path, **tables: pl.DataFrame) -> list[Path]:
    paths = []
    for name in ("train", "valid", "test"):
        paths.append(folder / f"{name}.parquet")
        tables[name].write_parquet(paths[-1])
    return paths


def windows(*rows: tuple[object, ...]) -> pl.DataFrame:
    names = ["history", "item_id", "user_id"][: len(rows[0])]
    return pl.DataFrame(list(rows), schema=names, orient="row")


def split_windows(folder: Path, **tables: pl.DataFrame) -> Splits:
    return given_windows(*window_files(folder, **tables), CATALOG)


def test_each_window_has_one_target(tmp_path: Path) -> None:
    splits = split_windows(
        tmp_path,
        train=windows(([1, 2], 3, "b"), ([4], 5, "a")),
        valid=windows(([1, 2, 3], 4, "b")),
        test=windows(([6], 6, "c")),
    )
    assert list(targets(splits.train)) == [(1, [1, 2], 3), (0, [4], 5)]
    assert list(targets(splits.valid)) == [(1, [1, 2, 3], 4)]
    assert list(targets(splits.test)) == [(2, [6], 6)]
    assert splits.protocol == "windows"
    assert not any(splits.dropped.values())


def test_the_last_tenth_of_train_validates_where_no_windows_do(tmp_path: Path) -> None:
    rows = windows(*[([1], 2 + n % 2, n) for n in range(11)])
    train, test = tmp_path / "train.parquet", tmp_path / "test.parquet"
    rows.write_parquet(test)
    for column, last in [(None, {9, 10}), ("timestamp", {0, 1})]:
        table = rows if column is None else rows.with_columns(timestamp=pl.Series(range(11, 0, -1)))
        table.write_parquet(train)
        splits = given_windows(train, None, test, CATALOG)
        assert set(splits.valid.users) == last
        assert set(splits.train.users) == set(range(11)) - last
        assert splits.protocol == "windows, validation the last tenth of train"


def test_without_user_ids_each_window_is_a_user(tmp_path: Path) -> None:
    rows = windows(([1], 2), ([1], 2))
    splits = split_windows(tmp_path, train=rows, valid=rows, test=rows)
    parts = (splits.train, splits.valid, splits.test)
    assert [part.users.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]


def test_what_windows_lose_is_counted(tmp_path: Path) -> None:
    good = windows(([1], 2, 7))
    splits = split_windows(
        tmp_path,
        train=windows(
            ([1, 77, 2], 3, 7),
            ([88], 3, 7),
            ([], 3, 7),
            ([1, 99], 66, 7),
            (None, 3, 7),
            ([1], None, 7),
            ([1], 3, None),
        ),
        valid=good,
        test=good,
    )
    assert list(targets(splits.train)) == [(0, [1, 2], 3)]
    assert {k: v for k, v in splits.dropped.items() if k.startswith("train")} == {
        "train_windows_with_missing_values": 3,
        "train_windows_with_unknown_target": 1,
        "train_windows_without_history": 2,
        "train_unknown_history_items": 3,
    }


def test_user_ids_of_two_kinds_meet_as_text(tmp_path: Path) -> None:
    number, text = windows(([1], 2, 7)), windows(([1], 2, "7"))
    splits = split_windows(tmp_path, train=number, valid=text, test=number)
    assert splits.train.users.tolist() == splits.valid.users.tolist() == [0]


@pytest.mark.parametrize("history", ["1 2 3", "[1, 2, 3]", "['1', '2', '3']"])
def test_histories_in_csv_are_lists_in_text(history: str, tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_text(f'history,item_id\n"{history}",4\n')
    splits = given_windows(path, path, path, CATALOG)
    assert list(targets(splits.train)) == [(0, [1, 2, 3], 4)]


@pytest.mark.parametrize(
    ("ids", "cell"),
    [
        (["Red Shoe"], "['Red Shoe']"),
        (["O'Neil", "Blue"], str(["O'Neil", "Blue"])),
        (["1", "2", "3"], "(1, 2, 3)"),
        (["A, B"], '["A, B"]'),
        (["A, B", "A"], "['A, B' 'A']"),
        (["Red Shoe", "Red"], "Red Shoe|Red"),
    ],
)
def test_histories_in_csv_are_read_as_they_are_written(
    ids: list[str], cell: str, tmp_path: Path
) -> None:
    catalog = Catalog(item_ids=[*ids, "Hat"], fields=pl.DataFrame())
    path = tmp_path / "windows.csv"
    pl.DataFrame({"history": [cell], "item_id": ["Hat"]}).write_csv(path)
    test = given_windows(path, path, path, catalog).test
    assert [catalog.item_ids[row] for row in test.items] == [*ids, "Hat"]


def test_a_history_that_can_be_read_in_two_ways_is_refused_by_name(tmp_path: Path) -> None:
    catalog = Catalog(item_ids=["Red Shoe", "Red", "Shoe", "Hat"], fields=pl.DataFrame())
    path = tmp_path / "windows.csv"
    path.write_text("history,item_id\nRed Shoe,Hat\n")
    with pytest.raises(ValueError, match=r"windows.csv: column 'history' .* such as 'Red Shoe'"):
        given_windows(path, path, path, catalog)


def test_windows_count_ids_that_are_nearly_known_and_blank_ones(tmp_path: Path) -> None:
    catalog = Catalog(item_ids=["A", "B"], fields=pl.DataFrame())
    path = tmp_path / "windows.jsonl"
    rows = [(["A", "b"], "B"), (["A"], "b"), (["A"], " "), (["A"], "NULL"), (["A", ""], "B")]
    windows(*rows).write_ndjson(path)
    splits = given_windows(path, path, path, catalog)
    assert {k: v for k, v in splits.dropped.items() if k.startswith("test")} == {
        "test_windows_with_missing_values": 2,
        "test_windows_with_unknown_target": 1,
        "test_windows_without_history": 0,
        "test_unknown_history_items": 2,
        "test_near_equal_items": 2,
    }


def test_dates_of_windows_may_be_written_in_a_named_format(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    dates = "".join(f"1,{n},0{n}/0{10 - n}/2014\n" for n in range(2, 9))
    train.write_text("history,item_id,timestamp\n" + dates)
    with pytest.raises(ValueError, match=r"train.csv: dates must show which is the day"):
        given_windows(train, None, train, CATALOG)
    for order, last in (("%m/%d/%Y", 8), ("%d/%m/%Y", 2)):
        splits = given_windows(train, None, train, CATALOG, time_format=order)
        assert list(targets(splits.valid)) == [(6, [1], last)]


def test_bad_windows_give_one_clear_line(tmp_path: Path) -> None:
    good = windows(([1], 2))
    for bad, message in [
        (good.drop("history"), r"train.parquet has no column history; its columns are item_id"),
        (windows(([1], 77)), r"train.parquet: no window left of 1: .* 1 a target"),
        (windows((1, 2)), r"column 'history' must hold lists of item ids, got Int64"),
        (windows((["a"], 2)), r"item ids are whole numbers, got 'a' in 'history'"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            split_windows(tmp_path, train=bad, valid=good, test=good)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no file"):
        given_windows(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv", CATALOG)


def test_the_training_hash_sees_training_only() -> None:
    base = leave_one_out(interactions_of([1, 2, 3, 4, 5]))
    other_test = leave_one_out(interactions_of([1, 2, 3, 4, 9]))
    other_train = leave_one_out(interactions_of([1, 9, 3, 4, 5]))
    assert base.train_hash == other_test.train_hash != other_train.train_hash
    assert np.array_equal(base.train.items, [1, 2, 3])


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=8, max_size=20),
    st.integers(0, 3),
)
def test_a_user_disjoint_split_divides_the_users(histories: list[list[int]], draw: int) -> None:
    used = [user for user, items in enumerate(histories) if len(items) >= 2]
    if len(used) < 6:
        return
    splits = split_interactions(interactions_of(*histories), f"users:0.5,0.25,0.25:{draw}")
    parts = (splits.train, splits.valid, splits.test)
    owners = [part.users.tolist() for part in parts]
    assert sorted(user for users in owners for user in users) == used
    assert [len(users) for users in owners] == [
        round(len(used) * 0.5),
        round(len(used) * 0.75) - round(len(used) * 0.5),
        len(used) - round(len(used) * 0.75),
    ]
    assert all(users == sorted(users) for users in owners)
    assert list(targets(splits.train)) == [
        (user, histories[user][:at], histories[user][at])
        for user in owners[0]
        for at in range(1, len(histories[user]))
    ]
    for part, users in zip(parts[1:], owners[1:], strict=True):
        assert list(targets(part)) == [(u, histories[u][:-1], histories[u][-1]) for u in users]
    assert splits.dropped == {"users_too_short_for_training": len(histories) - len(used)}
    assert splits.protocol == f"users:0.5,0.25,0.25:{draw}"


def test_another_draw_of_a_user_disjoint_split_holds_out_others() -> None:
    world = interactions_of(*[[1, 2, 3]] * 30)
    first, again, other = (
        split_interactions(world, split).test.users.tolist()
        for split in ("users:0.8,0.1,0.1", "users:0.8,0.1,0.1:0", "users:0.8,0.1,0.1:1")
    )
    assert first == again != other


@pytest.mark.parametrize("setting", ["", "0.8,0.2", "0.8,0.1,0.2", "1,0,0", "0.8,0.1,0.1:-1", "x"])
def test_shares_of_users_that_are_none_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"split must be users:TRAIN,VALID,TEST with shares that"):
        require_split(f"users:{setting}")


def test_shares_that_leave_no_user_to_a_part_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves no valid target"):
        split_interactions(interactions_of([1, 2, 3], [4, 5, 6]), "users:0.8,0.1,0.1")
