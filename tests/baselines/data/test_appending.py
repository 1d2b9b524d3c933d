"""New events of a data folder: appended once, in order of time, or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from baselines.cli import main
from baselines.data.appending import Appended, append_events
from baselines.data.loading import load_dataset

OLD = {
    "user_id": ["u1", "u1", "u1", "u2", "u2", "u2"],
    "item_id": [1, 2, 3, 1, 2, 3],
    "timestamp": [10, 20, 30, 11, 21, 31],
    "rating": [5.0, 4.0, 5.0, 3.0, 2.0, 1.0],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pl.DataFrame({"item_id": [1, 2, 3, 4], "title": list("abcd")}).write_csv(tmp_path / "items.csv")
    pl.DataFrame(OLD).write_parquet(tmp_path / "interactions.parquet")
    return tmp_path


def append(folder: Path, *events: tuple[Any, ...], order: str = "timestamp") -> Appended:
    table = pl.DataFrame(events, schema=["user_id", "item_id", order], orient="row")
    table.write_csv(folder / "new.csv")
    return append_events(folder, folder / "new.csv")


def rows(folder: Path) -> list[tuple[Any, ...]]:
    return pl.read_parquet(folder / "interactions.parquet").rows()


def test_later_events_are_appended_and_counted(folder: Path) -> None:
    before = rows(folder)
    found = append(folder, ("u1", 4, 31), ("u3", 1, 40), ("u3", 2, 41))
    assert found == Appended(events=3, users=2, new_users=1, left_out={}, unknown_items=())
    added = [("u1", 4, 31, None), ("u3", 1, 40, None), ("u3", 2, 41, None)]
    assert rows(folder) == before + added
    assert load_dataset(folder).statistics["interactions"] == 9


def test_what_cannot_be_used_is_left_out_by_name(folder: Path) -> None:
    found = append(
        folder,
        ("u2", 4, 32),
        ("u2", 9, 33),
        ("u2", 9, 34),
        ("u2", 8, 35),
        ("u2", 4, 32),
        ("u1", 3, 30),  # in the folder
        ("", 4, 36),
        ("u2", 4, None),
    )
    assert found.events == 1
    assert found.left_out == {
        "events with missing values": 2,
        "events with unknown items": 3,
        "repeated events": 2,
    }
    assert found.unknown_items == (9, 8)
    assert rows(folder)[6:] == [("u2", 4, 32, None)]


def test_a_file_that_is_appended_again_changes_nothing(folder: Path) -> None:
    append(folder, ("u1", 4, 31), ("u2", 4, 45))
    content = (folder / "interactions.parquet").read_bytes()
    found = append_events(folder, folder / "new.csv")
    assert (found.events, found.left_out) == (0, {"repeated events": 2})
    assert (folder / "interactions.parquet").read_bytes() == content


def test_columns_and_types_stay_those_of_the_folder(folder: Path) -> None:
    schema = pl.read_parquet(folder / "interactions.parquet").schema
    new = {"rating": [4], "timestamp": [50.0], "item_id": ["4"], "user_id": ["u1"], "page": ["x"]}
    pl.DataFrame(new).write_parquet(folder / "new.parquet")
    assert append_events(folder, folder / "new.parquet").events == 1
    table = pl.read_parquet(folder / "interactions.parquet")
    assert table.schema == schema
    assert table.rows()[-1] == ("u1", 4, 50, 4.0)
    pl.DataFrame({**new, "timestamp": [60]}).write_csv(folder / "new.csv")
    assert append_events(folder, folder / "new.csv").events == 1
    assert rows(folder)[-1] == ("u1", 4, 60, 4.0)


def test_users_are_those_of_the_folder_only_if_written_alike(folder: Path) -> None:
    table = pl.DataFrame({**OLD, "user_id": [7, 7, 7, 8, 8, 8]})
    table.write_parquet(folder / "interactions.parquet")
    with pytest.raises(ValueError, match=r"user_id as Int64, as in the folder, got '007' in row 1"):
        append(folder, ("7", 4, 40), ("007", 4, 41))
    assert append(folder, ("7", 4, 40)).new_users == 0


def test_dates_are_appended_to_dates(folder: Path) -> None:
    days = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 6), eager=True)
    table = pl.DataFrame(OLD).with_columns(timestamp=days)
    table.write_parquet(folder / "interactions.parquet")
    assert append(folder, ("u1", 4, "2020-01-07"), ("u2", 4, "2020-01-08T10:00:00")).events == 2
    assert pl.read_parquet(folder / "interactions.parquet")["timestamp"][-1].hour == 10
    with pytest.raises(ValueError, match=r"timestamp as Datetime.*got 'soon' in row 0"):
        append(folder, ("u1", 4, "soon"))


def test_dates_are_appended_to_the_microseconds_that_preparation_makes_of_dates(
    folder: Path,
) -> None:
    days = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 6), eager=True)
    table = pl.DataFrame(OLD).with_columns(timestamp=days.dt.epoch("us"))
    table.write_parquet(folder / "interactions.parquet")
    assert append(folder, ("u1", 4, "2020-01-07"), ("u2", 4, "2020-01-08T10:00:00")).events == 2
    last = pl.read_parquet(folder / "interactions.parquet")["timestamp"][-2:]
    assert last.to_list() == [1_578_355_200_000_000, 1_578_477_600_000_000]
    assert append(folder, ("u2", 4, 1_578_477_600_000_001)).events == 1
    with pytest.raises(ValueError, match=r"no event before the last one of the folder"):
        append(folder, ("u1", 4, "2020-01-05"))


def test_positions_continue_those_of_each_user(folder: Path) -> None:
    table = pl.DataFrame(OLD).select("user_id", "item_id", position=pl.Series([0, 1, 2, 0, 1, 2]))
    table.write_parquet(folder / "interactions.parquet")
    found = append(folder, ("u1", 4, 3), ("u3", 1, 0), order="position")
    assert (found.events, found.new_users) == (2, 1)
    with pytest.raises(ValueError, match=r"the last of its user.* 'u2', item 4, position 2"):
        append(folder, ("u1", 4, 4), ("u2", 4, 2), order="position")


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (("u1", 4, 29), r"no event before the last one of the folder, got 1.*row 0.*item 4"),
        (("u1", "x", 40), r"item_id as Int64, as in the folder, got 'x' in row 0"),
        (("u1", 4, "soon"), r"timestamp as Int64, as in the folder, got 'soon' in row 0"),
        (("u1", 4, 40.5), r"timestamp as Int64, as in the folder, got '40.5' in row 0"),
        (("u1", 9, 40), r"events of known items, got none of 1: 1 events with unknown items"),
    ],
)
def test_other_events_are_refused_and_nothing_is_written(
    folder: Path, event: tuple[Any, ...], says: str
) -> None:
    content = (folder / "interactions.parquet").read_bytes()
    with pytest.raises(ValueError, match=rf"new\.csv: expected {says}"):
        append(folder, event)
    assert (folder / "interactions.parquet").read_bytes() == content


def test_times_in_another_unit_are_not_later_ones(folder: Path) -> None:
    seconds = pl.DataFrame(OLD).with_columns(timestamp=pl.col("timestamp") + 1_500_000_000)
    seconds.write_parquet(folder / "interactions.parquet")
    with pytest.raises(ValueError, match=r"unit of the folder, whose last is 1500000031, got up"):
        append(folder, ("u1", 4, 1_600_000_000_000))


def test_missing_files_and_columns_are_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        append_events(folder, folder / "none.csv")
    with pytest.raises(ValueError, match=r"new\.csv has no column timestamp"):
        append(folder, ("u1", 4, 1), order="day")
    (folder / "interactions.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected interactions\.parquet in"):
        append(folder, ("u1", 4, 40))


def test_the_command_says_what_it_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [("u1", 4, 40), ("u9", 7, 41), ("u9", 2, 42), ("u9", 2, 42)]
    table = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    table.write_parquet(folder / "new.parquet")
    command = ["data", "append", str(folder), "--events", str(folder / "new.parquet")]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: 1 events with unknown items left out: 1 repeated events" in said
    assert "unknown items: 1 (7); add them" in said
    assert "appended 2 events of 2 users, 1 of them new" in said
    table.with_columns(timestamp=pl.lit(5)).write_parquet(folder / "new.parquet")
    content = (folder / "interactions.parquet").read_bytes()
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected no event before the last one of the folder, got 2" in line
    assert (folder / "interactions.parquet").read_bytes() == content
    assert main([*command[:2], "synthetic", *command[3:]]) == 2
    assert "expected interactions.parquet in synthetic" in capsys.readouterr().err


def test_the_record_of_a_prepared_folder_follows(tmp_path: Path) -> None:
    pl.DataFrame(OLD).write_csv(tmp_path / "log.csv")
    shop = tmp_path / "shop"
    assert main(["data", "prepare", str(tmp_path / "log.csv"), "--out", str(shop)]) == 0
    record = json.loads((shop / "data.json").read_text())
    append(shop, ("u1", 1, 31), ("u3", 1, 40))
    new = json.loads((shop / "data.json").read_text())
    content = (shop / "interactions.parquet").read_bytes()
    assert new["sha256"]["interactions.parquet"] == hashlib.sha256(content).hexdigest()
    assert new["counts"] == record["counts"] | {"events": 8, "users": 3}
    assert new["notes"][:-1] == record["notes"]
    assert new["notes"][-1] == {
        "kind": "appended",
        "says": "events of new.csv",
        "count": 2,
        "examples": [],
    }
    (shop / "data.json").write_text(json.dumps(record))  # as if killed before it was written
    append(shop, ("u1", 1, 31), ("u3", 1, 40))
    again = json.loads((shop / "data.json").read_text())
    assert (again["counts"], again["sha256"]) == (new["counts"], new["sha256"])
