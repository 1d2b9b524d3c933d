"""Reading delimited text in blocks, each cell as written.

Quotes are parsed strictly by RFC 4180, so that a stray one cannot merge rows. The measure is
Python's ``csv`` with ``strict=True``; blocks that every parser reads alike are left to polars.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

BLOCK_BYTES = 2**24


def chunks(stream: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """A stream in pieces of ``BLOCK_BYTES``, or of another size."""
    while piece := stream.read(size or BLOCK_BYTES):
        yield piece


def whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks that end with a line; a long line makes a long block."""
    rest: list[bytes] = []
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, piece[:end]])
            rest = []
        rest.append(piece[end:])
    if any(rest):
        yield b"".join(rest)


def delimited_blocks(
    blocks: Iterable[bytes],
    separator: str = ",",
    header: Sequence[str] | None = None,
    *,
    with_quotes: bool = True,
) -> Iterator[pl.DataFrame]:
    """Parse delimited UTF-8 text; all columns are text, and empty cells are missing.

    Args:
        blocks: The text, as ``whole_lines`` gives it; a byte order mark is skipped.
        separator: One character between cells.
        header: Names of the columns, if the text has no line with them.
        with_quotes: Whether quotes enclose cells; otherwise they are letters like any other.

    Returns:
        At least one table, with the columns of the header; a blank line is a row without values.

    Raises:
        ValueError: If a row has another number of cells than the header, a quote is stray, or the
            header repeats a name; with the line of the text.
        polars.exceptions.PolarsError: If there is no header, or a block cannot be parsed.
    """
    import polars as pl

    names = None if header is None else list(header)
    blocks = _without_mark(blocks)
    strict = _StrictReader(blocks, separator, with_quotes)
    is_empty = True
    for block in blocks:
        dividers = _dividers(block, separator, with_quotes)
        if names is None and dividers is not None:
            heading, body = _heading(block)
            strict.lines_before += block.count(b"\n") - body.count(b"\n")
            if not heading:
                continue
            names = _names(heading.decode(), separator, with_quotes)
            dividers, block = dividers - len(names) + 1, body
            if not body:
                continue
        table = None
        if names is not None and dividers is not None:
            table = _by_polars(block, names, separator, dividers, with_quotes, strict.lines_before)
        if table is not None:
            strict.lines_before += block.count(b"\n")
        else:
            names, rows = strict.rows(block, names)
            if names is None:
                continue
            table = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
        is_empty = is_empty and not table.height
        if table.height:
            yield table
    if not names:
        raise pl.exceptions.NoDataError
    if is_empty:
        yield pl.DataFrame(schema=dict.fromkeys(names, pl.String))


