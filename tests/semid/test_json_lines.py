"""Columns of JSON lines have the same type and cells whatever the size of the blocks."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from semid.json_lines import json_object, table_of_objects

CELLS = st.sampled_from(
    [
        *("1", "-3", "1.5", "5.0", "1e3", "9007199254740993", "9007199254740993.0"),
        *("9223372036854775808", "12345678901234567890.0", "1e400", "NaN", "true", "null"),
        *('"x"', '" y "', '"5"', "[]", "[1]", "[1,2.5]", '["a",null]', "[[1],2]", '{"k":[1,"v"]}'),
    ]
)
ONE_PATCH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_PATCH
@given(st.data(), st.integers(1, 4))
def test_blocks_of_any_size_give_the_same_table(
    monkeypatch: pytest.MonkeyPatch, data: st.DataObject, size: int
) -> None:
    cells = st.sampled_from(data.draw(st.lists(CELLS, min_size=1, max_size=4)))
    rows = data.draw(st.lists(st.dictionaries(st.sampled_from("abc"), cells), min_size=1))
    lines = ["{" + ",".join(f'"{n}": {cell}' for n, cell in row.items()) + "}\n" for row in rows]
    if not any(rows):
        return
    monkeypatch.setattr("semid.json_lines.BLOCK_LINES", len(lines))
    whole = table_of_objects(lines)
    monkeypatch.setattr("semid.json_lines.BLOCK_LINES", size)
    assert_frame_equal(table_of_objects(lines), whole, check_exact=True)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, 2.5], [1.0, 2.5]),
        ([1, "x"], ["1", "x"]),
        ([1.5, "x"], ["1.5", "x"]),
        ([True, None, "x"], ["True", None, "x"]),
        ([1, [2]], [[1], [2]]),
        ([None, ["a"], 1], [None, ["a"], ["1"]]),
        ([5.0, 2**53 + 1], [5, 2**53 + 1]),
        ([1, 2**70], ["1", str(2**70)]),
    ],
)
def test_a_later_block_may_change_the_type_of_a_column(
    monkeypatch: pytest.MonkeyPatch, cells: list[Any], expected: list[Any]
) -> None:
    monkeypatch.setattr("semid.json_lines.BLOCK_LINES", 1)
    found = table_of_objects([json.dumps({"a": cell}) for cell in cells])["a"]
    assert found.to_list() == expected
    assert found.dtype == pl.Series(expected).dtype


def test_columns_that_are_not_wanted_have_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semid.json_lines.BLOCK_LINES", 2)
    lines = ['{"a": 1, "b": "x"}', '{"a": 2}', '{"c": 3, "a": 3}']

    def shorten(name: str) -> Any:
        return (lambda column: column) if name == "a" else None

    found = table_of_objects(lines, json_object, shorten)
    assert found.to_dict(as_series=False) == {"a": [1, 2, 3], "b": [None] * 3, "c": [None] * 3}
