"""One table from a file or a folder of parts, whatever its compression, delimiter and encoding."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from baselines.data.sources.blocks import Keep, one_table
from baselines.data.sources.columns import event_role
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note
from baselines.data.sources.headers import looks_like_data, without_header
from baselines.data.sources.opening import COMPRESSED, TextFile, open_text
from baselines.runtime.progress import track
from semid.columns import numbers_where_written
from semid.delimited import delimited_blocks
from semid.json_files import parse_json
from semid.json_lines import WrittenIds, as_it_is, json_object, table_of_objects
from semid.tables import parquet_blocks

DELIMITED = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".item")
JSON = (".jsonl", ".json", ".ndjson")
PARQUET = (".parquet",)
WITHOUT_QUOTES = (".inter", ".item")  # of RecBole; in MovieLens's files without a header neither
_OF_MOVIELENS = (".dat", ".data")
_DELIMITERS = ("::", "\t", ";", "|", ",")
_MISSING_VALUE = "__HIVE_DEFAULT_PARTITION__"
_STAND_IN = "\x1f"  # one character in place of a longer delimiter


def kind_of(path: Path) -> str:
    """Suffix that says what a file holds, without that of its compression; ``""`` if unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in (*DELIMITED, *JSON, *PARQUET) else ""


def is_table(path: Path) -> bool:
    """Whether this is a file of a known kind, or a folder of parts."""
    if path.name.startswith((".", "_")):
        return False
    return bool(_parts(path)) if path.is_dir() else kind_of(path) != ""


def read_file(
    path: Path,
    config: SourceConfig,
    notes: list[Note],
    header: Sequence[str] | None = None,
    keep: Callable[[str], Keep | None] = lambda name: as_it_is,
) -> pl.DataFrame:
    """Read a table from a file, or from a folder of parts as Spark writes it.

    Columns of delimited files are text.

    Args:
        path: The file or folder. Folders named ``column=value`` around the parts add a column.
        config: Delimiter and encoding, if they are not to be detected.
        notes: Receives what was detected.
        header: Names of the columns of delimited text that has no line with them.
        keep: What becomes of a column of each block, by its name. A column that is not kept has no
            values.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ValueError: If it cannot be read, is empty, or its parts have different columns.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; name one that is there")
    parts = _parts(path) if path.is_dir() else [path]
    if not parts:
        raise ValueError(
            f"{path}: expected a file, or a folder of files named part-*, got a folder without any"
        )
    read = {part: _read_part(part, config, notes, header, keep) for part in parts}
    filled = {
        part: _with_partitions(table, part, path)
        for part, table in read.items()
        if table is not None  # Spark writes a part without rows as a file without text
    }
    if not filled:
        raise ValueError(f"{path} is empty; expected rows of data: write or fetch it again")
    first, tables = next(iter(filled)), list(filled.values())
    for part, table in filled.items():
        if set(table.columns) != set(tables[0].columns) and kind_of(part) not in JSON:
            raise ValueError(
                f"{part}: expected the columns of {first.name} "
                f"({', '.join(tables[0].columns)}), got {', '.join(table.columns)}; write all "
                "parts with the same columns"
            )
    if len(tables) > 1:
        notes.append(Note(kind="guessed", says=f"{path.name}: one table of {len(parts)} parts"))
    try:
        table = one_table(tables, keep)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path}: expected the same types in all its parts ({reason}); write them as one file"
        ) from None
    if not table.height:
        raise ValueError(f"{path} is empty: it has columns but no rows; write or fetch it again")
    of_folders = [name for name, _ in _partitions(parts[0], path)]
    return table.with_columns(numbers_where_written(table[name]) for name in of_folders)


def read_text(path: Path, config: SourceConfig, notes: list[Note]) -> str:
    """The text of a file, plain or compressed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or in another encoding.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; name one that is there")
    try:
        return b"".join(open_text(path, config.encoding, notes).blocks()).decode()
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def read_json(path: Path, config: SourceConfig, notes: list[Note]) -> Any:
    """The JSON value of a file, plain or compressed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `read_text` and `semid.json_files.parse_json`.
    """
    return parse_json(read_text(path, config, notes), path)


def is_delimited(path: Path) -> bool:
    """Whether a file or folder of parts is delimited text."""
    first = (_parts(path) or [path])[0] if path.is_dir() else path
    return kind_of(first) in DELIMITED


