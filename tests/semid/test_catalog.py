from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.catalog import Catalog
from semid.columns import MISSING_WORDS
from semid.provenance import hash_ids
from semid.tables import read_table


def catalog_of(**fields: list[object]) -> Catalog:
    table = pl.DataFrame(fields)
    return Catalog(item_ids=list(range(table.height)), fields=table)


def is_id(text: str) -> bool:
    return text.strip() not in ("", *MISSING_WORDS)


@pytest.fixture
def items() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [30, 10, 20],
            "title": ["Red lipstick", "", "Brush, soft"],
            "brand": ["Ada", "Bo", None],
        }
    )


def write(table: pl.DataFrame, path: Path) -> Path:
    writers = {".parquet": table.write_parquet, ".csv": table.write_csv}
    writers.get(path.suffix, table.write_ndjson)(path)
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_kind_of_file_gives_the_same_catalogue(
    items: pl.DataFrame, suffix: str, tmp_path: Path
) -> None:
    catalog = Catalog.read(write(items, tmp_path / f"items.{suffix}"))
    assert catalog.item_ids == [30, 10, 20]
    assert len(catalog) == 3
    assert catalog.fields.columns == ["title", "brand"]
    assert catalog.texts() == ["Red lipstick, Ada", "Bo", "Brush, soft"]
    assert catalog.order_hash == hash_ids([30, 10, 20])


def test_another_order_has_another_hash(items: pl.DataFrame, tmp_path: Path) -> None:
    one = Catalog.read(write(items, tmp_path / "a.csv"))
    other = Catalog.read(write(items.sort("item_id"), tmp_path / "b.csv"))
    assert one.order_hash != other.order_hash


def test_a_path_is_a_name_and_no_pattern(items: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "[ab]*").mkdir()
    for suffix in ("parquet", "csv", "jsonl"):
        path = write(items, tmp_path / "[ab]*" / f"items.{suffix}")
        assert Catalog.read(path).item_ids == [30, 10, 20]


def test_the_id_column_may_have_another_name(items: pl.DataFrame, tmp_path: Path) -> None:
    path = write(items.rename({"item_id": "asin"}), tmp_path / "items.parquet")
    assert Catalog.read(path, id_column="asin").item_ids == [30, 10, 20]


