"""The same content through every reader is the same data set."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from baselines.data.loading import load_dataset
from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.config import ColumnNames, SourceConfig
from baselines.data.sources.contract import RawTables, SourceReader
from baselines.data.sources.prepare import Prepared, prepare_source
from tests.shop_formats import (
    EVENTS,
    ITEMS,
    WRITERS,
    Writer,
    delimited,
    letter,
    lines,
    objects,
    sequences,
)


def prepared(source: Path, **settings: object) -> Prepared:
    return prepare_source(source, SourceConfig(**settings), PreparationConfig())


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_files(name: str, tmp_path: Path) -> None:
    found = prepared(WRITERS[name](tmp_path / name))
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.select(ITEMS.columns).equals(ITEMS)


def test_the_compressed_and_encoded_forms_are_said(tmp_path: Path) -> None:
    said = {
        name: " ".join(note.says for note in prepared(WRITERS[name](tmp_path / name)).notes)
        for name in ("csv.gz", "jsonl.zst", "tsv", "semicolon", "utf16", "amazon-2014", "spark")
    }
    assert "compressed by gzip" in said["csv.gz"]
    assert "compressed by zstd" in said["jsonl.zst"]
    assert "divided by '\\t'" in said["tsv"]
    assert "utf-8-sig" in said["tsv"]
    assert "divided by ';'" in said["semicolon"]
    assert "Windows-1252" in said["semicolon"]
    assert "utf-16" in said["utf16"]
    assert "user_id <- reviewerID, item_id <- asin" in said["amazon-2014"]
    assert "lines are Python dicts" in said["amazon-2014"]
    assert "one table of 3 parts" in said["spark"]


def test_a_file_of_events_alone_gives_its_items_in_order(tmp_path: Path) -> None:
    path = objects(tmp_path / "log.jsonl", EVENTS.sort("item_id", descending=True))
    found = prepared(path)
    assert found.items["item_id"].to_list() == [11, 12, 13, 14]
    assert found.items.columns == ["item_id"]


def test_columns_of_any_name_are_taken_by_option(tmp_path: Path) -> None:
    names = {"user_id": "wer", "item_id": "was", "timestamp": "wann", "rating": "note"}
    path = delimited(tmp_path / "log.csv", EVENTS.rename(names))
    texts = delimited(tmp_path / "texte.csv", ITEMS.rename({"item_id": "was", "title": "titel"}))
    columns = ColumnNames(user="wer", item="was", time="wann", rating="note", title="titel")
    found = prepared(path, items=str(texts), columns=columns)
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.select(ITEMS.columns).equals(ITEMS)


def test_movielens_with_double_colons_and_latin_1(tmp_path: Path) -> None:
    rows = ["::".join(map(str, row)) for row in EVENTS.cast({"rating": pl.Int64}).iter_rows()]
    lines(tmp_path / "ratings.dat", rows)
    movies = ["11::Léon (1994)::Crime|Drama", "12::Heat::Crime", "13::Up::Drama", "14::Big::Drama"]
    lines(tmp_path / "movies.dat", movies, "latin-1")
    found = prepared(tmp_path)
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.row(0, named=True) == {
        "item_id": 11,
        "title": "Léon (1994)",
        "genres": ["Crime", "Drama"],
    }


def test_yelp_with_dates_and_its_columns(tmp_path: Path) -> None:
    reviews = pl.DataFrame(
        {
            "review_id": ["r1", "r2"],
            "user_id": ["u", "u"],
            "business_id": ["b1", "b2"],
            "stars": [4.0, 5.0],
            "date": ["2016-03-09 00:00:01", "2016-03-09 00:00:03"],
        }
    )
    shops = pl.DataFrame(
        {
            "business_id": ["b1", "b2"],
            "name": ["Bar", "Café"],
            "categories": ["Bars, Food", "Food"],
            "stars": [3.5, 4.0],
        }
    )
    objects(tmp_path / "yelp_academic_dataset_review.json", reviews)
    objects(tmp_path / "yelp_academic_dataset_business.json", shops)
    found = prepared(tmp_path)
    assert found.events["item_id"].to_list() == ["b1", "b2"]
    assert found.events["timestamp"].diff().to_list() == [None, 2_000_000]
    assert found.items["title"].to_list() == ["Bar", "Café"]


def test_commands_take_the_same_sources_directly(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    source = WRITERS["csv.gz"](tmp_path / "gz")
    prepared(source).write(plain, {})
    ours, theirs = load_dataset(plain), load_dataset(source)
    assert ours.catalog.order_hash == theirs.catalog.order_hash
    assert ours.splits.train_hash == theirs.splits.train_hash
    one_file = load_dataset(delimited(tmp_path / "log.csv", EVENTS))
    assert one_file.splits.train_hash == ours.splits.train_hash


class Fixed(SourceReader):
    """A reader as outsiders write it."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        return source.suffix == ".mine"

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        return RawTables(events=EVENTS, items=ITEMS, notes=[])


def test_a_reader_of_ones_own_by_class_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "my_sources", sys.modules[__name__])
    path = lines(tmp_path / "shop.mine", ["anything"])
    found = prepared(path, format="my_sources:Fixed")
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.equals(ITEMS)


@pytest.mark.parametrize("write", [sequences, letter])
def test_histories_without_times_give_the_same_splits(write: Writer, tmp_path: Path) -> None:
    source = write(tmp_path / "histories")
    assert prepared(source).events["position"].to_list() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3]
    ours, theirs = load_dataset(source), load_dataset(WRITERS["csv"](tmp_path / "csv"))
    assert ours.catalog.order_hash == theirs.catalog.order_hash
    assert ours.splits.train_hash == theirs.splits.train_hash
    assert ours.splits.test.content_hash() == theirs.splits.test.content_hash()


def test_attributes_and_texts_beside_histories(tmp_path: Path) -> None:
    attributes = prepared(sequences(tmp_path / "s3")).items["attributes"]
    assert attributes.to_list() == [[2, 7], [0, 7], [1, 7], [2, 7]]
    assert prepared(letter(tmp_path / "letter")).items.select(ITEMS.columns).equals(ITEMS)
