"""Normalisation of columns from any reader to the forms that the rest of the code expects.

A reader (CSV, JSON lines, parquet) returns columns as in its file. Ids, times and texts are
normalised by the functions here, and only here; lists of ids by `semid.lists`. Rows in messages
are counted from 0, without a header.
"""

from __future__ import annotations

import html
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

logger = logging.getLogger(__name__)

WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
MISSING_WORDS = ("nan", "NaN", "None", "NULL", "null", "<NA>", "NaT", r"\N")

ENTITY = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
"""An HTML entity, or what looks like one."""

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE_TIME = r"^([+-]?[0-9]+)(?:\.0*)?$"
_DATE = (
    r"^(?:(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})"
    r"|(?P<first>[0-9]{1,2})[-/.](?P<second>[0-9]{1,2})[-/.](?P<last>[0-9]{4}))"
    r"(?:[T ]+(?P<clock>[0-9]{1,2}:[0-9]{2})"
    r"(?::(?P<seconds>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"\s*(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
_EXACT_FLOATS = 2**53
_SLICE = 2**20
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_PLAUSIBLE_SECONDS = (631_152_000, 4_102_444_800)  # 1990 to 2100


def as_ids(column: pl.Series, occurrences: pl.Series | None = None) -> pl.Series:
    """Ids as Int64 or String; missing ones stay missing.

    Blank text and common spellings of a missing value (``MISSING_WORDS``) count as missing; other
    text is kept verbatim. Whole numbers beyond int64 become text, and whole floats (as pandas makes
    of integers with gaps) become integers.

    Args:
        column: Ids.
        occurrences: How many cells each row stands for, where each id is given once.

    Raises:
        ValueError: If the column contains anything but whole numbers or text.
    """
    import polars as pl

    kind = column.dtype
    if isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        return without_missing(column.cast(pl.String), occurrences)
    if kind.is_float():
        column = column.fill_nan(None)
        exact = (column.floor() == column) & (column.abs() <= _EXACT_FLOATS)
        refuse_first(~exact, column, "ids must be whole numbers or text")
        whole: pl.Series = column.cast(pl.Int64)
        return whole
    if kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0):
        return _as_int64_or_text(column)
    raise ValueError(
        f"ids must be whole numbers or text, got {kind} in column {column.name!r}; name another "
        "column, or write them so"
    )


def numbers_where_written(column: pl.Series, occurrences: pl.Series | None = None) -> pl.Series:
    """A text column of an untyped file as Int64 if all its ids are plain whole numbers.

    Text such as ``007`` or ``+7``, or a number beyond int64, leaves the whole column text.
    Spellings of a missing id become missing in either case. ``occurrences`` is as for `as_ids`.
    """
    import polars as pl

    ids = as_ids(column, occurrences)
    if ids.dtype != pl.String or not ids.str.contains(WHOLE_NUMBER).all():
        return ids
    return _as_int64_or_text(ids)


def loose(ids: pl.Series) -> pl.Series:
    """Ids without Unicode form, case, outer whitespace, leading zeros and a final ``.0``.

    Two ids with equal results are *near-equal*: usually the same id written by two programs.
    """
    import polars as pl

    text = ids.cast(pl.String).str.normalize("NFKC").str.to_lowercase().str.strip_chars()
    left: pl.Series = text.str.replace(r"^0*([0-9]+?)(?:\.0+)?$", "$1")
    return left


def note_near_equal(ids: pl.Series, kind: str) -> dict[str, int]:
    """Count ids of a text column that are near-equal to another, and log an example.

    Args:
        ids: Ids; repeats count once.
        kind: ``"item"`` or ``"user"``.

    Returns:
        ``{"near_equal_item_ids": count}``, or an empty dict if there are none.
    """
    import polars as pl

    if ids.dtype != pl.String:
        return {}
    distinct = ids.drop_nulls().unique()
    distinct = distinct.filter(loose(distinct).hash().is_duplicated())  # few of many texts
    table = pl.DataFrame({"id": distinct, "loose": loose(distinct)})
    alike = table.filter(pl.len().over("loose") > 1).sort("loose", "id")["id"]
    if not len(alike):
        return {}
    logger.warning(
        "%d %s ids differ from another only in case, blanks, zeros or Unicode form, such as %r "
        "and %r; they are kept apart",
        len(alike),
        kind,
        *alike[:2],
    )
    return {f"near_equal_{kind}_ids": len(alike)}


def as_text(column: pl.Series) -> list[str]:
    """One text per row: NFC, HTML entities decoded, lists joined by ``", "``; "" if missing.

    Entities are decoded once: ``&amp;amp;`` gives ``&amp;``.
    """
    return [readable(spelled(value)) for value in column.to_list()]


def spelled(value: object) -> str:
    """A value as text; a list joined by ``", "``, a mapping as ``"key: value"`` joined likewise."""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(spelled, value)))
    if isinstance(value, Mapping):
        entries = ((name, spelled(entry)) for name, entry in value.items())
        return ", ".join(f"{name}: {entry}" for name, entry in entries if entry)
    return "" if value is None else str(value).strip()


