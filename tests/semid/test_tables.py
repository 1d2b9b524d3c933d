from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semid.columns import as_ids, as_text, as_times
from semid.tables import read_table

ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# A writer leaves a lone carriage return without quotes, where it reads as an end of line.
CELLS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=6)


def read(path: Path, text: str, *ids: str) -> pl.DataFrame:
    path.write_text(text, encoding="utf-8", newline="")
    return read_table(path, ids=ids)


def read_json(path: Path, *rows: Any) -> pl.DataFrame:
    return read(path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@ONE_FOLDER
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_csv_reads_back_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, str]], quoting: Any, end: str
) -> None:
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=quoting, lineterminator=end).writerows([("a", "b"), *rows])
    table = read_table(tmp_path / "t.csv")
    assert [tuple(cell or "" for cell in row) for row in table.rows()] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1,"5\\" tv"\n2,red\n3,"6\\" tv"\n', r"line 2: .*write a quote .* as two quotes"),
        ('1,"big" shoe\n', "line 2: "),
        ('1,"open\n2,b\n', "line 3: unexpected end"),
        ('1,"a, b"\n2,a, b\n', "line 3: 3 cells, but the header has 2"),
        ('1,"a"\n2\n', "line 3: 1 cells, but the header has 2"),
    ],
)
def test_quotes_that_would_merge_rows_are_refused_with_their_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "t.csv", f"item_id,title\n{text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 cells, but the header has 2"),
        ("a,b\n\n1,2\n3,4,5\n", "line 4: 3 cells, but the header has 2"),
        ("a,b\n1,2\r3,4\r\n5\n", "line 4: 1 cells, but the header has 2"),
        ("a,b,a\n1,2,3\n", "its header names a column twice: a, b, a"),
    ],
)
def test_rows_that_do_not_fit_their_header_are_refused_with_or_without_quotes(
    text: str, message: str, tmp_path: Path
) -> None:
    for written in (text, text.replace("1", '"1"')):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "t.csv", written)


def test_other_delimiters_than_commas_are_told_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no column id; .* id;title; divide its cells by comm"):
        read(tmp_path / "t.csv", "id;title\n1;Tea\n", "id")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_alike_with_or_without_quotes(end: str, tmp_path: Path) -> None:
    for text in ("a,b\n1,2\n\n3,\n", 'a,b\n1,2\n\n"3",\n', "\na,b\n1,2\n\n3,"):
        table = read(tmp_path / "t.csv", text.replace("\n", end))
        assert table.columns == ["a", "b"]
        assert table.rows() == [("1", "2"), (None, None), ("3", None)]


def test_quotes_within_cells_that_have_none_around_are_letters(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", 'id,title\n1,5" tv\n2,8"x11" "big"\n3,"a ""b"""\n')
    assert table["title"].to_list() == ['5" tv', '8"x11" "big"', 'a "b"']


def test_long_cells_and_byte_order_marks_are_nothing_special(tmp_path: Path) -> None:
    long = "x" * 200_000
    table = read(tmp_path / "t.csv", f'\ufeff"id","title"\n"1","{long}"\n', "id")
    assert table.rows() == [(1, long)]
    assert read(tmp_path / "t.jsonl", '\ufeff{"id": 1}\n\n{"id": 2}\n')["id"].to_list() == [1, 2]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_that_is_not_utf8_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(b'"id"\n"caf\xe9"\n')
    with pytest.raises(ValueError, match=rf"t.{suffix} cannot be read as {suffix}: .*utf-8"):
        read_table(path)


@ONE_FOLDER
@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=5))
def test_whole_numbers_of_json_lines_are_exact(tmp_path: Path, numbers: list[int]) -> None:
    column = read_json(tmp_path, *({"id": number} for number in numbers))["id"]
    fits = all(-(2**63) < number < 2**63 for number in numbers)
    assert as_ids(column).to_list() == (numbers if fits else list(map(str, numbers)))


def test_ids_of_numbers_and_text_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = read(tmp_path / "t.jsonl", '{"id": 1, "n": 1}\n{"id": "1", "n": "1"}\n', "id")
    assert table["id"].to_list() == ["1", "1"]
    (said,) = caplog.messages
    assert "t.jsonl: id holds numbers and text, all taken as text" in said
    assert said.endswith("such as {'id': 1} and {'id': '1'}")


