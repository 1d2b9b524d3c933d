"""Reading tables from parquet, CSV and JSON lines, each cell as written."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semid.columns import numbers_where_written
from semid.delimited import chunks, delimited_blocks, whole_lines
from semid.json_lines import WrittenIds, table_of_objects

if TYPE_CHECKING:
    import polars as pl

logger = logging.getLogger(__name__)

BLOCK_ROWS = 2**17
SUFFIXES = (".parquet", ".csv", ".jsonl")


def read_table(
    path: str | Path, *, ids: Sequence[str] = (), required: Sequence[str] = ()
) -> pl.DataFrame:
    """Read a parquet, CSV or JSON-lines file and check that it has the required columns.

    CSV columns stay text, so that ``007`` keeps its zeros; only columns in ``ids`` that contain
    nothing but plain whole numbers become integers. A JSON-lines column of mixed types becomes
    lists if any cell is a list, else text; ids of numbers and text are logged. NaN counts as
    missing.

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
        raise FileNotFoundError(f"no file {path}; name one that is there")
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": read_parquet,
        ".csv": _read_csv,
        ".jsonl": lambda file: _read_json_lines(file, ids),
    }
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    try:
        table = readers[path.suffix](path)
    except pl.exceptions.NoDataError:
        raise ValueError(f"{path} is empty; write or fetch it again") from None
    except (pl.exceptions.PolarsError, csv.Error, ValueError, RecursionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from None
    missing = [name for name in (*required, *ids) if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(table.columns) or 'none'}; {_rewritten(path, table.columns)}"
        )
    if table.height == 0:
        raise ValueError(f"{path} is empty: it has columns but no rows; write or fetch it again")
    return table.with_columns(
        numbers_where_written(table[name]) if path.suffix == ".csv" else table[name] for name in ids
    )


def _rewritten(path: Path, columns: list[str]) -> str:
    """What to do about a header that lacks a column: a CSV file may have other delimiters."""
    is_one = path.suffix == ".csv" and len(columns) == 1 and re.search(r"[;|\t]", columns[0])
    return "divide its cells by commas" if is_one else "rename one of them, or give another file"


def read_parquet(path: Path) -> pl.DataFrame:
    """Read with pyarrow, which refuses a damaged file that could crash polars.

    Raises:
        ValueError: If the file is damaged or no parquet file.
    """
    import polars as pl

    return pl.concat(parquet_blocks(path), rechunk=True)


def parquet_blocks(
    path: Path, is_wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[pl.DataFrame]:
    """Read a parquet file in blocks of rows; columns that are not wanted have no values.

    Returns:
        At least one table, with all columns of the file.

    Raises:
        ValueError: If the file is damaged or no parquet file.
    """
    import polars as pl
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            schema = file.schema_arrow
            schema.to_string()  # raises on names that are not UTF-8
            wanted = [name for name in schema.names if is_wanted(name)]
            if not file.metadata.num_rows:
                yield pl.DataFrame(schema.empty_table().replace_schema_metadata())
            for batch in file.iter_batches(BLOCK_ROWS, columns=wanted):
                batch.validate(full=True)
                block = pl.DataFrame(pa.Table.from_batches([batch]).replace_schema_metadata())
                missing = pl.Series([None] * batch.num_rows, dtype=pl.Null)
                yield pl.DataFrame(
                    [
                        block[name] if name in wanted else missing.alias(name)
                        for name in schema.names
                    ]
                )
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{error}; write or fetch it again") from None


def _read_csv(path: Path) -> pl.DataFrame:
    import polars as pl

    with path.open("rb") as file:
        return pl.concat(delimited_blocks(whole_lines(chunks(file))), rechunk=True)


def _read_json_lines(path: Path, ids: Sequence[str]) -> pl.DataFrame:
    written = WrittenIds(lambda name: name in ids)
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        table = table_of_objects(file, written)
    for says, examples in written.mixed().items():
        logger.warning("%s: %s, such as %s and %s", path, says, *examples)
    return table
