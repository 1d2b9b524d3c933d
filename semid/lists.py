"""Lists of ids, which files write in many ways."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING

from semid.columns import refuse_first, without_missing

if TYPE_CHECKING:
    import polars as pl

_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*\'"""
_BARE = r"""[^\s,\[\](){}'"]+"""
_ENTRY = rf"(?:np\.\w+\((?:{_QUOTED}|{_BARE})\)|{_QUOTED}|{_BARE})"
_LIST = rf"(?s)^[\[(]\s*(?:{_ENTRY}(?:\s*,\s*{_ENTRY})*\s*,?\s*)?[\])]$"
_NUMPY_LIST = rf"(?s)^\[\s*{_ENTRY}(?:\s+{_ENTRY})*\s*\]$"
_ARRAY = r"(?s)^(?:np\.)?array\((.*?)(?:,\s*dtype=[^\]]*)?\)$"
_IN_QUOTES = r"""^(?:np\.\w+\()?['"]"""
_AS_JSON = '; write each list as JSON, such as [1, 2] or ["a", "b"]'
_INSIDE = r"(?s)^.(.*).$"  # contents of brackets or quotes
_IN_BRACKETS = r"(?s)^[\[(].*[\])]$"


def as_id_lists(column: pl.Series, known: pl.Series) -> pl.Series:
    """A column of lists of ids; text is parsed.

    Text may be a Python or JSON list (``['Red Shoe', "O'Neil"]``, ``(1, 2)``), a printed numpy
    array (``[1 2 3]``), or entries separated by ``|``, commas or blanks: by the first of these that
    occurs in any cell of the column.

    Args:
        column: Lists, or text.
        known: The ids that may occur, to check that none contains the separator of unquoted
            entries.

    Returns:
        Lists of Int64 or String, as in `as_ids`; missing and blank cells are missing.

    Raises:
        ValueError: If the column contains neither, or a cell (named with its row) has another form
            or is ambiguous.
    """
    import polars as pl

    if isinstance(column.dtype, (pl.List, pl.Array)):
        lists: pl.Series = column.cast(pl.List(column.dtype.inner))
        return lists
    if column.dtype != pl.String:
        raise ValueError(f"column {column.name!r} must hold lists of item ids, got {column.dtype}")
    text = without_missing(column).str.strip_chars().str.replace(_ARRAY, "$1")
    if text.str.contains(_IN_BRACKETS).any():
        return _printed_lists(text, known)
    return _divided_lists(text, known)


def _printed_lists(text: pl.Series, known: pl.Series) -> pl.Series:
    """Lists in brackets, as written by Python, JSON and numpy."""
    import polars as pl

    listed = text.str.contains(_LIST)
    wrong = ~(listed | text.str.contains(_NUMPY_LIST))
    refuse_first(wrong, text, "lists must be those of Python, JSON or numpy", then=_AS_JSON)
    entries = text.str.extract(_INSIDE).str.extract_all(_ENTRY)
    cut = entries.list.contains("...")
    refuse_first(cut, text, "lists must be whole, not printed in part", then=_AS_JSON)
    if not entries.explode().str.contains(_IN_QUOTES).all():
        for divider, divided in ((",", listed & text.str.contains(",")), (" ", ~listed)):
            if divided.any():
                _refuse_divider(divider, known, text.name)
        _refuse_ids(known, r"[\[\](){}'\"]|^\s|\s$", text.name, "writes entries without quotes")
    return entries.list.eval(pl.element().map_batches(_unquoted, return_dtype=pl.String))


def _unquoted(entries: pl.Series) -> pl.Series:
    """Entries of printed lists without quotes, escapes and numpy's type names."""
    import polars as pl

    entries = entries.str.replace(r"(?s)^np\.\w+\((.*)\)$", "$1")
    quoted = entries.str.contains("^['\"]")
    plain: pl.Series = entries.str.extract(_INSIDE).zip_with(quoted, entries)
    escaped = entries.filter(quoted & entries.str.contains("\\", literal=True)).unique()
    if len(escaped):
        meant = pl.Series([_string(entry) for entry in escaped], dtype=pl.String)
        plain = entries.replace_strict(escaped, meant, default=plain)
    return plain


def _string(literal: str) -> str:
    """The value of a JSON or else a Python string literal; raises if it is no text."""
    try:
        text: str = json.loads(literal)
    except ValueError:
        try:
            text = ast.literal_eval(literal)
        except SyntaxError as error:
            raise ValueError(f"an entry has a broken escape: {literal!a} ({error.msg})") from None
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"an entry holds half a character: {literal!a}; was it cut there?")
    return text


def _divided_lists(text: pl.Series, known: pl.Series) -> pl.Series:
    """Lists without brackets: entries separated by the same character in all cells."""
    import polars as pl

    strange = text.str.contains(r"""[\[\]{}]|(^|[\s,|])['"]""")
    refuse_first(strange, text, "lists must be [1, 2], 1|2, 1,2 or 1 2", then=_AS_JSON)
    divider = next((sign for sign in "|," if text.str.contains(sign, literal=True).any()), " ")
    _refuse_divider(divider, known, text.name)
    if divider == " ":
        return text.str.extract_all(r"\S+")
    entry = pl.element().str.strip_chars()
    return text.str.split(divider).list.eval(entry.filter(entry != ""))


def _refuse_divider(divider: str, known: pl.Series, name: str) -> None:
    """Raise if the separator of unquoted entries, or their padding, occurs in ids."""
    pattern = r"\s" if divider == " " else rf"{re.escape(divider)}|^\s|\s$"
    _refuse_ids(known, pattern, name, f"divides its entries by {divider!r}")


def _refuse_ids(known: pl.Series, pattern: str, name: str, reason: str) -> None:
    import polars as pl

    held = known.filter(known.str.contains(pattern)) if known.dtype == pl.String else known[:0]
    if len(held):
        raise ValueError(
            f"column {name!r} {reason}, so that ids such as {held[0]!r} can be read in two "
            f"ways{_AS_JSON}"
        )
