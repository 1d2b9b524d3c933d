"""Blocks of any size give the rows that Python's csv gives for the whole text."""

from __future__ import annotations

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.delimited import chunks, delimited_blocks, whole_lines

PIECES = ["a", "é", ",", '"', "\n", "\r\n", '""', ',"x"', '"a,b"', '"u","v"\n', "p,q\n", '"\n"']


def read(text: str, size: int, **options: bool) -> pl.DataFrame:
    blocks = whole_lines(chunks(io.BytesIO(text.encode()), size))
    return pl.concat(delimited_blocks(blocks, **options))


def rows_of_csv(text: str) -> list[tuple[str | None, ...]] | None:
    """Rows below the header; None if one is ragged or cannot be read."""
    try:
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error:
        return None
    if any(row and len(row) != len(names) for row in rows):
        return None
    return [tuple(cell or None for cell in row) or (None,) * len(names) for row in rows]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(1, 9))
def test_rows_are_those_of_csv_for_blocks_of_any_size(body: str, size: int) -> None:
    text = f"h,k\n{body}"
    expected = rows_of_csv(text)
    if expected is None:
        with pytest.raises(ValueError, match=r"^line [0-9]+: "):
            read(text, size)
    else:
        found = read(text, size)
        assert found.columns == ["h", "k"]
        assert found.rows() == expected


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("1,2,3\n", "line 1002: 3 cells, but the header has 2"),
        ('1,"2" 3\n', "line 1002: ',' expected after"),
        ('1,"2\n', "line 1503: unexpected end of data"),
    ],
)
@pytest.mark.parametrize("row", ["1,2\n", '1,"2"\n', '1,5" tv\n'])
def test_a_bad_row_of_a_later_block_is_named_by_its_line(row: str, bad: str, message: str) -> None:
    text = "h,k\n" + 1000 * row + bad + 501 * "3,4\n"
    with pytest.raises(ValueError, match=message):
        read(text, 64)


def test_letters_that_look_like_quotes_stay_where_quotes_are_letters() -> None:
    text = 'h,k\n"a,b"\n' + '5",6"\n' * 50
    assert read(text, 8, with_quotes=False).rows() == [('"a', 'b"'), *[('5"', '6"')] * 50]


def test_a_file_without_rows_has_its_columns() -> None:
    table = read("\n\nh,k\n", 2)
    assert (table.columns, table.height) == (["h", "k"], 0)
    with pytest.raises(pl.exceptions.NoDataError):
        read("\n\n", 2)
