from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.columns import (
    MISSING_WORDS,
    as_ids,
    as_text,
    as_times,
    loose,
    note_near_equal,
    numbers_where_written,
    text_repairs,
)
from semid.lists import as_id_lists

LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])  # numpy cuts at \0
IDS = st.text(LETTERS, min_size=1, max_size=6).filter(
    lambda text: text.strip() not in ("", *MISSING_WORDS)
)
HISTORIES = st.lists(st.lists(IDS, min_size=1, max_size=4), min_size=1, max_size=4)


def column(*cells: Any, **kind: Any) -> pl.Series:
    return pl.Series("c", list(cells), **kind)


def attempt(read: Callable[[], pl.Series]) -> tuple[list[Any] | None, str]:
    """What is read, or one line that says why not."""
    try:
        return read().to_list(), ""
    except ValueError as error:
        return None, str(error)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(ValueError, match="column 'c'") as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("blank", ["", " ", "\t ", *MISSING_WORDS, f" {MISSING_WORDS[0]} "])
def test_blank_text_and_words_for_missing_are_missing_ids(blank: str) -> None:
    assert as_ids(column("a", blank, "b")).to_list() == ["a", None, "b"]
    assert numbers_where_written(column("1", blank, "2")).to_list() == [1, None, 2]


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=6))
def test_whole_numbers_are_exact_whatever_their_size(numbers: list[int]) -> None:
    fits = all(-(2**63) <= number < 2**63 for number in numbers)
    written = as_ids(numbers_where_written(column(*map(str, numbers))))
    held = as_ids(column(*numbers, dtype=pl.Int128))
    assert written.to_list() == held.to_list() == (numbers if fits else list(map(str, numbers)))


@pytest.mark.parametrize("text", ["007", "+7", "7.0", "1_000", "-0", "٣"])
def test_ids_stay_as_they_are_written(text: str) -> None:
    assert as_ids(numbers_where_written(column("1", text))).to_list() == ["1", text]


def test_whole_floats_are_the_numbers_that_gaps_have_made_of_them() -> None:
    assert as_ids(column(1.0, None, float("nan"), 3.0)).to_list() == [1, None, None, 3]
    for float_id in (1.5, 1e17, float("inf")):
        with pytest.raises(ValueError, match=r"numbers or text, got (1\.5|1e\+17|inf) in row 1 "):
            as_ids(column(1.0, float_id))


def test_near_equal_ids_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    ids = column("A1", "a1", "a1 ", "b", "e\u0301", "\u00e9", "07", "7", "7.0", "70", "x", None)
    assert note_near_equal(ids, "item") == {"near_equal_item_ids": 8}
    assert "8 item ids differ" in caplog.text
    assert "such as '07' and '7'" in caplog.text
    assert note_near_equal(column("a", "a", "b"), "user") == {}
    assert note_near_equal(column(7, 70), "user") == {}
    assert loose(column("007", "0", "\uff21 ")).to_list() == ["7", "0", "a"]


def test_text_is_composed_and_its_entities_are_read() -> None:
    texts = column(
        "Cre\u0300me &amp; caf&eacute;", " AT&T &lt;3&#33; ", None, "&amp;amp; &x; &copy"
    )
    assert as_text(texts) == ["Crème & café", "AT&T <3!", "", "&amp; &x; &copy"]
    assert text_repairs(texts) == {"texts_with_html_entities": 3, "texts_not_composed": 1}
    lists = column(["e\u0301", " ", "&gt;"], [], None)
    assert as_text(lists) == ["é, >", "", ""]
    assert text_repairs(lists) == {"texts_with_html_entities": 1, "texts_not_composed": 1}


@given(st.text(max_size=8))
def test_one_text_is_one_in_every_unicode_form(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]  # type: ignore[arg-type]
    assert len(set(as_text(column(*forms)))) == 1


WRITERS: dict[str, Callable[[list[str]], str]] = {
    "Python": str,
    "tuple": lambda ids: str(tuple(ids)),
    "JSON": json.dumps,
    "JSON as it is": lambda ids: json.dumps(ids, ensure_ascii=False),
    "numpy": lambda ids: str(np.array(ids, dtype=object)),
    "numpy's repr": lambda ids: repr(np.array(ids, dtype=object)),
    "numpy's text": lambda ids: str([np.str_(item) for item in ids]),
    "bars": "|".join,
    "commas": ",".join,
    "commas and blanks": ", ".join,
    "blanks": " ".join,
    "brackets without quotes": lambda ids: f"[{', '.join(ids)}]",
}