def with_typed_ids(
    table: pl.DataFrame, path: Path, names: Sequence[str] = ("user_id", "item_id")
) -> pl.DataFrame:
    """Ids of delimited text as integers, a column at a time, if all are plain whole numbers."""
    if not is_delimited(path):
        return table
    ids = [name for name in names if name in table.columns]
    try:
        return table.with_columns(numbers_where_written(table[name]) for name in ids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parts(folder: Path) -> list[Path]:
    """Files ``part-*`` of a folder and of those in it that are named ``column=value``."""
    within = [path for path in sorted(folder.iterdir()) if path.is_dir() and "=" in path.name]
    files = [path for path in sorted(folder.glob("part-*")) if path.is_file() and kind_of(path)]
    return files + [part for path in within for part in _parts(path)]


def _partitions(part: Path, folder: Path) -> list[tuple[str, str | None]]:
    """Column and value of each folder ``column=value`` between the table's folder and a part."""
    within = part.parent.relative_to(folder).parts if part != folder else ()
    named = [name.partition("=") for name in within if "=" in name]
    return [
        (unquote(name), None if value == _MISSING_VALUE else unquote(value))
        for name, _, value in named
    ]


def _with_partitions(table: pl.DataFrame, part: Path, folder: Path) -> pl.DataFrame:
    named = _partitions(part, folder)
    return table.with_columns(pl.lit(value, dtype=pl.String).alias(name) for name, value in named)


def _read_part(
    path: Path,
    config: SourceConfig,
    notes: list[Note],
    header: Sequence[str] | None,
    keep: Callable[[str], Keep | None],
) -> pl.DataFrame | None:
    """The table of a file; None if it has no text."""
    kind = kind_of(path)
    try:
        if kind in PARQUET:
            blocks = parquet_blocks(path, lambda name: keep(name) is not None)
            return one_table(_followed(blocks, path), keep)
        text = open_text(path, config.encoding, notes)
        if text.is_blank:
            return None
        if kind in JSON:
            return _read_objects(text, config, notes, keep)
        return one_table(_delimited(text, config.delimiter, notes, header), keep)
    except (pl.exceptions.PolarsError, csv.Error, ValueError, RecursionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read: {reason}") from None


def _followed(blocks: Iterator[pl.DataFrame], path: Path) -> Iterator[pl.DataFrame]:
    """The blocks of a parquet file, with progress."""
    from pyarrow.parquet import read_metadata

    first = next(blocks, None)
    if first is None:
        return
    with track(f"reading {path.name}, rows", max(read_metadata(path).num_rows, 1)) as tracker:
        for block in chain([first], blocks):
            yield block
            tracker.advance(block.height)


def _read_objects(
    text: TextFile, config: SourceConfig, notes: list[Note], keep: Callable[[str], Keep | None]
) -> pl.DataFrame:
    parse: Callable[[str], Any] = json_object
    if re.match(rb"\{\s*u?'", text.start().lstrip()):
        notes.append(Note(kind="guessed", says=f"{text.path.name}: lines are Python dicts"))
        parse = _python_object
    lines = (line for block in text.blocks() for line in io.StringIO(block.decode(), newline="\n"))
    written = WrittenIds(lambda name: event_role(name, config.columns) == "id", parse)
    table = table_of_objects(lines, written, keep)
    notes += (
        Note(kind="repaired", says=f"{text.path.name}: {says}", examples=examples)
        for says, examples in written.mixed().items()
    )
    return table


def _python_object(line: str) -> Any:
    try:
        tree = ast.parse(line.strip(), mode="eval").body
        value = ast.literal_eval(tree)
    except (TypeError, MemoryError) as error:
        raise ValueError(str(error)) from None
    if isinstance(tree, ast.Dict) and len(value) < len(tree.keys):
        raise ValueError("it names a column more than once")
    return value


def _delimited(
    text: TextFile, delimiter: str | None, notes: list[Note], header: Sequence[str] | None
) -> Iterator[pl.DataFrame]:
    if delimiter is None:
        delimiter = _delimiter(text.start())
        if delimiter != ",":
            name = text.path.name
            notes.append(Note(kind="guessed", says=f"{name}: cells divided by {delimiter!r}"))
    kind = kind_of(text.path)
    with_quotes = kind not in WITHOUT_QUOTES and (header is None or kind not in _OF_MOVIELENS)
    names = text.start().partition(b"\n")[0].decode().strip("\r").split(delimiter)
    if header is None and len(set(names)) < len(names) and looks_like_data(names):
        raise ValueError(without_header(names))
    if len(delimiter.encode()) == 1:
        return delimited_blocks(text.blocks(), delimiter, header, with_quotes=with_quotes)
    blocks = _with_stand_in(text.blocks(), delimiter)
    tables = delimited_blocks(blocks, _STAND_IN, header, with_quotes=with_quotes)
    original = pl.all().str.replace_all(_STAND_IN, delimiter, literal=True)
    return (table.with_columns(original) for table in tables)


def _with_stand_in(blocks: Iterable[bytes], delimiter: str) -> Iterator[bytes]:
    for block in blocks:
        if _STAND_IN.encode() in block:
            raise ValueError(f"its text holds the character {_STAND_IN!r}; write it as CSV")
        yield block.replace(delimiter.encode(), _STAND_IN.encode())


def _delimiter(text: bytes) -> str:
    """The delimiter that divides the first line, and the next ones most evenly."""
    lines = text[:100_000].decode(errors="ignore").splitlines()[:20]
    counts = {sign: [line.count(sign) for line in lines] for sign in _DELIMITERS}
    even = [sign for sign, found in counts.items() if found[0] and len(set(found)) == 1]
    some = [sign for sign, found in counts.items() if found[0]]
    return (even or sorted(some, key=lambda sign: -counts[sign][0]) or [","])[0]
