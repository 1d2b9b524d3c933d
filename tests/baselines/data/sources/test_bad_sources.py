"""What cannot be read is refused in one line that says what was expected and what came."""

from __future__ import annotations

import gzip
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow.parquet
import pytest

from baselines.cli import main
from baselines.data.loading import load_dataset
from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import RawTables, SourceReader
from baselines.data.sources.prepare import prepare_source
from scripts.shop_formats import EVENTS, ITEMS, delimited, lines, objects

_AS_IT_IS = PreparationConfig()


def corrupt_gzip(folder: Path) -> Path:
    path = folder / "log.csv.gz"
    path.write_bytes(gzip.compress(b"user_id,item_id,timestamp\n1,2,3\n" * 99)[:-12])
    return path


def named_gzip(folder: Path) -> Path:
    return delimited(folder / "log.csv.gz", EVENTS)


def truncated_parquet(folder: Path) -> Path:
    EVENTS.write_parquet(folder / "log.parquet")
    data = (folder / "log.parquet").read_bytes()
    (folder / "log.parquet").write_bytes(data[: len(data) // 2])
    return folder / "log.parquet"


def empty(folder: Path) -> Path:
    (folder / "log.csv").touch()
    return folder / "log.csv"


def header_only(folder: Path) -> Path:
    return lines(folder / "log.csv", ["user_id,item_id,timestamp"])


def no_user(folder: Path) -> Path:
    return delimited(folder / "log.csv", EVENTS.drop("user_id"))


def binary(folder: Path) -> Path:
    (folder / "log.csv").write_bytes(b"user_id,item_id,timestamp\n\x00\xff,1,2\n")
    return folder / "log.csv"


def short_row(folder: Path) -> Path:
    return lines(folder / "log.csv", ["user_id,item_id,timestamp", '1,"2",3', "1,2"])


def no_time(folder: Path) -> Path:
    return lines(folder / "log.csv", ["user_id,item_id,timestamp", "1,2,soon", "1,3,4"])


def soon_in_a_column_of_another_name(folder: Path) -> Path:
    return lines(folder / "log.csv", ["reviewerID,asin,reviewTime", "1,2,soon", "1,3,4"])


def mixed_units(folder: Path) -> Path:
    rows = ["1,2,1400000000", "1,3,1400000000000"]
    return lines(folder / "log.csv", ["user_id,item_id,timestamp", *rows])


def ambiguous_date(folder: Path) -> Path:
    return lines(folder / "log.csv", ["user_id,item_id,timestamp", "1,2,02/01/2014"])


def infinite_time(folder: Path) -> Path:
    return objects(folder / "log.jsonl", pl.DataFrame({"user_id": [1], "item_id": [2]})) and lines(
        folder / "log.jsonl", ['{"user_id": 1, "item_id": 2, "timestamp": Infinity}']
    )


def broken_json(folder: Path) -> Path:
    return lines(folder / "log.jsonl", ['{"user_id": 1, "item_id": 2, "timestamp": 3}', '{"user'])


def two_titles(folder: Path) -> Path:
    objects(folder / "events.jsonl", EVENTS)
    other = ITEMS.head(1).with_columns(title=pl.lit("Blue lipstick"))
    objects(folder / "catalog.jsonl", pl.concat([ITEMS, other]))
    return folder


def other_items(folder: Path) -> Path:
    objects(folder / "events.jsonl", EVENTS)
    objects(folder / "catalog.jsonl", ITEMS.with_columns(pl.col("item_id") + 1000))
    return folder


def two_logs(folder: Path) -> Path:
    objects(folder / "events.jsonl", EVENTS)
    delimited(folder / "ratings.csv", EVENTS)
    return folder


def other_parts(folder: Path) -> Path:
    (folder / "log").mkdir()
    EVENTS.write_parquet(folder / "log" / "part-0.parquet")
    EVENTS.drop("rating").write_parquet(folder / "log" / "part-1.parquet")
    return folder / "log"


def parts_of_other_types(folder: Path) -> Path:
    event = '{"user_id": 1, "item_id": 2, "timestamp": 3, "rating": '
    lines(folder / "log" / "part-0.json", [event + '["a"]}'])
    return lines(folder / "log" / "part-1.json", [event + '"b"}']).parent


def an_empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


def a_picture(folder: Path) -> Path:
    (folder / "log.png").write_bytes(b"\x89PNG")
    return folder / "log.png"


def untyped_recbole(folder: Path) -> Path:
    return delimited(folder / "shop.inter", EVENTS, "\t")


def a_user_twice(folder: Path) -> Path:
    return lines(folder / "Shop.txt", ["1 2 3", "", "2 3", "1 4"])


def a_user_alone(folder: Path) -> Path:
    return lines(folder / "Shop.txt", ["99 4", *(f"{user} 2 3" for user in range(29)), "31"])


def history_of_a_number(folder: Path) -> Path:
    return lines(folder / "Shop.inter.json", ['{"1": [2, 3], "2": 3}'])


def history_of_mixed_ids(folder: Path) -> Path:
    return lines(folder / "Shop.inter.json", ['{"1": [2, 3], "2": ["a", {}]}'])


def history_of_numbers_and_text(folder: Path) -> Path:
    return lines(folder / "Shop.inter.json", ['{"1": [2, 3], "4": ["2"]}'])


def histories_of_one_user(folder: Path) -> Path:
    return lines(folder / "Shop.inter.json", ['{"1": [2, 3], "2": [3], "1": [4]}'])


def attributes_of_one_item(folder: Path) -> Path:
    lines(folder / "Shop_item2attributes.json", ['{"2": ["red"], "2": ["blue"]}'])
    return lines(folder / "Shop.txt", ["1 2 3", "2 3"])


def no_header(folder: Path) -> Path:
    return lines(folder / "log.csv", ["A1,B00,5.0,1400000001", "A1,B01,4.0,1400000002"])


def no_header_twice_the_same(folder: Path) -> Path:
    return lines(folder / "log.csv", ["1,1,5,1400000001", "1,2,4,1400000002"])


def no_header_of_items(folder: Path) -> Path:
    objects(folder / "events.jsonl", EVENTS)
    return lines(folder / "catalog.csv", ["11,Red lipstick", "12,Brush"]).parent


def a_key_twice(folder: Path) -> Path:
    row = '{"user_id": 1, "item_id": 2, "timestamp": 3'
    return lines(folder / "log.jsonl", [row + "}", row + ', "item_id": 4}'])


def a_key_of_a_dict_twice(folder: Path) -> Path:
    return lines(folder / "log.json", ["{'user_id': 1, 'item_id': 2, 'item_id': 3, 'time': 4}"])


def items_without_ids(folder: Path) -> Path:
    objects(folder / "events.jsonl", EVENTS)
    return lines(folder / "catalog.jsonl", ['{"item_id": {}, "title": "Tea"}']).parent


def ids_with_fractions(folder: Path) -> Path:
    event = '{"user_id": 1, "item_id": 2, "timestamp": 3}'
    return lines(folder / "log.jsonl", [event, event.replace("1", "1.5")])


def ratings_of_bytes(folder: Path) -> Path:
    EVENTS.with_columns(rating=pl.lit(b"5")).write_parquet(folder / "log.parquet")
    return folder / "log.parquet"


def times_with_commas(folder: Path) -> Path:
    return lines(folder / "log.csv", ["user_id;item_id;timestamp", "1;2;1400000000", "1;3;1,4e9"])


def another_delimiter(folder: Path) -> Path:
    return lines(folder / "log.csv", ["user_id^item_id^timestamp", "1^2^3"])


def parquet_without_rows(folder: Path) -> Path:
    pyarrow.parquet.ParquetWriter(folder / "log.parquet", EVENTS.to_arrow().schema).close()
    return folder / "log.parquet"


def items_of_lists(folder: Path) -> Path:
    rows = ["user_id:token\titem_id:token\ttimestamp:float", "1\t2\t3"]
    lines(folder / "shop.inter", rows)
    return lines(folder / "shop.item", ["item_id:token_seq", "2 3"]).parent


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (lambda folder: folder / "nowhere.csv", "give a folder, a file of events"),
    (histories_of_one_user, "expected each name once in .*, got '1' more than once"),
    (attributes_of_one_item, "Shop_item2attributes.json, got '2' more than once"),
    (parts_of_other_types, "expected the same types in all its parts"),
    (no_header, "log.csv: its first row looks like data.*A1, B00, 5.0.* by --read.header user_id"),
    (no_header_twice_the_same, "its first row looks like data.*1, 1, 5.* by --read.header"),
    (no_header_of_items, "catalog.csv: its first row looks like data.*--read.items_header"),
    (a_key_twice, "line 2: expected an object .* names 'item_id' more than once"),
    (a_key_of_a_dict_twice, "line 1: expected an object .* names a column more than once"),
    (parquet_without_rows, "log.parquet is empty|log.parquet cannot be read|no rows"),
    (items_of_lists, "shop.item: ids must be .*, got List.* in column 'item_id'; name another"),
    (items_without_ids, "expected an id of an item in each row of .*, got none; name the column"),
    (ids_with_fractions, "log.jsonl: ids .*, got 1.5 in row 1 .* of column 'user_id'; correct it"),
    (ratings_of_bytes, "expected numbers as ratings, got Binary in column 'rating'"),
    (times_with_commas, "'1,4e9' in row 1 .* of column 'timestamp'; correct it, or leave"),
    (another_delimiter, r"got the columns user_id\^item_id\^timestamp; name it by"),
    (corrupt_gzip, r"gzip data is damaged .*; fetch it again"),
    (named_gzip, "its name says gzip, but it does not begin as such"),
    (truncated_parquet, "log.parquet cannot be read"),
    (empty, "log.csv is empty"),
    (header_only, "it has columns but no rows; write or fetch it again"),
    (soon_in_a_column_of_another_name, "'soon' in row 0 .* 'timestamp';.* timestamp <- reviewTime"),
    (no_user, r"expected a column such as user_id.* got the columns item_id.*--read.columns.user"),
    (binary, r"line 2: expected text in UTF-8, got the byte 0xff"),
    (short_row, "line 3: 2 cells, but the header has 3"),
    (no_time, "log.csv: times .*, got 'soon' in row 0 .* of column 'timestamp'; correct it"),
    (mixed_units, "mixes units"),
    (ambiguous_date, "which is the day and which the month"),
    (infinite_time, "log.jsonl: times .* finite, got inf in row 0 .* 'timestamp'; correct it"),
    (broken_json, "line 2"),
    (two_titles, "got 11 with title 'Red .* in row 0 and 'Blue .* in row 4 .* --prepare.same_item"),
    (other_items, "no event is of an item in the table of items"),
    (two_logs, "expected one table of events, got events.jsonl, ratings.csv"),
    (other_parts, "part-1.parquet: expected the columns of part-0.parquet .*; write all parts"),
    (an_empty_folder, "a folder with nothing"),
    (untyped_recbole, "expected a type in each column's name, such as user_id:token.*; write the"),
    (a_user_twice, "Shop.txt line 4: expected each user on one line, got '1' on line 1 too; write"),
    (a_user_alone, "line 31: expected a user and at least one item, got '31'; write the items"),
    (history_of_a_number, "expected a list for '2', got '3'; write each user with a list of items"),
    (history_of_mixed_ids, "expected lists of ids of one type, .*; write all items as numbers"),
    (history_of_numbers_and_text, "of one type, got 2 of user '1' and '2' of user '4'; write"),
    (a_picture, "a file named log.png"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input_is_refused(
    make: Callable[[Path], Path],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "prepare", str(source), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert str(tmp_path) in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_may_not_be_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with TemporaryDirectory() as place:  # that of pytest is closed to other users
        Path(place).chmod(0o777)
        path = delimited(Path(place) / "log.csv", EVENTS)
        prepare_source(path, SourceConfig(), _AS_IT_IS)  # loads what another user may not
        path.chmod(0)
        user = os.geteuid()
        if user == 0:  # who may read everything
            os.seteuid(65534)
        try:
            code = main(["data", "prepare", str(path), "--out", f"{place}/out"])
        finally:
            os.seteuid(user)
        assert list(Path(place).iterdir()) == [path]
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"Permission denied: '{path}'; let this user read" in line


def test_an_unknown_format_or_encoding_or_delimiter_is_refused(tmp_path: Path) -> None:
    path = delimited(tmp_path / "log.csv", EVENTS)
    for settings, message in (
        (SourceConfig(format="exel"), "exel"),
        (SourceConfig(encoding="utf-9"), "there is no encoding 'utf-9'"),
        (SourceConfig(delimiter=";"), "expected a column such as user_id"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_source(path, settings, PreparationConfig())
    for header in ((), ("user_id", ""), ("user_id", "user_id")):
        with pytest.raises(ValueError, match="header must name each column once"):
            SourceConfig(header=header)
    with pytest.raises(ValueError, match="line 1: 4 cells, but the header has 2"):
        prepare_source(path, SourceConfig(header=("user_id", "item_id")), PreparationConfig())
    with pytest.raises(ValueError, match="same_item must be one of refuse, first, last"):
        PreparationConfig(same_item="newest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delimiter must be at least one character"):
        SourceConfig(delimiter="")


def test_odd_times_are_reported_with_their_rows(tmp_path: Path) -> None:
    times = [1_400_000_000, 1_400_000_050, -5, 0, 1_500_000_000, 99_000_000_000]
    rows = [f"1,{item},{time}" for item, time in enumerate(times)]
    path = lines(tmp_path / "log.csv", ["user_id,item_id,timestamp", *rows])
    notes = {note.says: note for note in prepare_source(path, SourceConfig(), _AS_IT_IS).notes}
    early = notes["times before 1970"]
    assert (early.kind, early.count) == ("kept", 1)
    assert early.examples == [{"row": 2, "timestamp": -5}]
    far = notes["times that are not from 1990 to 2100, where most are"]
    assert [example["row"] for example in far.examples] == [3, 5]
    counted = lines(tmp_path / "log.csv", ["user_id,item_id,timestamp", "1,2,3", "1,3,4"])
    says = [note.says for note in prepare_source(counted, SourceConfig(), _AS_IT_IS).notes]
    assert not any("1970" in line or "1990" in line for line in says)


def test_decimal_commas_are_read_if_there_are_no_points(tmp_path: Path) -> None:
    header = "user_id;item_id;rating;timestamp"
    path = lines(tmp_path / "log.csv", [header, "1;2;4,5;1", "1;3;5;2", "1;4;;3"])
    found = prepare_source(path, SourceConfig(), _AS_IT_IS)
    assert found.events["rating"].to_list() == [4.5, 5.0, None]
    (note,) = [note for note in found.notes if "decimal commas" in note.says]
    assert (note.kind, note.count) == ("repaired", 1)
    assert note.examples == [{"row": 0, "rating": "4,5"}]
    path = lines(tmp_path / "log.csv", [header, "1;2;4,5;1", "1;3;5.5;2"])
    found = prepare_source(path, SourceConfig(), _AS_IT_IS)
    assert found.events["rating"].to_list() == [None, 5.5]


def test_a_title_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    title = "long " * 2_000_000
    path = delimited(tmp_path / "log.csv", EVENTS)
    for rows in ([f"11,{title}"], [f'11,"{title}, and ""more"""']):
        items = lines(tmp_path / "items.csv", ["item_id,title", *rows, "12,Tea"])
        config = SourceConfig(items=str(items))
        found = prepare_source(path, config, _AS_IT_IS).items
        assert found["title"].str.len_chars()[0] >= 10_000_000


class Changing(SourceReader):
    """A reader whose source grows meanwhile."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        return True

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        with source.open("a") as file:
            file.write("1,2,3\n")
        return RawTables(events=EVENTS, items=None, notes=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--prepare.user_core", "9"],
            "core of 9 per user and 1 per item leaves none of .*; ask",
        ),
        (["--read.items", "none.csv"], "no file none.csv; name one that is there"),
        (["--prepare.text_fields", "[brand]"], "items need a column brand, got item_id; give a"),
        (
            ["--read.items", "nothing"],
            r"nothing: expected a file, or a folder of files named part",
        ),
        (["--read.format", "my_sources:Changing"], "changed while it was read; prepare a copy"),
    ],
)
def test_what_options_make_impossible_is_refused(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "my_sources", sys.modules[__name__])
    an_empty_folder(tmp_path)
    delimited(tmp_path / "log.csv", EVENTS)
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "prepare", "log.csv", "--out", "out", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = delimited(tmp_path / "log.csv", EVENTS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        code = main(["data", "prepare", str(path), "--out", str(tmp_path / "out")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert re.search("File too large.*; make room, or name another place to write to", line)
    assert sorted(tmp_path.iterdir()) == [path]


def test_one_user_and_one_item(tmp_path: Path) -> None:
    rows = ["user_id,item_id,timestamp", *(f"1,2,{time}" for time in range(4))]
    one = lines(tmp_path / "one.csv", rows)
    found = prepare_source(one, SourceConfig(), _AS_IT_IS)
    assert found.counts == {
        **{"events_read": 4, "events": 4, "users_read": 1, "users": 1},
        **{"items_read": 1, "items": 1},
    }
    assert load_dataset(one).splits.test.num_targets == 1
    alone = lines(tmp_path / "alone.csv", ["user_id,item_id,timestamp", "1,2,3"])
    with pytest.raises(
        ValueError, match="the leave_one_out split leaves no train target; it needs users with"
    ):
        load_dataset(alone)