@ONE_FOLDER
@given(st.lists(st.none() | CELLS | st.lists(CELLS, max_size=3), min_size=1, max_size=5))
def test_json_lines_keep_text_and_lists_of_one_column(tmp_path: Path, cells: list[Any]) -> None:
    column = read_json(tmp_path, *({"n": n, "text": cell} for n, cell in enumerate(cells)))["text"]
    assert as_text(column) == as_text_slowly(cells)


def as_text_slowly(cells: list[Any]) -> list[str]:
    entries = [[] if cell is None else cell if isinstance(cell, list) else [cell] for cell in cells]
    return [", ".join(filter(None, as_text(pl.Series(e, dtype=pl.String)))) for e in entries]


def test_json_columns_of_several_kinds_keep_every_cell(tmp_path: Path) -> None:
    kinds = [1, 2.5, "x", True, None, {"k": [1, "v"], "none": None}]
    column = read_json(tmp_path, *({"a": kind} for kind in kinds))["a"]
    assert as_text(column) == ["1", "2.5", "x", "True", "", "k: 1, v"]
    column = read_json(tmp_path, {"a": [1, 2]}, {"a": "x"}, {"b": 1}, {"a": ["y", None]})["a"]
    assert column.to_list() == [["1", "2"], ["x"], None, ["y", None]]
    assert read_json(tmp_path, {"a": 1}, {"a": 2.5}, {"a": float("nan")})["a"].to_list() == [
        1.0,
        2.5,
        None,
    ]


def test_json_times_keep_their_order(tmp_path: Path) -> None:
    big = 1_700_000_000_000_000_001
    path = tmp_path / "t.jsonl"
    column = read(path, f'{{"t": {big}}}\n{{"t": {big + 2}.0}}\n{{"t": {big + 1}}}\n')["t"]
    assert as_times(column).to_list() == [big, big + 2, big + 1]
    column = read(path, f'{{"t": {2**53 + 1}}}\n{{"t": 1.5}}\n')["t"]
    with pytest.raises(ValueError, match="lose their order"):
        as_times(column)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": 2\n', "line 2: "),
        ('{"a": 1}\n[1]\n', r"line 2: expected an object {...}, got '\[1\]'"),
        ('{"a": "x\\ud83dy"}\n', r"column 'a' holds half a character \('\\ud83d'\)"),
        ('{"a": ' + "[" * 100_000 + "\n", "cannot be read as jsonl"),
        ('[\n{"a": 1}]\n', r"line 1: .* got '\[' .*; write one on each line"),
        ("\n\n", "is empty"),
    ],
)
def test_a_line_that_is_no_json_object_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "t.jsonl", text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@ONE_FOLDER
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_read_or_refused_in_one_line(
    tmp_path: Path, suffix: str, position: float, byte: int, cut: bool
) -> None:
    table = pl.DataFrame({"id": ["a", "b", "c"], "text": ['x "y"', "é, z", None]})
    path = tmp_path / f"t.{suffix}"
    writers = {"parquet": table.write_parquet, "csv": table.write_csv}
    writers.get(suffix, table.write_ndjson)(path)
    data = bytearray(path.read_bytes())
    place = int(position * len(data))
    data[place] = byte
    path.write_bytes(data[:place] if cut else data)
    try:
        refused = ""
        assert read_table(path).height
    except ValueError as error:
        refused = str(error)
    assert "\n" not in refused


def test_parquet_columns_of_every_kind_are_read_as_they_were_written(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "big": pl.Series([2**64 - 1, 1], dtype=pl.UInt64),
            "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
            "list": [["x"], []],
            "time": pl.Series([1, 2]).cast(pl.Datetime("ns", "UTC")),
            "number": pl.Series(["1.5", "2"]).cast(pl.Decimal(10, 2)),
            "record": [{"a": 1}, {"a": None}],
        }
    )
    table.write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").equals(table)


def test_a_number_beyond_all_exponents_is_read(tmp_path: Path) -> None:
    table = read(tmp_path / "t.jsonl", '{"a": 1e9999999999}\n{"a": 0.5}\n')
    assert table["a"].to_list() == [float("inf"), 0.5]
