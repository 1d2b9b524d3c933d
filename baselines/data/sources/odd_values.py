"""Values that can hardly be meant, or are written as only some countries do."""

from __future__ import annotations

import polars as pl

from baselines.data.dates import YEAR_1990, units_per_second
from baselines.data.sources.contract import Note, NoteKind

_YEAR_2100 = 4_102_444_800
"""In seconds since 1970."""
_EXAMPLES = 5
_COMMA = r"^\s*[+-]?[0-9]+,[0-9]+\s*$"


def odd_times(times: pl.Series) -> list[Note]:
    """Notes of times before 1970, and of those far from 1990 to 2100 where most are within.

    Args:
        times: As `semid.columns.as_times` gives them: numbers of any unit.
    """
    notes = []
    if (early := times < 0).any():
        notes.append(_note("times before 1970", times, early))
    median = times.median()
    if not isinstance(median, (int, float)):
        return notes
    first, last = (year * units_per_second(median) for year in (YEAR_1990, _YEAR_2100))
    far = (times >= 0) & ((times < first) | (times >= last))
    if first <= median < last and far.any():
        notes.append(_note("times that are not from 1990 to 2100, where most are", times, far))
    return notes


def with_points(column: pl.Series, notes: list[Note]) -> pl.Series:
    """Text with decimal points, if it has decimal commas and no points."""
    if column.dtype != pl.String:
        return column
    with_comma = column.str.contains(_COMMA).fill_null(False)
    if not with_comma.any() or column.str.contains(".", literal=True).any():
        return column
    says = f"decimal commas in {column.name} read as points"
    notes.append(_note(says, column, with_comma, kind="repaired"))
    return column.str.replace(",", ".", literal=True)


def _note(says: str, column: pl.Series, rows: pl.Series, *, kind: NoteKind = "kept") -> Note:
    numbered = column.to_frame().with_row_index("row").filter(rows.fill_null(False))
    examples = numbered.head(_EXAMPLES).to_dicts()
    return Note(kind=kind, says=says, count=numbered.height, examples=examples)
