"""Histories and lists of items from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from baselines.data.histories import UserHistories
from baselines.data.item_files import read_boosts, read_items

KNOWN = pl.Series(range(1, 10))


def as_dict(found: UserHistories) -> dict[Any, list[Any]]:
    return {
        user: found.items[int(begin) : int(end)].to_list()
        for user, begin, end in zip(found.users, found.offsets[:-1], found.offsets[1:], strict=True)
    }


def test_lists_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    lists = {"b": [3, 1], "a": [], "c": [2]}
    table = pl.DataFrame({"user_id": list(lists), "history": list(lists.values())})
    table.write_parquet(tmp_path / "users.parquet")
    table.write_ndjson(tmp_path / "users.jsonl")
    (tmp_path / "users.csv").write_text('user_id,history\nb,"3,1"\na,\nc,2\n')
    for suffix in ("parquet", "jsonl", "csv"):
        found = UserHistories.read(tmp_path / f"users.{suffix}", known=KNOWN)
        assert {user: list(map(int, items)) for user, items in as_dict(found).items()} == lists


def test_events_are_sorted_within_each_user(tmp_path: Path) -> None:
    events = [("b", 3, 20), ("a", 5, 1), ("b", 1, 10), ("b", 2, 20), ("a", None, 2)]
    for order in ("timestamp", "position"):
        path = tmp_path / f"{order}.parquet"
        schema = ["user_id", "item_id", order]
        pl.DataFrame(events, schema=schema, orient="row").write_parquet(path)
        assert as_dict(UserHistories.read(path, known=KNOWN)) == {"b": [1, 3, 2], "a": [5]}
    assert as_dict(UserHistories.read(path, known=KNOWN).only("a")) == {"a": [5]}
    with pytest.raises(ValueError, match="expected a user out of 2, such as 'b', got 'z'"):
        UserHistories.read(path, known=KNOWN).only("z")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"user_id": [1, 1], "history": [[1], [2]]}, "one history of each user"),
        ({"user_id": [1, None], "history": [[1], [2]]}, "a missing user_id"),
        ({"user_id": [1]}, "expected a column history, or item_id"),
        ({"user_id": [1], "item_id": [1]}, "one of timestamp and position"),
        ({"user_id": [1], "item_id": [None], "position": [1]}, "none without a missing value"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, table: dict[str, list[Any]], line: str
) -> None:
    pl.DataFrame(table).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(ValueError, match=line):
        UserHistories.read(tmp_path / "users.parquet", known=KNOWN)


def test_content_hash_tells_users_items_and_order_apart() -> None:
    one, other = UserHistories.typed(["1", "2"]), UserHistories.typed(["2", "1"])
    assert one.content_hash() == UserHistories.typed(["1", "2"]).content_hash()
    assert one.content_hash() != other.content_hash()


def test_items_come_from_a_column_or_from_lines(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,stock\n7,1\n9,2\n")
    (tmp_path / "items.txt").write_text("7\n\n 9 \n")
    assert read_items(tmp_path / "items.csv") == (7, 9)
    assert read_items(tmp_path / "items.txt") == ("7", "9")
    (tmp_path / "items.txt").write_text("\n")
    with pytest.raises(ValueError, match="expected item ids, got none"):
        read_items(tmp_path / "items.txt")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_items(tmp_path / "nothing.txt")
    (tmp_path / "items.txt").write_bytes(b"\xef\xbb\xbf7\r\n9\r\n")  # as some editors save it
    assert read_items(tmp_path / "items.txt") == ("7", "9")
    (tmp_path / "items.txt").write_bytes(b"\xff\xfe7\x00")
    with pytest.raises(ValueError, match=r"items.txt: expected text in UTF-8"):
        read_items(tmp_path / "items.txt")


def test_boosts_are_finite_numbers_once_an_item(tmp_path: Path) -> None:
    path = tmp_path / "boosts.csv"
    path.write_text("item_id,boost\n7,0.5\n9,-1\n")
    assert read_boosts(path) == {7: 0.5, 9: -1.0}
    for rows, line in (
        ("7,nan", "a finite number as boost, got 'nan' for item 7"),
        ("7,x", "a finite number as boost"),
        ("7,1\n7,2", "each item once"),
        (",1", "an item_id in each row"),
    ):
        path.write_text(f"item_id,boost\n{rows}\n")
        with pytest.raises(ValueError, match=line):
            read_boosts(path)