def readable(text: str) -> str:
    """Text with HTML entities decoded, normalised to NFC."""
    if "&" in text:
        text = ENTITY.sub(lambda entity: html.unescape(entity[0]), text).strip()
    return unicodedata.normalize("NFC", text)


def composed(texts: Iterable[str]) -> list[str]:
    """Texts normalised to NFC, in which a letter and its accent are one character."""
    return [unicodedata.normalize("NFC", text) for text in texts]


def text_repairs(column: pl.Series) -> dict[str, int]:
    """Number of texts of a column that `as_text` normalises, and in which it decodes entities."""
    import polars as pl

    if isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String:
        column = column.explode()
    if column.dtype != pl.String:
        return {}
    column = column.drop_nulls()
    escaped = column.filter(column.str.contains(ENTITY.pattern)).to_list()
    return {
        "texts_with_html_entities": sum(
            any(html.unescape(entity) != entity for entity in ENTITY.findall(text))
            for text in escaped
        ),
        "texts_not_composed": int((column.str.normalize("NFC") != column).sum()),
    }


def as_times(column: pl.Series, time_format: str | None = None) -> pl.Series:
    """Times as Int64, or Float64 if they have fractions; missing ones stay missing.

    Numbers keep their unit. Dates become microseconds since 1970, or the unit of their column
    (nanoseconds if text has finer fractions than microseconds), so that no order is lost; a date
    without a time zone is taken as UTC. Blank text, NaN and ``MISSING_WORDS`` are missing.

    Args:
        column: Numbers, dates, or text that spells either: ``2014-07-23``, ``2014/7/23 10:05``,
            ``2014-07-23T10:05:00.25+02:00``, ``23/07/2014``. If the year comes last, some day above
            12 in the column must show whether the month or the day is first.
        time_format: Format of dates written as text (or as whole numbers such as 20140723), such as
            ``%d/%m/%Y %H:%M:%S``; None to infer it.

    Raises:
        ValueError: If a value is neither a number nor a date (named with its row), the order of day
            and month is ambiguous, the column mixes units such as seconds and milliseconds, or
            numbers would lose their order.
    """
    import polars as pl

    kind = column.dtype
    is_whole = kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0)
    is_text = isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Null))
    if is_text or (is_whole and time_format is not None):
        text = without_missing(column.cast(pl.String))
        return _spelled_times(text) if time_format is None else _formatted_dates(text, time_format)
    if time_format is not None:
        raise ValueError(
            f"time_format {time_format!r} reads dates written as text, got {kind} in column "
            f"{column.name!r}; leave it out"
        )
    times: pl.Series
    if isinstance(kind, pl.Datetime):
        times = column.dt.epoch(kind.time_unit)
    elif kind == pl.Date:
        times = column.dt.epoch("us")
    elif is_whole:
        whole = _as_int64_or_text(column)
        times = _spelled_numbers(whole) if whole.dtype == pl.String else _one_unit(whole)
    elif kind.is_float() or isinstance(kind, pl.Decimal):
        times = column.cast(pl.Float64).fill_nan(None)
        refuse_first(times.is_infinite(), times, "times must be finite")
        times = _one_unit(times)
    else:
        raise ValueError(
            f"times must be numbers or dates, got {kind} in column {column.name!r}; name another "
            "column, or write them so"
        )
    return times


