"""One table from a file or a folder of parts, whatever its compression, delimiter and encoding."""

from __future__ import annotations

import ast
import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note
from baselines.data.sources.headers import looks_like_data, without_header
from semid.columns import numbers_where_written
from semid.json_files import parse_json
from semid.tables import json_object, read_delimited, read_parquet, table_of_objects

COMPRESSED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
DELIMITED = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".item")
JSON = (".jsonl", ".json", ".ndjson")
PARQUET = (".parquet",)
WITHOUT_QUOTES = (".inter", ".item")  # of RecBole; in MovieLens's files without a header neither
_OF_MOVIELENS = (".dat", ".data")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
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
    path: Path, config: SourceConfig, notes: list[Note], header: Sequence[str] | None = None
) -> pl.DataFrame:
    """Read a table from a file, or from a folder of parts as Spark writes it.

    Columns of delimited files are text.

    Args:
        path: The file or folder. Folders named ``column=value`` around the parts add a column.
        config: Delimiter and encoding, if they are not to be detected.
        notes: Receives what was detected.
        header: Names of the columns of delimited text that has no line with them.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ValueError: If it cannot be read, is empty, or its parts have different columns.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    parts = _parts(path) if path.is_dir() else [path]
    if not parts:
        raise ValueError(
            f"{path}: expected a file, or a folder of files named part-*, got a folder without any"
        )
    read = {part: _read_part(part, config, notes, header) for part in parts}
    filled = {
        part: _with_partitions(table, part, path)
        for part, table in read.items()
        if table is not None  # Spark writes a part without rows as a file without text
    }
    if not filled:
        raise ValueError(f"{path} is empty")
    first, tables = next(iter(filled)), list(filled.values())
    for part, table in filled.items():
        if set(table.columns) != set(tables[0].columns) and kind_of(part) not in JSON:
            raise ValueError(
                f"{part}: expected the columns of {first.name} "
                f"({', '.join(tables[0].columns)}), got {', '.join(table.columns)}"
            )
    if len(tables) == 1:
        table = tables[0]
    else:
        notes.append(Note(kind="guessed", says=f"{path.name}: one table of {len(parts)} parts"))
        table = _one_table(path, tables)
    if not table.height:
        raise ValueError(f"{path} is empty: it has columns but no rows")
    of_folders = [name for name, _ in _partitions(parts[0], path)]
    return table.with_columns(numbers_where_written(table[name]) for name in of_folders)


def read_text(path: Path, config: SourceConfig, notes: list[Note]) -> str:
    """The text of a file, plain or compressed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or in another encoding.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        return _as_utf8(path, _decompressed(path, notes), config.encoding, notes).decode()
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def read_start(path: Path, size: int = 100_000) -> str:
    """The first bytes of a file as text, plain or compressed; what is not UTF-8 is replaced.

    Raises:
        ValueError: If it is damaged.
        OSError: Likewise, within its compressed data.
    """
    from pyarrow import input_stream

    with input_stream(str(path), compression=_codec(path)) as stream:
        return str(stream.read(size).decode(errors="replace"))


def read_json(path: Path, config: SourceConfig, notes: list[Note]) -> Any:
    """The JSON value of a file, plain or compressed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `read_text` and `semid.json_files.parse_json`.
    """
    return parse_json(read_text(path, config, notes), path)


def with_typed_ids(
    table: pl.DataFrame, path: Path, names: Sequence[str] = ("user_id", "item_id")
) -> pl.DataFrame:
    """Ids of delimited text as integers, a column at a time, if all are plain whole numbers."""
    first = (_parts(path) or [path])[0] if path.is_dir() else path
    if kind_of(first) not in DELIMITED:
        return table
    ids = [name for name in names if name in table.columns]
    return table.with_columns(numbers_where_written(table[name]) for name in ids)