def _without_mark(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks without a byte order mark."""
    blocks = iter(blocks)
    for block in islice(blocks, 1):
        yield block.removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _heading(block: bytes) -> tuple[bytes, bytes]:
    """The first line that is not blank, and what comes after it."""
    heading, _, body = block.lstrip(b"\r\n").partition(b"\n")
    return heading.rstrip(b"\r"), body


def _names(heading: str, separator: str, with_quotes: bool) -> list[str]:
    if not with_quotes:
        return _distinct(heading.split(separator))
    with _cells_of_any_length():
        return _distinct(next(csv.reader([heading], strict=True, delimiter=separator)))


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"its header names a column twice: {', '.join(names)}")
    return names


def _dividers(block: bytes, separator: str, with_quotes: bool) -> int | None:
    """Number of separators between cells; None unless quotes enclose whole cells of one line."""
    import numpy as np

    if block.count(b"\r") > block.count(b"\r\n"):  # each of the others ends a line
        return None
    if not with_quotes or b'"' not in block:
        return block.count(separator.encode())
    text = np.frombuffer(block, dtype=np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return None
    opening, closing = quotes[::2], quotes[1::2]
    around = np.frombuffer(b"\n" + block + b"\n", dtype=np.uint8)
    borders = np.isin(np.arange(256), [*b'\n"', ord(separator)])
    ends = borders | (np.arange(256) == ord("\r"))
    if not (borders[around[opening]].all() and ends[around[closing + 2]].all()):
        return None
    if _between(opening, closing, text == ord("\n")):
        return None
    divides = text == ord(separator)
    return int(divides.sum()) - _between(opening, closing, divides)


def _between(
    opening: NDArray[np.int64], closing: NDArray[np.int64], marks: NDArray[np.bool_]
) -> int:
    """How many marks are enclosed."""
    import numpy as np

    places = np.flatnonzero(marks)
    return int((np.searchsorted(places, closing) - np.searchsorted(places, opening)).sum())


def _by_polars(
    block: bytes, names: list[str], separator: str, dividers: int, with_quotes: bool, lines: int
) -> pl.DataFrame | None:
    """The rows of a block; None if Python's reader has to read them, or to say what is wrong."""
    import polars as pl

    height = block.count(b"\n") + (not block.endswith(b"\n"))
    if dividers != (len(names) - 1) * height:  # the cause may be blank lines, which are fine
        if with_quotes:
            return None
        _refuse_uneven(block, separator, len(names), lines)
    heading = separator.join(map(str, range(len(names)))).encode()
    try:
        table = pl.read_csv(
            heading + b"\n" + block.removesuffix(b"\n") + b"\n",  # else a long last row is cut
            infer_schema=False,
            separator=separator,
            quote_char='"' if with_quotes else None,
        )
    except pl.exceptions.ComputeError:
        if with_quotes:
            return None
        _refuse_uneven(block, separator, len(names), lines)
        raise
    table.columns = names
    if with_quotes and b'""' in block:
        return table.with_columns(pl.when(pl.all() != "").then(pl.all()))
    return table


def _refuse_uneven(block: bytes, separator: str, width: int, lines: int) -> None:
    """Raise for the first line with another number of cells; blank lines are fine."""
    for number, line in enumerate(io.BytesIO(block), start=lines + 1):
        cells = line.count(separator.encode()) + 1
        if cells != width and line.strip(b"\r\n"):
            raise _uneven(cells, width, number)


class _StrictReader(Iterator[str]):
    """Python's reader of the blocks that need it, and the lines that it reads."""

    def __init__(self, blocks: Iterator[bytes], separator: str, with_quotes: bool) -> None:
        self.lines_before = 0  # that other parsers have read
        self._blocks = blocks
        self._text = io.StringIO()
        self._size = 0
        self._rows = csv.reader(
            self,
            strict=True,
            delimiter=separator,
            quoting=csv.QUOTE_MINIMAL if with_quotes else csv.QUOTE_NONE,
        )

    def __next__(self) -> str:
        """The next line, of the next block if a quoted cell goes on there."""
        if self._is_read():
            self._begin(next(self._blocks))
        return next(self._text)

    def rows(
        self, block: bytes, names: list[str] | None
    ) -> tuple[list[str] | None, list[list[str | None]]]:
        """The header, of which this may be the first block, and the rows that begin in a block."""
        rows = []
        self._begin(block)
        with _cells_of_any_length():
            while not self._is_read():
                row = self._next_row()
                if names is not None:
                    line = self.lines_before + self._rows.line_num
                    rows.append(_checked_row(row, len(names), line))
                elif row:
                    names = _distinct(row)
        return names, rows

    def _begin(self, block: bytes) -> None:
        text = block.decode()
        self._text, self._size = io.StringIO(text, newline=""), len(text)

    def _is_read(self) -> bool:
        return self._text.tell() == self._size

    def _next_row(self) -> list[str]:
        try:
            return next(self._rows)
        except csv.Error as error:
            raise ValueError(
                f"line {self.lines_before + self._rows.line_num}: {error}; write a quote within a "
                'quoted cell as two quotes ("") and not as \\", or use parquet'
            ) from None


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