QUOTING = ("Python", "tuple", "JSON", "JSON as it is", "numpy's text")


@pytest.mark.parametrize("writer", WRITERS)
@given(histories=HISTORIES, others=st.lists(IDS, max_size=2))
def test_written_lists_read_back_the_same_or_are_refused(
    writer: str, histories: list[list[str]], others: list[str]
) -> None:
    known = column(*sorted({item for ids in histories for item in ids} | set(others)))
    cells = column(*map(WRITERS[writer], histories))
    read, why_not = attempt(lambda: as_id_lists(cells, known))
    assert read == histories or "column 'c'" in why_not
    assert "\n" not in why_not
    assert read is not None or writer not in QUOTING


@pytest.mark.parametrize("writer", WRITERS)
def test_lists_of_plain_ids_read_back_the_same_in_every_form(writer: str) -> None:
    histories = [["1", "22"], ["3"]], [["ab", "c-d"], ["e"], ["O.K", "Ünï"]]
    for ids in histories:
        known = column(*(item for history in ids for item in history))
        assert as_id_lists(column(*map(WRITERS[writer], ids)), known).to_list() == ids


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("[1 2\n  3]", ["1", "2", "3"]),
        ("array(['a', 'b'], dtype='<U1')", ["a", "b"]),
        ("[np.int64(1), np.int64(-2)]", ["1", "-2"]),
        ("[]", []),
        ("()", []),
        ("[\"a\\u00e9\\\"\", 'it\\'s']", ['aé"', "it's"]),
        ("1|2|", ["1", "2"]),
        ("", None),
        (" ", None),
        ("nan", None),
    ],
)
def test_a_list_means_what_its_writer_meant(cell: str, expected: list[str] | None) -> None:
    assert as_id_lists(column(cell), column("a", "b")).to_list() == [expected]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["[1, 2]", "3 4"], "got '3 4' in row 1"),
        (["[1 2 ... 8 9]"], "must be whole, not printed in part"),
        (["['a''b']"], "must be those of Python, JSON or numpy"),
        (["[[1], [2]]"], "must be those of Python, JSON or numpy"),
        (["1", "{1, 2}"], "got '{1, 2}' in row 1"),
        (["'a', 'b'"], "got \"'a', 'b'\" in row 0"),
        (["[1, 2"], "write each list as JSON"),
    ],
)
def test_a_list_written_otherwise_is_named(cells: list[str], message: str) -> None:
    assert message in refusal(lambda: as_id_lists(column(*cells), column("a", "b")))


def test_lists_that_ids_make_ambiguous_are_refused() -> None:
    known = column("Red Shoe", "Red", "Shoe")
    assert "such as 'Red Shoe'" in refusal(lambda: as_id_lists(column("Red Shoe"), known))
    assert as_id_lists(column("Red Shoe|Red", "Shoe"), known).to_list() == [
        ["Red Shoe", "Red"],
        ["Shoe"],
    ]
    assert "divides its entries by '|'" in refusal(
        lambda: as_id_lists(column("a|b"), column("a|b", "a"))
    )


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans()), min_size=1, max_size=6),
)
def test_whole_times_are_exact_however_they_are_written(times: list[tuple[int, bool]]) -> None:
    cells = [f"{time}.0" if as_float else str(time) for time, as_float in times]
    read, why_not = attempt(lambda: as_times(column(*cells)))
    assert read == [time for time, _ in times] or "mixes units" in why_not


MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.lists(st.tuples(MOMENTS, ZONES), min_size=1, max_size=5))
def test_dates_of_any_zone_and_fraction_are_the_moments_they_name(
    moments: list[tuple[datetime, timezone]],
) -> None:
    aware = [moment.replace(tzinfo=zone) for moment, zone in moments]
    start = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [(moment - start) // timedelta(microseconds=1) for moment in aware]
    assert as_times(column(*(moment.isoformat() for moment in aware))).to_list() == expected
    naive = as_times(column(*(moment.isoformat(sep=" ") for moment, _ in moments)))
    assert naive.to_list() == as_times(column(*(moment for moment, _ in moments))).to_list()


@given(st.lists(st.dates(), min_size=1, max_size=4), st.sampled_from(["%d/%m/%Y", "%m-%d-%Y"]))
def test_dates_without_the_year_in_front_are_read_right_or_refused(
    days: list[Any], order: str
) -> None:
    days = [day.replace(year=max(day.year, 1000)) for day in days]
    cells, expected = column(*(day.strftime(order) for day in days)), as_times(column(*days))
    assert as_times(cells, order).to_list() == expected.to_list()
    read, why_not = attempt(lambda: as_times(cells))
    assert read == expected.to_list() or "%d/%m/%Y or %m/%d/%Y" in why_not
    assert read is not None or all(day.day <= 12 for day in days)


def test_nanoseconds_keep_their_order() -> None:
    times = [1_700_000_000_000_000_400, 1_700_000_000_000_000_300]
    assert as_times(column(*times).cast(pl.Datetime("ns"))).to_list() == times
    written = column("2023-11-14 22:13:20.000000400", "2023-11-14T22:13:20.0000003")
    assert as_times(written).to_list() == times


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["noon", "2014-07-23", "2014-07-24"], "got 'noon' in row 0"),
        (["2014-07-23", "", "2014-02-31"], "got '2014-02-31' in row 2"),
        (["2014-07-23", "1406073600", "2014-07-24"], "got '1406073600' in row 1"),
        (["1406073600", "2014-07-23", "1"], "all be numbers, .* got '2014-07-23' in row 1"),
        (["1", "2", "3 pm"], "got '3 pm' in row 2"),
        (["02/01/2014", "01/02/2014"], "say which by time_format"),
        (["13/01/2014", "01/14/2014"], "got '01/14/2014' in row 1"),
        (["2014-07-23T10:00Z", "2014-07-23 10:00"], "got '2014-07-23 10:00' in row 1"),
        (["1400000000", "1400000000000"], "1400000000000 in row 1 like milliseconds"),
        (["0", "1400000000.5", "1400000001000"], "1400000000.5 in row 1 looks like seconds"),
        (["1", str(2**63)], f"must be below 2**63 .* got '{2**63}' in row 1"),
        (["1.5", str(2**53 + 1)], f"lose their order, got '{2**53 + 1}' in row 1"),
    ],
)
def test_a_time_that_cannot_be_meant_is_named_with_its_row(cells: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("**", r"\*\*")):
        as_times(column(*cells))


def test_times_in_columns_with_types_are_checked_like_text() -> None:
    assert "seconds" in refusal(lambda: as_times(column(1_400_000_000, 1_400_000_000_000)))
    assert "2**63" in refusal(lambda: as_times(column(2**63, 1, dtype=pl.UInt64)))
    assert "finite" in refusal(lambda: as_times(column(1.0, float("inf"))))
    assert "got Boolean" in refusal(lambda: as_times(column(True)))


def test_numbers_without_a_known_start_are_of_one_unit() -> None:
    times = np.linspace(0, 2e12, 50).astype(np.int64).tolist()
    assert as_times(column(*times)).to_list() == times


def test_a_format_says_how_dates_are_written() -> None:
    first = as_times(column("23 Jul 2014", None), "%d %b %Y").to_list()
    assert (
        first
        == [1_406_073_600_000_000, None]
        == as_times(column(20140723, None), "%Y%m%d").to_list()
    )
    parts = as_times(column("23.07.14 05:06:07.5"), "%d.%m.%y %H:%M:%S.%f")
    assert parts.to_list() == [1_406_091_967_500_000_000]
    assert "'noon' in row 1" in refusal(lambda: as_times(column("2014", "noon"), "%Y"))
    assert "leave it out" in refusal(lambda: as_times(column(1.5), "%Y"))


def test_half_a_character_in_a_printed_list_is_refused() -> None:
    lists = pl.Series("history", ["['a', 'b']", r"['\ud800a']"])
    with pytest.raises(ValueError, match="half a character"):
        as_id_lists(lists, pl.Series([], dtype=pl.String))


def test_a_broken_escape_in_a_printed_list_is_refused() -> None:
    lists = pl.Series("categories", ["['a', 'b']", r"['\u00']"])
    with pytest.raises(ValueError, match=r"broken escape: .*truncated"):
        as_id_lists(lists, pl.Series([], dtype=pl.String))
