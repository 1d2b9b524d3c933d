"""Reading JSON objects, one a line, into columns of the narrowest type that keeps every cell.

Lines are read in blocks. The type of a column depends on all of its cells, so each block is kept in
a form from which its cells can still be told: whole numbers, truth values, or text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from semid.columns import spelled

if TYPE_CHECKING:
    import polars as pl

BLOCK_LINES = 100_000
_EXACT_FLOATS = 2**53


def json_object(line: str) -> Any:
    """Parse JSON; numbers with a fraction become ``Decimal``, NaN becomes None.

    Raises:
        ValueError: If it is no JSON, or an object repeats a name.
    """
    return _DECODER.decode(line)


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _by_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"it names {counts.most_common(1)[0][0]!r} more than once")
    return values


_DECODER = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_constant, object_pairs_hook=_by_name
)


def as_it_is(column: pl.Series) -> pl.Series:
    """The same column."""
    return column


class WrittenIds:
    """Parses lines, and keeps the first number and the first text of each column of ids.

    A column of both becomes text, so that ``1`` and ``"1"`` are one id: that is to be said.

    Args:
        is_id: Whether a column of this name holds ids.
        parse: As for `table_of_objects`.
    """

    def __init__(
        self, is_id: Callable[[str], bool], parse: Callable[[str], Any] = json_object
    ) -> None:
        self._is_id = cache(is_id)
        self._parse = parse
        self._first: dict[tuple[str, type], dict[str, Any]] = {}

    def __call__(self, line: str) -> Any:
        """Parse a line; raises as ``parse``."""
        row = self._parse(line)
        if isinstance(row, dict):
            for name, value in row.items():
                if self._is_id(name) and (name, type(value)) not in self._first:
                    self._first[name, type(value)] = {name: value}
        return row

    def mixed(self) -> dict[str, list[dict[str, Any]]]:
        """What to say of each column with numbers and text: its first cell of either kind."""
        return {
            f"{name} holds numbers and text, all taken as text: 1 and '1' are one id": [first, text]
            for (name, kind), first in self._first.items()
            if kind is int and (text := self._first.get((name, str))) is not None
        }


Shorten = Callable[[str], Callable[["pl.Series"], "pl.Series"] | None]
"""How the text of a column is kept, by its name; None if the column is not wanted."""


def table_of_objects(
    lines: Iterable[str],
    parse: Callable[[str], Any] = json_object,
    shorten: Shorten = lambda name: as_it_is,
) -> pl.DataFrame:
    """A table with a row for each line that is not blank.

    A column of mixed types becomes lists if any cell is a list, else text.

    Args:
        lines: The lines.
        parse: Turns a line into a dict, or raises ``ValueError`` or ``SyntaxError``.
        shorten: Turns text of a column into a type that holds it in less memory. A column that is
            not wanted has no values.

    Raises:
        ValueError: If a line cannot be parsed or is no object; its number is named.
        polars.exceptions.NoDataError: If there is no column.
    """
    import polars as pl

    columns: dict[str, list[_Cells]] = {}
    height = 0
    objects = _objects(lines, parse)
    while block := list(islice(objects, BLOCK_LINES)):
        for name in dict.fromkeys(name for row in block for name in row):
            if name not in columns:
                columns[name] = [_missing(height)]
            if (keep := shorten(name)) is not None:
                cells = _cells(name, [row.get(name) for row in block])
                columns[name].append(cells.shortened(keep))
        height += len(block)
        for parts in columns.values():
            parts.append(_missing(height - sum(map(len, parts))))
    if not columns:
        raise pl.exceptions.NoDataError
    keeps = {name: shorten(name) or as_it_is for name in columns}
    return pl.DataFrame(
        [_joined(parts, keeps[name]).alias(name) for name, parts in columns.items()]
    )


def _objects(lines: Iterable[str], parse: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse(line)
        except (ValueError, SyntaxError) as error:
            raise ValueError(_no_object(number, line, f" ({error})")) from None
        if not isinstance(row, dict):
            raise ValueError(_no_object(number, line))
        yield row


def _no_object(number: int, line: str, reason: str = "") -> str:
    return (
        f"line {number}: expected an object {{...}}, got {line.strip()!r:.80}{reason}; write one "
        "on each line"
    )


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Cells of a column in a block.

    Attributes:
        kinds: What occurs among them: see ``_kinds_of``.
        values: Null, Boolean, Int64, or text that spells each cell; for lists, their lengths.
        entries: Of all lists, one after the other; None if no cell is a list.
    """

    kinds: frozenset[str]
    values: pl.Series
    entries: _Cells | None = None

    def __len__(self) -> int:
        return len(self.values)

    def shortened(self, keep: Callable[[pl.Series], pl.Series]) -> _Cells:
        """The same with text in another type."""
        import polars as pl

        if self.entries is not None:
            return replace(self, entries=self.entries.shortened(keep))
        return replace(self, values=keep(self.values)) if self.values.dtype == pl.String else self

    def listed(self) -> _Cells:
        """The same with each cell as a list of one entry."""
        import polars as pl

        if self.entries is not None:
            return self
        lengths = self.values.is_not_null().cast(pl.Int64).replace(0, None)
        return _Cells(
            kinds=frozenset(),
            values=lengths,
            entries=replace(self, values=self.values.drop_nulls()),
        )


def _missing(height: int) -> _Cells:
    import polars as pl

    values = pl.repeat(None, height, dtype=pl.Null, eager=True)
    return _Cells(kinds=frozenset(), values=values)