def without_missing(text: pl.Series, occurrences: pl.Series | None = None) -> pl.Series:
    """Text with spellings of a missing value set to missing; an example is logged."""
    words = text.str.strip_chars().is_in(MISSING_WORDS)
    if words.any():
        logger.warning(
            "%d cells of column %r are words such as %r, and count as missing",
            words.sum() if occurrences is None else occurrences.filter(words).sum(),
            text.name,
            text.filter(words)[0],
        )
    gone = words | (text.str.strip_chars() == "")
    return text.set(gone, None) if gone.any() else text


def _as_int64_or_text(column: pl.Series) -> pl.Series:
    import polars as pl

    numbers: pl.Series = column.cast(pl.Int64, strict=False)
    fits = numbers.null_count() == column.null_count()
    spelled_out: pl.Series = numbers if fits else column.cast(pl.String)
    return spelled_out


def refuse_first(
    wrong: pl.Series,
    values: pl.Series,
    expected: str,
    *,
    then: str = "; correct it, or leave the cell empty",
) -> None:
    """Raise for the first wrong row, if any; missing ones are fine. ``then`` says what to do."""
    if wrong.any():
        row = int(wrong.fill_null(False).arg_max() or 0)
        raise ValueError(
            f"{expected}, got {values[row]!r} in row {row} (counted from 0) of column "
            f"{values.name!r}{then}"
        )


def _spelled_times(text: pl.Series) -> pl.Series:
    """Times from text: dates if most cells look like dates, else numbers."""
    numbers = text.str.contains(_NUMBER)
    dates = text.str.contains(r"[0-9][-/.][0-9]+[-/.][0-9]")
    mostly_dates = int(dates.sum()) > int(numbers.sum())
    if numbers.any() and dates.any():
        fewer = numbers if mostly_dates else dates
        refuse_first(fewer, text, "times must all be numbers, or all be dates")
    if mostly_dates:
        return _dates(text)
    refuse_first(~numbers, text, "times must be numbers or dates such as 2014-07-23")
    return _one_unit(_spelled_numbers(text))


def _spelled_numbers(text: pl.Series) -> pl.Series:
    """Numbers from text, as Int64 if all are whole (``4.0`` is), else as Float64."""
    import polars as pl

    whole = text.str.contains(_WHOLE_TIME)
    floats: pl.Series = text.cast(pl.Float64)
    if whole.all():
        numbers: pl.Series = text.str.extract(_WHOLE_TIME).cast(pl.Int64, strict=False)
        beyond = numbers.is_null() & text.is_not_null()
        refuse_first(beyond, text, "times must be below 2**63 (no unit of time goes that far)")
        return numbers
    unsafe = whole & (floats.abs() >= _EXACT_FLOATS)
    reason = "times beyond 2**53 must all be whole numbers, or they lose their order"
    refuse_first(unsafe, text, reason)
    refuse_first(floats.is_infinite(), text, "times must be finite")
    return floats


def _one_unit(times: pl.Series) -> pl.Series:
    """Return the times, or raise if they seem to mix present-day times in two units."""
    first, last = _PLAUSIBLE_SECONDS
    of_unit = {
        unit: (times >= first * size) & (times < last * size) for unit, size in _UNITS.items()
    }
    found = [unit for unit, rows in of_unit.items() if rows.any()]
    if len(found) < 2:
        return times
    between = (times >= last * _UNITS[found[0]]) & (times < first * _UNITS[found[-1]])
    for unit in found[1:-1]:
        between &= ~of_unit[unit]
    if between.any():  # a continuous range, such as times from another epoch
        return times
    rows = [int(of_unit[unit].fill_null(False).arg_max() or 0) for unit in found[:2]]
    raise ValueError(
        f"column {times.name!r} mixes units: {times[rows[0]]} in row {rows[0]} looks like "
        f"{found[0]} and {times[rows[1]]} in row {rows[1]} like {found[1]}; write all times in one"
    )