def test_ids_in_csv_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\n007,a\n7,b\n")
    assert Catalog.read(path).item_ids == ["007", "7"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("blank", ["", " ", "nan", "None", "NULL"])
def test_a_row_whose_id_stands_for_none_is_no_item_and_counted(
    blank: str, suffix: str, tmp_path: Path
) -> None:
    table = pl.DataFrame({"item_id": ["a", blank, "b"], "title": ["x", "y", "z"]})
    catalog = Catalog.read(write(table, tmp_path / f"items.{suffix}"))
    assert (catalog.item_ids, catalog.texts()) == (["a", "b"], ["x", "z"])
    assert catalog.noted == {"items_without_id": 1}
    with pytest.raises(ValueError, match=r"row 1 .* stands for a missing one"):
        Catalog(item_ids=["a", blank, "b"], fields=pl.DataFrame())


def test_ids_beyond_64_bits_are_the_text_that_spells_them(tmp_path: Path) -> None:
    ids = [2**63 + n for n in range(3)]
    table = pl.DataFrame({"item_id": pl.Series(ids, dtype=pl.UInt64)})
    catalog = Catalog.read(write(table, tmp_path / "items.parquet"))
    assert catalog.item_ids == list(map(str, ids))
    assert catalog.rows(ids[::-1]).tolist() == [2, 1, 0]
    numbers = Catalog(item_ids=ids, fields=pl.DataFrame())
    assert numbers.rows([str(ids[1])]).tolist() == [1]
    small = Catalog(item_ids=[2**63 - 1, 5], fields=pl.DataFrame())
    assert small.find(pl.Series([str(2**63), str(2**63 - 1)])).tolist() == [-1, 0]


def test_what_is_strange_in_a_catalogue_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\nA1,Cre\u0300me\na1,tea &amp; milk\nb,tea\n", encoding="utf-8")
    catalog = Catalog.read(path)
    assert catalog.item_ids == ["A1", "a1", "b"]
    assert catalog.texts() == ["Crème", "tea & milk", "tea"]
    assert catalog.noted == {
        "near_equal_item_ids": 2,
        "texts_with_html_entities": 1,
        "texts_not_composed": 1,
    }
    assert "such as 'A1' and 'a1'" in caplog.text
    assert Catalog(item_ids=[1, 2], fields=pl.DataFrame()).noted == {}


def test_unknown_ids_that_are_nearly_known_are_counted_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog = Catalog(item_ids=["B01", "x"], fields=pl.DataFrame())
    assert catalog.near_misses(pl.Series(["b01", "X ", "y", None])) == 2
    assert "such as 'b01' from 'B01'" in caplog.text
    assert catalog.near_misses(pl.Series([1, 2])) == 0


def test_titles_in_csv_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\n1,300\n2,1.50\n")
    assert Catalog.read(path).texts() == ["300", "1.50"]


def test_a_catalogue_may_have_ids_only(tmp_path: Path) -> None:
    catalog = Catalog.read(write(pl.DataFrame({"item_id": ["b", "a"]}), tmp_path / "i.parquet"))
    assert catalog.rows(["a", "b"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"no text: expected a column among title.*got none"):
        catalog.texts()


@given(
    st.lists(st.integers(-(10**15), 10**15), unique=True, min_size=1, max_size=30)
    | st.lists(st.text(max_size=5).filter(is_id), unique=True, min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_rows_undo_item_ids(ids: list[int] | list[str], random: object) -> None:
    catalog = Catalog(item_ids=ids, fields=pl.DataFrame())
    chosen = [random.choice(ids) for _ in range(10)]  # type: ignore[attr-defined]
    rows = catalog.rows(chosen)
    assert rows.dtype == np.int64
    assert [catalog.item_ids[row] for row in rows] == chosen


def test_rows_translate_between_numbers_and_their_spelling() -> None:
    numbers = Catalog(item_ids=[5, 7], fields=pl.DataFrame())
    words = Catalog(item_ids=["5", "x"], fields=pl.DataFrame())
    assert numbers.rows(["7", "5"]).tolist() == [1, 0]
    assert words.rows([5]).tolist() == [0]
    assert numbers.rows([]).tolist() == []


def test_rows_name_unknown_ids() -> None:
    catalog = Catalog(item_ids=[5, 7], fields=pl.DataFrame())
    with pytest.raises(ValueError, match=r"2 items, got 4 unknown: 1, 2, 3, …"):
        catalog.rows([1, 2, 5, 3, 4])
    with pytest.raises(ValueError, match="whole numbers, got '07'"):
        catalog.rows(["7", "07"])
    with pytest.raises(ValueError, match="mixture"):
        catalog.rows([5, "7"])  # type: ignore[list-item]


def test_find_marks_what_is_missing_or_unknown() -> None:
    catalog = Catalog(item_ids=["a", "b"], fields=pl.DataFrame())
    assert catalog.find(pl.Series(["b", None, "z", "a"])).tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{title}", ["Red", "", "Brush", ""]),
        ("{title}, by {brand}", ["Red, by Ada", "by Bo", "Brush", ""]),
        ("Title: {title}. By: {brand}.", ["Title: Red. By: Ada.", "By: Bo.", "Title: Brush", ""]),
        ("{title} ({brand})", ["Red (Ada)", "(Bo)", "Brush", ""]),
        ("{tags}", ["x, y", "", "z", ""]),
        ("{price} {{EUR}}", ["3 {EUR}", "4 {EUR}", "0 {EUR}", ""]),
    ],
)  # fmt: skip
def test_empty_fields_leave_no_trace(template: str, expected: list[str]) -> None:
    catalog = catalog_of(
        title=["Red", "", "Brush", None],
        brand=["Ada", "Bo", " ", None],
        tags=[["x", "", "y"], [], ["z", None], None],
        price=[3, 4, 0, None],
    )
    assert catalog.texts(template) == expected


def test_the_default_template_is_the_text_there_is() -> None:
    catalog = catalog_of(description=["d"], asin=["B00"], title=["t"], attributes=[[1, 2]])
    assert catalog.default_template() == "{title}, {description}"
    assert catalog.texts() == catalog.texts("{title}, {description}") == ["t, d"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{name}", r"must name columns in braces, got name; there are title"),
        ("a title", r"must name columns in braces, got none; there are title"),
        ("{}", r"must name columns"),
        ("{title", r"cannot be read"),
        ("{title!r}", r"takes no format"),
    ],
)
def test_a_bad_template_says_what_there_is(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        catalog_of(title=["t"]).texts(template)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "at least one item"),
        ([1, 2, 1], r"unique, got 1 more than once \(1 rows too many\)"),
        ([1, "2"], "got int and str"),
        ([1.0, 2.0], "got float"),
    ],
)
def test_bad_ids_are_refused(ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalog(item_ids=ids, fields=pl.DataFrame())


def test_fields_must_match_the_ids() -> None:
    with pytest.raises(ValueError, match="each of 3 items, got 2"):
        Catalog(item_ids=[1, 2, 3], fields=pl.DataFrame({"title": ["a", "b"]}))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("i.csv", "id,title\n1,a\n", "no column item_id; its columns are id, title"),
        ("i.csv", "", "i.csv is empty"),
        ("i.csv", "item_id,title\n", "i.csv is empty: it has columns but no rows"),
        ("i.csv", "item_id,title\n,a\n,b\n", "i.csv: expected an id of an item in each row"),
        ("i.csv", "item_id\n1\n1\n", "must be unique, got 1"),
        ("i.jsonl", '{"item_id": 1.5}\n', "whole numbers or text, got 1.5 in row 0"),
        ("i.jsonl", '{"item_id": 1\n', "cannot be read as jsonl"),
        ("i.parquet", "no parquet", "cannot be read as parquet"),
        ("i.txt", "item_id\n1\n", "expected a file ending in .parquet, .csv, .jsonl"),
    ],
)
def test_a_bad_file_gives_one_clear_line(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Catalog.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*items\.csv"):
        read_table(tmp_path / "items.csv")


def test_importing_the_catalogue_does_not_import_polars() -> None:
    code = "import sys, semid.catalog; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_catalogues_have_text(shared_data: Path) -> None:
    catalog = Catalog.read(shared_data / "beauty" / "items.parquet")
    assert len(catalog) == 12_101
    assert catalog.default_template() == "{title}, {brand}, {categories}, {keyphrase}"
    texts = catalog.texts()
    assert all(texts)
    assert texts[0].startswith("OPI Nail Lacquer")
