"""``semid data prepare``: from what people have to the plain layout."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from baselines.cli import main
from baselines.data.loading import load_dataset
from scripts.shop_formats import EVENTS, ITEMS, WRITERS, delimited


def test_a_log_becomes_a_folder_that_says_what_was_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = WRITERS["amazon-2014"](tmp_path / "beauty"), tmp_path / "data"
    words = ["data", "prepare", str(source), "--out", str(out)]
    assert main([*words, "--prepare.min_rating", "3", "--prepare.item_core", "2"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "user_id <- reviewerID, item_id <- asin" in printed
    assert "left out: rating >= 3" in printed
    kept = pl.read_parquet(out / "interactions.parquet")
    assert kept.select(EVENTS.columns).equals(EVENTS.filter(pl.col("rating") >= 3))
    assert pl.read_parquet(out / "items.parquet").equals(ITEMS.filter(pl.col("item_id") != 14))
    record = json.loads((out / "data.json").read_text())
    assert record["counts"] == {
        "events_read": 10,
        "events": 8,
        "users_read": 3,
        "users": 3,
        "items_read": 4,
        "items": 3,
    }
    low = next(note for note in record["notes"] if "rating >= 3" in note["says"])
    assert low["count"] == 2
    assert low["examples"][0]["item_id"] == 14
    assert record["settings"]["prepare"]["min_rating"] == 3
    assert len(load_dataset(out).catalog) == 3


def test_columns_and_the_file_of_items_are_named_on_the_command_line(tmp_path: Path) -> None:
    path = delimited(tmp_path / "log.csv", EVENTS.rename({"user_id": "wer"}))
    texts = delimited(tmp_path / "texts.csv", ITEMS)
    out = tmp_path / "data"
    words = ["data", "prepare", str(path), "--out", str(out), "--read.columns.user", "wer"]
    assert main([*words, "--read.items", str(texts)]) == 0
    assert pl.read_parquet(out / "items.parquet").equals(ITEMS)


def test_bad_input_ends_in_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = delimited(tmp_path / "log.csv", EVENTS.drop("user_id"))
    out = tmp_path / "data"
    assert main(["data", "prepare", str(path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--read.columns.user" in said
    assert not out.exists()


def test_a_folder_that_holds_something_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = delimited(tmp_path / "log.csv", EVENTS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    assert main(["data", "prepare", str(path), "--out", str(tmp_path / "data")]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["mine.txt"]


def test_titles_and_items_are_prepared_too(tmp_path: Path) -> None:
    log = delimited(tmp_path / "log.csv", EVENTS)
    titles = ["<b>Red</b> lipstick", "Cream", "Soap", None]
    texts = delimited(tmp_path / "texts.csv", ITEMS.with_columns(title=pl.Series(titles)))
    out = tmp_path / "data"
    words = ["data", "prepare", str(log), "--out", str(out), "--read.items", str(texts)]
    assert main([*words, "--prepare.clean_titles", "true", "--prepare.text_fields", "title"]) == 0
    items = pl.read_parquet(out / "items.parquet")
    assert items["title"].to_list() == ["Red lipstick", "Cream", "Soap"]
    kept = pl.read_parquet(out / "interactions.parquet")
    assert kept.select(EVENTS.columns).equals(EVENTS.filter(pl.col("item_id") != 14))
