"""Text columns of a catalogue: joined lists, missing values, HTML."""

from __future__ import annotations

import polars as pl

TAG = r"(?s)<!--.*?-->|</?[A-Za-z][^<>]*>"
"""An HTML tag or comment."""


def plain_text(column: pl.Series) -> pl.Series | None:
    """A column of text, or of lists of text joined by ``", "``; None for any other."""
    if isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String:
        return column.list.join(", ", ignore_nulls=True)
    return column if column.dtype == pl.String else None


def has_value(column: pl.Series) -> pl.Series:
    """Whether a value is neither missing, nor blank, nor an empty list; bool."""
    text = plain_text(column)
    if text is not None:
        return text.str.strip_chars().str.len_chars().fill_null(0) > 0
    if isinstance(column.dtype, pl.List):
        return column.list.len().fill_null(0) > 0
    return column.is_not_null()