def _one_table(path: Path, tables: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts; Spark leaves out of JSON lines what is missing, maybe in all rows."""
    try:
        return pl.concat(tables, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path}: expected the same types in all its parts ({reason}); write them as one file"
        ) from None


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
    path: Path, config: SourceConfig, notes: list[Note], header: Sequence[str] | None
) -> pl.DataFrame | None:
    """The table of a file; None if it has no text."""
    kind = kind_of(path)
    try:
        if kind in PARQUET:
            return read_parquet(path)
        text = _as_utf8(path, _decompressed(path, notes), config.encoding, notes)
        if not text.strip():
            return None
        if kind in JSON:
            return _read_objects(path, text, notes)
        return _read_delimited(path, text, config.delimiter, notes, header)
    except (pl.exceptions.PolarsError, csv.Error, ValueError, RecursionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read: {reason}") from None


def _decompressed(path: Path, notes: list[Note]) -> bytes:
    from pyarrow import input_stream

    codec = _codec(path)
    if codec is None:
        return path.read_bytes()
    try:
        with input_stream(str(path), compression=codec) as stream:
            data: bytes = stream.read()
    except OSError as error:
        raise ValueError(f"its {codec} data is damaged ({error}); fetch it again") from None
    notes.append(Note(kind="guessed", says=f"{path.name}: compressed by {codec}"))
    return data


def _codec(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(4)
    codec = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    told = COMPRESSED.get(path.suffix.lower())
    if told is not None and codec is None and start:
        raise ValueError(f"its name says {told}, but it does not begin as such; rename it")
    return codec


def _as_utf8(path: Path, data: bytes, encoding: str | None, notes: list[Note]) -> bytes:
    """The text in UTF-8, without a byte order mark."""
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    try:
        if encoding is not None:
            return data.decode(encoding).encode()
        if marked is not None:
            notes.append(Note(kind="guessed", says=f"{path.name}: {marked}, by its first bytes"))
            return data.decode(marked).encode()
        try:
            data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            text = data.decode("cp1252", errors="replace") if b"\x00" not in data else None
            if text is None or "\ufffd" in text:
                raise ValueError(
                    f"line {line}: expected text in UTF-8, got the byte 0x{data[error.start]:02x}; "
                    "name its encoding by --read.encoding"
                ) from None
            example = text.split("\n", line)[line - 1][:200]
            notes.append(
                Note(
                    kind="guessed",
                    says=f"{path.name}: not UTF-8, read as Windows-1252 (Latin-1)",
                    examples=[{"line": line, "text": example}],
                )
            )
            return text.encode()
        return data
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected text in {error.encoding}, got the byte 0x{data[error.start]:02x} at "
            f"{error.start}; name its encoding by --read.encoding"
        ) from None
    except LookupError:
        raise ValueError(f"there is no encoding {encoding!r}; try utf-8 or latin-1") from None


def _read_objects(path: Path, text: bytes, notes: list[Note]) -> pl.DataFrame:
    parse = json_object
    first = text.lstrip()
    if re.match(rb"\{\s*u?'", first):
        notes.append(Note(kind="guessed", says=f"{path.name}: lines are Python dicts"))
        parse = _python_object
    with io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline="\n") as lines:
        return table_of_objects(lines, parse)


def _python_object(line: str) -> Any:
    try:
        tree = ast.parse(line.strip(), mode="eval").body
        value = ast.literal_eval(tree)
    except (TypeError, MemoryError) as error:
        raise ValueError(str(error)) from None
    if isinstance(tree, ast.Dict) and len(value) < len(tree.keys):
        raise ValueError("it names a column more than once")
    return value


def _read_delimited(
    path: Path,
    text: bytes,
    delimiter: str | None,
    notes: list[Note],
    header: Sequence[str] | None,
) -> pl.DataFrame:
    if delimiter is None:
        delimiter = _delimiter(text)
        if delimiter != ",":
            notes.append(Note(kind="guessed", says=f"{path.name}: cells divided by {delimiter!r}"))
    kind = kind_of(path)
    with_quotes = kind not in WITHOUT_QUOTES and (header is None or kind not in _OF_MOVIELENS)
    names = text.partition(b"\n")[0].decode().strip("\r").split(delimiter)
    if header is None and len(set(names)) < len(names) and looks_like_data(names):
        raise ValueError(without_header(names))
    if len(delimiter.encode()) == 1:
        return read_delimited(text, delimiter, header, with_quotes=with_quotes)
    if _STAND_IN.encode() in text:
        raise ValueError(f"its text holds the character {_STAND_IN!r}; write it as CSV")
    text = text.replace(delimiter.encode(), _STAND_IN.encode())
    table = read_delimited(text, _STAND_IN, header, with_quotes=with_quotes)
    return table.with_columns(pl.all().str.replace_all(_STAND_IN, delimiter, literal=True))


def _delimiter(text: bytes) -> str:
    """The delimiter that divides the first line, and the next ones most evenly."""
    lines = text[:100_000].decode(errors="ignore").splitlines()[:20]
    counts = {sign: [line.count(sign) for line in lines] for sign in _DELIMITERS}
    even = [sign for sign, found in counts.items() if found[0] and len(set(found)) == 1]
    some = [sign for sign, found in counts.items() if found[0]]
    return (even or sorted(some, key=lambda sign: -counts[sign][0]) or [","])[0]
