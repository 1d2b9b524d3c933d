"""Reading tables from parquet, CSV and JSON lines, each cell as written."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semid.columns import numbers_where_written, spelled

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".parquet", ".csv", ".jsonl")

_EXACT_FLOATS = 2**53


def read_table(
    path: str | Path, *, ids: Sequence[str] = (), required: Sequence[str] = ()
) -> pl.DataFrame:
    """Read a parquet, CSV or JSON-lines file and check that it has the required columns.

    CSV columns stay text, so that ``007`` keeps its zeros; only columns in ``ids`` that contain
    nothing but plain whole numbers become integers. A JSON-lines column of mixed types becomes
    lists if any cell is a list, else text; NaN counts as missing.

    Args:
        path: The file.
        ids: Required columns of ids.
        required: Other required columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another format, is unreadable or empty, or lacks a required
            column.
    """
    import polars as pl

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": read_parquet,
        ".csv": lambda path: read_delimited(path.read_bytes()),
        ".jsonl": _read_json_lines,
    }
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    try:
        table = readers[path.suffix](path)
    except pl.exceptions.NoDataError:
        raise ValueError(f"{path} is empty") from None
    except (pl.exceptions.PolarsError, csv.Error, ValueError, RecursionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from None
    missing = [name for name in (*required, *ids) if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(table.columns) or 'none'}{_undivided(path, table.columns)}"
        )
    if table.height == 0:
        raise ValueError(f"{path} is empty: it has columns but no rows")
    return table.with_columns(
        numbers_where_written(table[name]) if path.suffix == ".csv" else table[name] for name in ids
    )


def _undivided(path: Path, columns: list[str]) -> str:
    """What to do about the header of a CSV file that has other delimiters than commas."""
    is_one = path.suffix == ".csv" and len(columns) == 1 and re.search(r"[;|\t]", columns[0])
    return "; divide its cells by commas" if is_one else ""


def read_parquet(path: Path) -> pl.DataFrame:
    """Read with pyarrow, which refuses a damaged file that could crash polars.

    Raises:
        ValueError: If the file is damaged or no parquet file.
    """
    import polars as pl
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)
        table.schema.to_string()  # raises on names that are not UTF-8
    except (ArrowException, OSError) as error:
        raise ValueError(str(error)) from None
    return pl.DataFrame(table.replace_schema_metadata())


def read_delimited(
    data: bytes,
    separator: str = ",",
    header: Sequence[str] | None = None,
    *,
    with_quotes: bool = True,
) -> pl.DataFrame:
    """Parse delimited UTF-8 text; all columns are text, and empty cells are missing.

    Quotes are parsed strictly by RFC 4180, so that a stray one cannot merge rows.

    Args:
        data: The text; a byte order mark is skipped.
        separator: One character between cells.
        header: Names of the columns, if the text has no line with them.
        with_quotes: Whether quotes enclose cells; otherwise they are letters like any other.

    Raises:
        ValueError: If a row has another number of cells than the header, a quote is stray, or the
            header repeats a name.
        polars.exceptions.PolarsError: If the text is empty or cannot be parsed.
    """
    lone_returns = data.count(b"\r") > data.count(b"\r\n")  # each ends a line
    if with_quotes and (b'"' in data or lone_returns):
        return _read_quoted(data, separator, header)
    return _read_unquoted(data, separator, header)


def _read_unquoted(data: bytes, separator: str, header: Sequence[str] | None) -> pl.DataFrame:
    import polars as pl

    first = data.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r").decode("utf-8-sig")
    names = first.split(separator) if header is None else list(header)
    _refuse_repeated(names)
    height = data.count(b"\n") + (not data.endswith(b"\n"))
    if data.count(separator.encode()) != (len(names) - 1) * height:
        _refuse_uneven(data, separator, len(names))  # the cause may be blank lines, which are fine
    try:
        return pl.read_csv(
            data,
            infer_schema=False,
            separator=separator,
            quote_char=None,
            has_header=header is None,
            new_columns=header,
        )
    except pl.exceptions.ComputeError:
        _refuse_uneven(data, separator, len(names))
        raise


def _refuse_uneven(data: bytes, separator: str, width: int) -> None:
    """Raise for the first line with another number of cells; blank lines are fine."""
    for number, line in enumerate(io.BytesIO(data), start=1):
        cells = line.count(separator.encode()) + 1
        if cells != width and line.strip(b"\r\n"):
            raise _uneven(cells, width, number)


def _read_quoted(data: bytes, separator: str, header: Sequence[str] | None) -> pl.DataFrame:
    import polars as pl

    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    with text as file, _cells_of_any_length():
        lines = csv.reader(file, strict=True, delimiter=separator)
        try:
            names = list(header) if header is not None else next(filter(None, lines), [])
            rows = [_checked_row(row, len(names), lines.line_num) for row in lines]
        except csv.Error as error:
            raise ValueError(
                f"line {lines.line_num}: {error}; write a quote within a quoted cell as two "
                'quotes ("") and not as \\", or use parquet'
            ) from None
    _refuse_repeated(names)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _refuse_repeated(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"its header names a column twice: {', '.join(names)}")


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _checked_row(row: list[str], width: int, line: int) -> list[str | None]:
    """The cells of a row, None if empty; a blank line is a row of None."""
    if row and len(row) != width:
        raise _uneven(len(row), width, line)
    return [cell or None for cell in row] or [None] * width


def _uneven(cells: int, width: int, line: int) -> ValueError:
    return ValueError(
        f"line {line}: {cells} cells, but the header has {width}; is a comma or a quote within a "
        "cell that has no quotes around it?"
    )


def _read_json_lines(path: Path) -> pl.DataFrame:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        return table_of_objects(file, json_object)


def json_object(line: str) -> Any:
    """Parse JSON; numbers with a fraction become ``Decimal``, NaN becomes None.

    Raises:
        ValueError: If it is no JSON, or an object repeats a name.
    """
    return _DECODER.decode(line)


def table_of_objects(lines: Iterable[str], parse: Callable[[str], Any]) -> pl.DataFrame:
    """A table with a row for each line that is not blank.

    A column of mixed types becomes lists if any cell is a list, else text.

    Args:
        lines: The lines.
        parse: Turns a line into a dict, or raises ``ValueError`` or ``SyntaxError``.

    Raises:
        ValueError: If a line cannot be parsed or is no object; its number is named.
        polars.exceptions.NoDataError: If there is no column.
    """
    import polars as pl

    columns: dict[str, list[Any]] = {}
    height = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse(line)
        except (ValueError, SyntaxError) as error:
            raise ValueError(_no_object(number, line, f" ({error})")) from None
        if not isinstance(row, dict):
            raise ValueError(_no_object(number, line))
        for name, value in row.items():
            cells = columns.setdefault(name, [])
            cells.extend([None] * (height - len(cells)))
            cells.append(value)
        height += 1
    for cells in columns.values():
        cells.extend([None] * (height - len(cells)))
    if not columns:
        raise pl.exceptions.NoDataError
    return pl.DataFrame([_json_column(name, cells) for name, cells in columns.items()])


def _no_object(number: int, line: str, reason: str = "") -> str:
    return (
        f"line {number}: expected an object {{...}}, got {line.strip()!r:.80}{reason}; write one "
        "on each line"
    )


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


def _json_column(name: str, cells: list[Any]) -> pl.Series:
    """A column of the narrowest type that preserves every cell."""
    import polars as pl

    kinds = {type(cell) for cell in cells} - {type(None)}
    if list in kinds:
        lists = [cell if cell is None or isinstance(cell, list) else [cell] for cell in cells]
        inner = _json_column(name, [entry for entries in lists if entries for entry in entries])
        entries = iter(inner.to_list())
        values = [None if cell is None else [next(entries) for _ in cell] for cell in lists]
        return pl.Series(name, values, dtype=pl.List(inner.dtype))
    if kinds <= {bool}:
        return pl.Series(name, cells, dtype=pl.Boolean if kinds else pl.Null)
    if kinds <= {int, float, Decimal}:
        return _json_numbers(name, cells)
    texts = [cell if cell is None or isinstance(cell, str) else spelled(cell) for cell in cells]
    try:
        return pl.Series(name, texts, dtype=pl.String)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"column {name!r} holds half a character ({error.object[error.start]!a}) in "
            f"{error.object[:40]!a}; was the text cut there? Take it out"
        ) from None


def _json_numbers(name: str, cells: list[Any]) -> pl.Series:
    """Int64 or Float64; text if either would change a number."""
    import polars as pl

    numbers = [cell for cell in cells if cell is not None]
    if any(not isinstance(number, int) for number in numbers):
        if not any(_is_large(number) and _is_whole(number) for number in numbers):
            floats = [None if cell is None else float(cell) for cell in cells]
            return pl.Series(name, floats, dtype=pl.Float64)
        if all(map(_is_whole, numbers)):
            cells = [None if cell is None else int(cell) for cell in cells]
    if all(cell is None or (isinstance(cell, int) and abs(cell) < 2**63) for cell in cells):
        return pl.Series(name, cells, dtype=pl.Int64)
    return pl.Series(name, [None if cell is None else str(cell) for cell in cells], dtype=pl.String)


def _is_large(number: int | float | Decimal) -> bool:
    """Whether some neighbouring whole numbers are equal as floats."""
    size = number.copy_abs() if isinstance(number, Decimal) else abs(number)  # abs may overflow
    return size >= _EXACT_FLOATS


def _is_whole(number: int | float | Decimal) -> bool:
    if isinstance(number, Decimal):
        return number.adjusted() < 20 and number == number.to_integral_value()
    return isinstance(number, int)
