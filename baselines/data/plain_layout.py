"""Tables of the plain layout: which files they are, and how each is read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note
from baselines.data.sources.files import is_table, kind_of, read_file, with_typed_ids

KINDS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of its tables; that of a compression may follow."""

logger = logging.getLogger(__name__)


def is_plain_table(path: Path) -> bool:
    """Whether a file or a folder of parts is named as a table of the plain layout."""
    return kind_of(path) in KINDS and (path.is_file() or is_table(path))


def tables_named(folder: Path, name: str) -> list[Path]:
    """Tables of a folder with that name, or else those whose names start with it."""
    tables = {path: _stem(path) for path in sorted(folder.iterdir()) if is_plain_table(path)}
    return [path for path, stem in tables.items() if stem == name] or [
        path for path, stem in tables.items() if stem.startswith(name)
    ]


def only_table(folder: Path, name: str) -> Path:
    """The table of that name.

    Raises:
        ValueError: If there is none, or more than one.
    """
    tables = tables_named(folder, name)
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables or sorted(folder.iterdir())) or "nothing"
        raise ValueError(
            f"{folder}: expected one file {name}{{{','.join(KINDS)}}}, perhaps compressed, found "
            f"{found}"
        )
    return tables[0]


def read_table(
    path: str | Path, *, ids: Sequence[str] = (), required: Sequence[str] = ()
) -> pl.DataFrame:
    """Read a table as every other source is read, and check that it has the required columns.

    Compression, delimiter and encoding are detected and logged. Cells of delimited text stay text;
    columns of ids that contain nothing but plain whole numbers become integers.

    Args:
        path: A file, or a folder of parts.
        ids: Required columns of ids.
        required: Other required columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another format, is unreadable or empty, or lacks a required
            column.
    """
    path, notes = Path(path), list[Note]()
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; name one that is there")
    if not is_plain_table(path):
        raise ValueError(
            f"{path}: expected a file ending in {', '.join(KINDS)}, plain or compressed"
        )
    table = read_file(path, SourceConfig(), notes)
    for note in notes:
        level = logging.WARNING if note.examples else logging.INFO
        logger.log(level, "%s: %s", note.kind, note.says)
    require_columns(table, path, (*required, *ids))
    return with_typed_ids(table, path, ids)


def require_columns(table: pl.DataFrame, path: Path, names: Sequence[str]) -> None:
    """Raise ``ValueError`` unless a table has these columns."""
    if missing := [name for name in names if name not in table.columns]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(table.columns)}; semid data prepare reads columns of other names"
        )


def _stem(path: Path) -> str:
    """The name of a table without its ending and that of its compression."""
    return path.name[: path.name.lower().rindex(kind_of(path))]