def _formatted_dates(text: pl.Series, time_format: str) -> pl.Series:
    import polars as pl

    pattern = time_format.replace(".%f", "%.f")  # Python's directive for a fraction
    unit: Literal["us", "ns"] = "ns" if re.search(r"%[.0-9]*f", pattern) else "us"
    try:
        dates = text.str.to_datetime(pattern, time_unit=unit, strict=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"time_format {time_format!r} cannot be used: {reason}") from None
    refuse_first(
        dates.is_null() & text.is_not_null(), text, f"times must be dates like {time_format!r}"
    )
    return dates.dt.epoch(unit)


def _dates(text: pl.Series) -> pl.Series:
    """Dates from text, as described in `as_times`."""
    import polars as pl

    expected = "times must be numbers or dates such as 2014-07-23 or 2014-07-23 10:05:00"
    then = "; for dates written otherwise, give time_format"
    refuse_first(~text.str.contains(_DATE), text, expected, then=then)
    slices = [text.slice(start, _SLICE) for start in range(0, len(text), _SLICE)]
    last = pl.concat([_parts(part).select("first", "second").cast(pl.Int8) for part in slices])
    is_day_first = _day_first(last["first"], last["second"], text)
    found = pl.concat([_seconds(_parts(part), is_day_first) for part in slices])
    if found["is_zoned"].any():
        refuse_first(
            ~found["is_zoned"] & text.is_not_null(),
            text,
            "times must all have a time zone, as some have",
        )
    seconds, nanoseconds = found["seconds"], found["nanoseconds"]
    refuse_first(seconds.is_null() & text.is_not_null(), text, expected, then=then)
    times: pl.Series = seconds * 10**6 + nanoseconds // 1000
    if (nanoseconds % 1000 != 0).any():
        far = seconds.abs() >= 2**63 // 10**9
        refuse_first(far, text, "times in nanoseconds must lie between 1678 and 2261")
        times = seconds * 10**9 + nanoseconds
    return times.alias(text.name)


def _parts(text: pl.Series) -> pl.DataFrame:
    return text.str.extract_groups(_DATE).struct.unnest()


def _seconds(parts: pl.DataFrame, is_day_first: bool) -> pl.DataFrame:
    """``seconds`` since 1970 and ``nanoseconds`` of dates, and whether they have a zone."""
    import polars as pl

    day, month = ("first", "second") if is_day_first else ("second", "first")
    spelled_alike = parts.select(
        pl.format(
            "{}-{}-{} {}:{}",
            pl.coalesce("year", "last"),
            pl.coalesce("month", month).str.zfill(2),
            pl.coalesce("day", day).str.zfill(2),
            pl.col("clock").fill_null("00:00").str.zfill(5),
            pl.col("seconds").fill_null("00"),
        )
    ).to_series()
    seconds = spelled_alike.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).dt.epoch("s")
    digits = parts["zone"].str.replace_all(r"[^0-9]", "").str.zfill(4)
    minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False) * 60
    minutes += digits.str.slice(2, 2).cast(pl.Int64, strict=False)
    east = parts["zone"].str.starts_with("-").cast(pl.Int64) * -2 + 1
    nanoseconds = parts["fraction"].fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
    return pl.DataFrame(
        {
            "seconds": seconds - (minutes * east * 60).fill_null(0),
            "nanoseconds": nanoseconds,
            "is_zoned": parts["zone"].is_not_null(),
        }
    )


def _day_first(first: pl.Series, second: pl.Series, text: pl.Series) -> bool:
    """Whether dates such as 04/13/2014 have the day first."""
    choose = "; say which by time_format, such as %d/%m/%Y or %m/%d/%Y"
    if (first > 12).any():
        refuse_first(second > 12, text, "dates must all have the day first, as some do")
        return True
    if not (second > 12).any():
        refuse_first(
            first != second,
            text,
            "dates must show which is the day and which the month",
            then=choose,
        )
    return False
