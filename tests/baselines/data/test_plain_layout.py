"""Tables of the plain layout are read as every other table is: compressed, divided, encoded."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from baselines.data.appending import append_events
from baselines.data.item_files import read_items
from baselines.data.loading import load_catalog, load_dataset
from baselines.data.plain_layout import read_table
from scripts.shop_formats import EVENTS, ITEMS, delimited, lines, objects, packed, spark


def written(folder: Path, form: str, table: pl.DataFrame, name: str) -> Path:
    if form == "semicolon":
        return delimited(folder / f"{name}.csv", table, ";")
    if form == "tsv.zst":
        packed(delimited(folder / f"{name}.tsv", table, "\t"), "zst")
        return folder / f"{name}.tsv.zst"
    if form == "csv.gz":
        packed(delimited(folder / f"{name}.csv", table), "gz")
        return folder / f"{name}.csv.gz"
    if form == "jsonl.gz":
        packed(objects(folder / f"{name}.jsonl", table), "gz")
        return folder / f"{name}.jsonl.gz"
    return delimited(folder / f"{name}.csv", table, ",", "utf-16")


FORMS = ("semicolon", "tsv.zst", "csv.gz", "jsonl.gz", "utf16")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_plain_layout_is_the_same_data(form: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for folder, kind in (("plain", "csv"), ("other", form)):
        for table, name in ((ITEMS, "items"), (EVENTS, "interactions")):
            if kind == "csv":
                delimited(tmp_path / folder / f"{name}.csv", table)
            else:
                written(tmp_path / folder, form, table, name)
    ours, theirs = load_dataset(tmp_path / "other"), load_dataset(tmp_path / "plain")
    assert ours.catalog.order_hash == theirs.catalog.order_hash
    assert ours.splits.train_hash == theirs.splits.train_hash
    assert ours.splits.test.content_hash() == theirs.splits.test.content_hash()
    assert load_catalog(tmp_path / "other").fields["title"].equals(ITEMS["title"])


def test_windows_and_parts_are_read_so_too(tmp_path: Path) -> None:
    delimited(tmp_path / "items.csv", ITEMS, ";")
    for part in ("train", "valid", "test"):
        lines(tmp_path / f"{part}.csv", ["history;item_id", "[11, 12];13", "[12, 14];11"])
        packed(tmp_path / f"{part}.csv", "gz")
    assert load_dataset(tmp_path).splits.test.num_targets == 2
    folder = spark(tmp_path / "spark")
    (folder / "events.parquet").rename(folder / "interactions.parquet")
    (folder / "catalog.parquet").rename(folder / "items.parquet")
    assert len(load_dataset(folder).splits.train) == 3


@pytest.mark.parametrize("form", FORMS)
def test_events_of_every_form_are_appended(form: str, tmp_path: Path) -> None:
    delimited(tmp_path / "items.csv", ITEMS)
    EVENTS.write_parquet(tmp_path / "interactions.parquet")
    later = EVENTS.with_columns(pl.col("timestamp") + 100)
    found = append_events(tmp_path, written(tmp_path / "new", form, later, "log"))
    assert (found.events, found.new_users) == (10, 0)
    assert pl.read_parquet(tmp_path / "interactions.parquet").equals(pl.concat([EVENTS, later]))


def test_lists_of_items_are_tables_or_lines(tmp_path: Path) -> None:
    packed(delimited(tmp_path / "few.csv", ITEMS), "gz")
    assert read_items(tmp_path / "few.csv.gz") == (11, 12, 13, 14)
    assert read_items(lines(tmp_path / "few.txt", ["11", "13"])) == ("11", "13")


def test_what_is_no_table_of_the_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"log\.xlsx: expected a file ending in \.parquet"):
        read_table(tmp_path / "log.xlsx")
    path = delimited(tmp_path / "log.csv", EVENTS, ";")
    with pytest.raises(ValueError, match=r"no column day; its columns are user_id, item_id"):
        read_table(path, required=("day",))