def _cells(name: str, cells: list[Any]) -> _Cells:
    import polars as pl

    types = {type(cell) for cell in cells} - {type(None)}
    if list in types:
        lists = [cell if cell is None or isinstance(cell, list) else [cell] for cell in cells]
        entries = _cells(name, [entry for entries in lists if entries for entry in entries])
        lengths = [None if cell is None else len(cell) for cell in lists]
        return _Cells(kinds=frozenset(), values=pl.Series(lengths, dtype=pl.Int64), entries=entries)
    kinds = _kinds_of(types, cells)
    if not kinds or kinds == {"truth"}:
        values = pl.Series(cells, dtype=pl.Boolean if kinds else pl.Null)
    elif kinds <= {"whole", "large"} and _fit(cells):
        values = pl.Series(cells, dtype=pl.Int64)
    else:
        values = _spelled(name, cells)
    return _Cells(kinds=kinds, values=values)


_NUMBERS = frozenset({"whole", "point", "large", "part"})
"""Kinds of numbers: integers, others, whole ones that floats do not tell apart, no whole ones."""


def _kinds_of(types: set[type], cells: list[Any]) -> frozenset[str]:
    """``truth``, ``text`` and ``_NUMBERS``; those of numbers only if there is nothing else."""
    if not types <= {int, float, Decimal}:
        return frozenset("truth" if kind is bool else "text" for kind in types)
    numbers = [cell for cell in cells if cell is not None]
    kinds = {"whole" if kind is int else "point" for kind in types}
    if any(_is_large(number) and _is_whole(number) for number in numbers):
        kinds.add("large")
    if "point" in kinds and not all(map(_is_whole, numbers)):
        kinds.add("part")
    return frozenset(kinds)


def _fit(numbers: Iterable[int | None]) -> bool:
    return all(number is None or abs(number) < 2**63 for number in numbers)


def _spelled(name: str, cells: list[Any]) -> pl.Series:
    import polars as pl

    texts = [cell if cell is None or isinstance(cell, str) else spelled(cell) for cell in cells]
    try:
        return pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"column {name!r} holds half a character ({error.object[error.start]!a}) in "
            f"{error.object[:40]!a}; was the text cut there? Take it out"
        ) from None


def _joined(parts: list[_Cells], keep: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """A column of the narrowest type that preserves every cell."""
    import polars as pl

    kinds = frozenset[str]().union(*(part.kinds for part in parts))
    if any(part.entries is not None for part in parts):
        listed = [part.listed() for part in parts]
        entries = [part.entries for part in listed if part.entries is not None]
        return _lists(pl.concat([part.values for part in listed]), _joined(entries, keep))
    columns = [part.values for part in parts]
    if not kinds or kinds == {"truth"}:
        return pl.concat([column.cast(pl.Boolean if kinds else pl.Null) for column in columns])
    if kinds <= _NUMBERS:
        if "point" in kinds and "large" not in kinds:
            return pl.concat([_as_floats(column) for column in columns])
        if "point" in kinds and "part" not in kinds:
            columns = [_as_whole(column) for column in columns]
        if all(column.dtype in (pl.Int64, pl.Null) for column in columns):
            return pl.concat([column.cast(pl.Int64) for column in columns])
    return pl.concat([_as_text(column, keep) for column in columns])


def _lists(lengths: pl.Series, entries: pl.Series) -> pl.Series:
    """Lists out of their lengths, null if missing, and the entries of all."""
    import polars as pl
    import pyarrow as pa

    offsets = pl.concat([pl.Series([0]), lengths.fill_null(0).cum_sum()])
    lists = pa.LargeListArray.from_arrays(
        offsets.to_arrow(), entries.to_arrow(), mask=lengths.is_null().to_arrow()
    )
    return pl.Series(lists)


def _as_floats(column: pl.Series) -> pl.Series:
    import polars as pl

    numbers = column.dtype in (pl.Int64, pl.Null)
    return column.cast(pl.Float64) if numbers else column.cast(pl.String).cast(pl.Float64)


def _as_whole(column: pl.Series) -> pl.Series:
    """Whole numbers such as ``5.0`` as Int64, or as text without a fraction if one is too long."""
    import polars as pl

    if column.dtype in (pl.Int64, pl.Null):
        return column
    texts = column.cast(pl.String).to_list()
    numbers = [None if text is None else int(Decimal(text)) for text in texts]
    if _fit(numbers):
        return pl.Series(numbers, dtype=pl.Int64)
    return pl.Series(
        [None if number is None else str(number) for number in numbers], dtype=pl.String
    )


def _as_text(column: pl.Series, keep: Callable[[pl.Series], pl.Series]) -> pl.Series:
    import polars as pl

    if column.dtype == pl.Boolean:
        names = pl.Series(["False", "True"])
        column = names.gather(column.cast(pl.UInt32))
    return (
        keep(column.cast(pl.String)) if column.dtype in (pl.Int64, pl.Null, pl.String) else column
    )


def _is_large(number: int | float | Decimal) -> bool:
    """Whether some neighbouring whole numbers are equal as floats."""
    size = number.copy_abs() if isinstance(number, Decimal) else abs(number)  # abs may overflow
    return size >= _EXACT_FLOATS


def _is_whole(number: int | float | Decimal) -> bool:
    if isinstance(number, Decimal):
        return number.adjusted() < 20 and number == number.to_integral_value()
    return isinstance(number, int)
