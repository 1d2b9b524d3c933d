from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.data.preparing.config import PreparationConfig
from baselines.data.preparing.items import Prepared, clean_titles, cut_titles, prepare

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Red &amp; <b>blue</b>", " ", None, "Green"],
        "tags": [["x"], [], ["y", "z"], None],
    }
)
EVENTS = pl.DataFrame(
    [(1, "a", 1), (1, "b", 2), (2, "b", 1), (2, "c", 3), (3, "b", 1), (3, "q", 2)],
    schema=["user_id", "item_id", "timestamp"],
    orient="row",
)


def prepared(**settings: Any) -> Prepared:
    return prepare(ITEMS, EVENTS, PreparationConfig(**settings))


def test_without_settings_everything_stays() -> None:
    found = prepared()
    assert found.items.equals(ITEMS)
    assert found.events.equals(EVENTS)
    assert (found.left_out, found.changed_titles) == ([], 0)


def test_items_without_text_go_with_their_events() -> None:
    found = prepared(text_fields=("title",))
    assert found.items["item_id"].to_list() == ["a", "d"]
    assert found.events.rows() == [(1, "a", 1), (3, "q", 2)]
    (step,) = found.left_out
    assert (step.step, step.events, step.users, step.items) == ("items without title", 4, 1, 2)
    assert step.examples["item_id"].to_list() == ["b", "c"]


def test_text_in_one_of_several_columns_is_enough() -> None:
    found = prepared(text_fields=("title", "tags"))
    assert found.items["item_id"].to_list() == ["a", "c", "d"]
    assert found.left_out[0].step == "items without title or tags"


@pytest.mark.parametrize(
    ("settings", "left", "gone"),
    [({"max_history": 1}, ["b", "c", "d"], 1), ({"item_core": 3}, ["b"], 3)],
)
def test_items_that_lost_their_events_go_and_a_core_has_no_others(
    settings: dict[str, Any], left: list[str], gone: int
) -> None:
    found = prepared(**settings)
    assert found.items["item_id"].to_list() == left
    step = found.left_out[-1]
    assert (step.step, step.events, step.items) == ("items without an event", 0, gone)
    assert step.examples.row(0) == ITEMS.row(0)


def test_cleaned_titles_are_counted_with_examples() -> None:
    found = prepared(clean_titles=True, max_title_chars=8)
    assert found.items["title"].to_list() == ["Red &", "", None, "Green"]
    assert found.changed_titles == 2
    assert found.title_examples.rows() == [
        ("a", "Red &amp; <b>blue</b>", "Red &"),
        ("b", " ", ""),
    ]


def test_a_clean_title_has_no_markup_left() -> None:
    before = [
        "a<br/>b",
        "1 < 2 > 0",
        "&lt;b&gt; &amp;amp;",
        "x\n\t y ",
        "<!-- <i> -->e\u0301",
        None,
    ]
    after = ["a b", "1 < 2 > 0", "<b> &amp;", "x y", "\u00e9", None]
    assert clean_titles(pl.Series([*before, None])).to_list() == [*after, None]


def slow_cut(text: str, most: int) -> str:
    if len(text) <= most or text[most].isspace():
        return text[:most].rstrip()
    head = text[:most]
    blanks = [at for at, letter in enumerate(head) if letter.isspace()]
    return head[: blanks[-1]].rstrip() or head.rstrip() if blanks else head


@given(st.lists(st.text("ab ", max_size=12), min_size=1), st.integers(1, 10))
def test_titles_are_cut_after_a_whole_word(texts: list[str], most: int) -> None:
    texts = [" ".join(text.split()) for text in texts]
    found = cut_titles(pl.Series(texts), most).to_list()
    assert found == [slow_cut(text, most) for text in texts]
    assert all(len(text) <= most for text in found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_fields": ("name",)}, "items need a column name, got item_id, title, tags"),
        ({"max_title_chars": 0}, "max_title_chars must be at least 1, got 0"),
        ({"since": "June"}, "since must be an ISO date such as 2017-06-01"),
        ({"since": "2018-01-01", "until": "2018-01-01"}, "until must be after since"),
    ],
)
def test_what_cannot_be_prepared_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(**settings)


def test_a_catalogue_without_any_text_is_refused() -> None:
    bare = ITEMS.with_columns(title=pl.lit(None, pl.String))
    with pytest.raises(ValueError, match="none of 4 items has text in title"):
        prepare(bare, EVENTS, PreparationConfig(text_fields=("title",)))
