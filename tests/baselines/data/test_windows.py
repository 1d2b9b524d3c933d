"""Windows as their publishers write them are those of the plain layout."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from baselines.cli import main
from baselines.data.loading import has_events, load_catalog, load_dataset
from baselines.data.windows import read_windows
from scripts.shop_formats import ITEMS, delimited, lines
from semid.lists import as_id_lists

PLAIN = ["user_id,history,item_id,timestamp", '7,"[11, 12]",13,5', "8,[14],11,6"]
MINIONEREC = [
    "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid",
    "7,\"['Red, 1', 'Crème']\",Soap,\"[11, 12]\",13,\"['<a_1>', '<a_2>']\",<a_3>",
    "8,['Brush'],Red,[14],11,['<a_4>'],<a_1>",
]
TCA4REC = [
    "uid,iid,his_len,hist_id,rating,label,hist_rating,timestamp",
    '7,13,2,"[11, 12]",5.0,1,"[5.0, 4.0]",5',
    "8,11,1,[14],4.0,0,[5.0],6",
]
COLUMNS = ("user_id", "history", "item_id")
MSL = ["user_id,item_ids,timestamp", '7,"[11, 12, 13]",5', '8,"[14, 11]",6']


@pytest.mark.parametrize("rows", [MINIONEREC, TCA4REC, MSL])
def test_published_forms_are_the_plain_one(rows: list[str], tmp_path: Path) -> None:
    for folder, written in (("plain", PLAIN), ("published", rows)):
        delimited(tmp_path / folder / "items.csv", ITEMS)
        for part in ("train", "valid", "test"):
            lines(tmp_path / folder / f"{part}.csv", written)
    ours, theirs = load_dataset(tmp_path / "published"), load_dataset(tmp_path / "plain")
    assert ours.splits.train_hash == theirs.splits.train_hash
    assert ours.splits.test.content_hash() == theirs.splits.test.content_hash()
    assert ours.splits.knows_users
    assert ours.splits.test.num_targets == 2


def test_sequences_of_no_or_one_item_have_no_history(tmp_path: Path) -> None:
    found = read_windows(lines(tmp_path / "w.csv", ["item_ids", '"[1, 2]"', "[3]", "[]"]))
    assert found["item_id"].to_list() == [2, 3, None]
    assert found["history"].to_list() == [["1"], [], []]


def test_what_holds_no_windows_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "w.csv", ["user_id,item_ids", '7,"[1, 2"'])
    with pytest.raises(ValueError, match=r"w\.csv: lists must be .*'\[1, 2' in row 0"):
        read_windows(path)
    with pytest.raises(ValueError, match=r"w\.csv has no column history; its columns are user_id"):
        read_windows(lines(tmp_path / "w.csv", ["uid,iid", "1,2"]))


def prepared(source: Path, out: Path, *options: str) -> int:
    return main(["data", "prepare", str(source), "--out", str(out), *options])


def test_published_folders_are_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    office = tmp_path / "Amazon"
    for part in ("train", "valid", "test"):
        lines(office / part / "Office_5.csv", MINIONEREC)
    texts = {"11": {"title": "Red"}, "12": {"title": "Crème"}, "13": {"title": "Soap"}}
    items = lines(office / "index" / "Office.item.json", [json.dumps(texts | {"14": {}})])
    assert prepared(office, tmp_path / "office", "--read.items", str(items)) == 0
    found = pl.read_parquet(tmp_path / "office" / "train.parquet")
    assert found.rows() == [("7", [11, 12], 13), ("8", [14], 11)]
    assert load_dataset(tmp_path / "office").splits.test.num_targets == 2
    assert load_catalog(tmp_path / "office").fields["title"].to_list()[0] == "Red"
    record = json.loads((tmp_path / "office" / "data.json").read_text())
    assert record["counts"]["events"] == 6
    for part in ("train", "valid", "test"):
        lines(office / part / "Toys_5.csv", MINIONEREC[:2])
    capsys.readouterr()
    assert prepared(office, tmp_path / "toys") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert (
        "expected one table in each of its folders, got Office_5.csv, Toys_5.csv in train" in said
    )
    assert not (tmp_path / "toys").exists()
    toys = office / "train" / "Toys_5.csv"
    assert prepared(toys, tmp_path / "toys") == 0
    ours, theirs = load_dataset(toys), load_dataset(tmp_path / "toys")
    assert ours.splits.train_hash == theirs.splits.train_hash
    assert ours.splits.test.content_hash() == theirs.splits.test.content_hash()
    assert load_catalog(toys).order_hash == theirs.catalog.order_hash
    with pytest.raises(ValueError, match=r"one table in each of its folders.*; name one of these"):
        load_dataset(office)
    with pytest.raises(ValueError, match=r"split cold:0\.5.* the windows in .* are used as given"):
        load_dataset(toys, split="cold:0.5")
    for part in ("train", "valid", "test"):
        assert pl.read_parquet(tmp_path / "toys" / f"{part}.parquet").height == 1
    assert set(record["sha256"]) == {f"{n}.parquet" for n in ("items", "train", "valid", "test")}
    for part in ("train", "test"):
        lines(tmp_path / "books" / f"{part}.csv", MSL)
    assert prepared(tmp_path / "books", tmp_path / "msl") == 0
    ours, theirs = load_dataset(tmp_path / "books"), load_dataset(tmp_path / "msl")
    assert ours.splits.train_hash == theirs.splits.train_hash
    assert ours.catalog.order_hash == load_catalog(tmp_path / "books").order_hash
    assert has_events(tmp_path / "books")
    assert pl.read_parquet(tmp_path / "msl" / "items.parquet")["item_id"].to_list() == [
        *range(11, 15)
    ]
    assert pl.read_parquet(tmp_path / "msl" / "test.parquet")["timestamp"].to_list() == ["5", "6"]
    capsys.readouterr()
    assert prepared(tmp_path / "books", tmp_path / "no", "--prepare.user_core", "2") == 2
    assert "train.csv holds windows, which are used as given" in capsys.readouterr().err
    lines(tmp_path / "books" / "train.csv", ["user_id,item_id", "1,2"])
    assert prepared(tmp_path / "books", tmp_path / "no") == 2
    assert "train.csv has no column history" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["office_minionerec/valid", "books_msl/test"])
def test_published_sets_in_their_own_form_are_read_as_converted(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    table = pl.read_parquet(shared_data / f"{name}.parquet")
    users, histories, items = (table[column].to_list() for column in COLUMNS)
    if name.startswith("books"):
        whole = [str([*past, item]) for past, item in zip(histories, items, strict=True)]
        written = pl.DataFrame({"user_id": users, "item_ids": whole})
    else:
        printed = list(map(str, histories))
        written = pl.DataFrame({"user_id": users, "history_item_id": printed, "item_id": items})
    found = read_windows(delimited(tmp_path / "windows.csv", written))
    lists = as_id_lists(found["history"], pl.Series([], dtype=pl.String))
    assert lists.list.eval(pl.element().cast(pl.Int64)).to_list() == histories
    assert found["item_id"].to_list() == items
