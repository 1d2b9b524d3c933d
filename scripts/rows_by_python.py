"""What Python's own readers make of a source: csv, json, ast, gzip and pyarrow, nothing of ours.

The files that ``semid data prepare`` has read are read again, by the delimiters, encodings and
names of columns that it reported in ``data.json``.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import parquet

csv.field_size_limit(2**31 - 1)

MISSING = {"", "nan", "NaN", "None", "NULL", "null", "<NA>", "NaT", r"\N"}
_HEADERS = {
    "ratings.dat": ("user_id", "item_id", "rating", "timestamp"),
    "movies.dat": ("item_id", "title", "genres"),
}
_ENCODINGS = (("utf-8-sig, by", "utf-8-sig"), ("utf-16, by", "utf-16"), ("not UTF-8", "cp1252"))

_STAND_IN = "\x1f"  # for a longer delimiter

_WORD = re.compile(r"(?:\S|[\x1c-\x1f])+")  # which str.split divides, unlike Unicode

Row = dict[str, Any]


class Unchecked(Exception):
    """A file whose names of columns cannot be told from the report."""


def is_missing(value: Any) -> bool:
    """Whether a cell counts as missing: empty, a word for it, or NaN."""
    return (
        value in (None, {})
        or value != value
        or (isinstance(value, str) and value.strip() in MISSING)
    )


def rows(path: Path, says: list[str], about: str | None = None) -> list[Row]:
    """The rows of a table by the names that the report gives their columns.

    Args:
        path: The table.
        says: The lines of the report.
        about: What they call the table, if not by its name.
    """
    found = list(_rows(path, says))
    names = _names(about or path.name, says)
    known = {name for row in found for name in row}
    if not set(names.values()) <= known:
        raise Unchecked
    return [{**row, **{role: row.get(name) for role, name in names.items()}} for row in found]


def _names(table: str, says: list[str]) -> dict[str, str]:
    """Names in the source by what they were taken for."""
    told = (line.removeprefix(f"{table}: ") for line in says if line.startswith(f"{table}: "))
    renamed = [line for line in told if " <- " in line and not line.startswith("column ")]
    pairs = [pair.partition(" <- ") for line in renamed for pair in line.split(", ")]
    return {role: name for role, _, name in pairs}


def _rows(path: Path, says: list[str]) -> Iterator[Row]:
    if (path / "state.json").is_file():
        file = str(next(path.glob("*.arrow")))
        with pa.memory_map(file) as data, pa.ipc.open_stream(data) as stream:
            yield from stream.read_all().to_pylist()
    elif path.is_dir():
        for part in sorted(path.rglob("part-*")):
            pairs = (name.partition("=") for name in part.parent.relative_to(path).parts)
            of_folders = {unquote(name): unquote(value) for name, _, value in pairs}
            yield from ({**row, **of_folders} for row in _rows(part, says))
    elif path.suffix == ".parquet":
        yield from parquet.read_table(path).to_pylist()
    elif re.search(r"\.(jsonl?|ndjson)\b", path.name):
        python = f"{path.name}: lines are Python dicts" in says
        for line in text_of(path, says).split("\n"):
            if line.strip():
                yield ast.literal_eval(line.strip()) if python else json.loads(line)
    else:
        yield from _cells(path, says)


def _cells(path: Path, says: list[str]) -> Iterator[Row]:
    divided = next((s for s in says if s.startswith(f"{path.name}: cells divided by ")), None)
    sign = "," if divided is None else ast.literal_eval(divided.rpartition(" by ")[2])
    header, quoting = _HEADERS.get(path.name), csv.QUOTE_MINIMAL
    text = text_of(path, says).removeprefix("\ufeff")
    text = text.replace(sign, _STAND_IN) if len(sign) > 1 else text
    if path.suffix in (".inter", ".item", ".dat"):
        quoting = csv.QUOTE_NONE
    sign = _STAND_IN if len(sign) > 1 else sign
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=sign, quoting=quoting)
    filled = (line for line in lines if line not in ([], [""]))
    names = header or next(filled)
    if path.suffix in (".inter", ".item"):
        names = [name.rpartition(":")[0] for name in names]
    for line in filled:
        yield dict(zip(names, line, strict=True))


def text_of(path: Path, says: list[str]) -> str:
    """The text of a file, decompressed and decoded as the report says."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        with pa.input_stream(str(path), compression="zstd") as stream:
            data = stream.read()
    said = [line for line in says if line.startswith(f"{path.name}: ")]
    found = (name for sign, name in _ENCODINGS if any(f": {sign}" in line for line in said))
    return data.decode(next(found, "utf-8"))


def histories(path: Path, says: list[str]) -> list[Row]:
    """The events of a file of sequences, or of LETTER's JSON, in order."""
    text = text_of(path, says)
    if path.name.endswith(".inter.json"):
        pairs = list(json.loads(text).items())
    else:
        words = [_WORD.findall(line) for line in io.StringIO(text, newline=None)]
        pairs = [(line[0], line[1:]) for line in words if line]
    if f"{path.name}: each line is an event, in order" in says:
        order = list(dict.fromkeys(user for user, _ in pairs))
        pairs = [(user, [i for u, of in pairs if u == user for i in of]) for user in order]
    return [
        {"user_id": user, "item_id": item, "position": place}
        for user, items in pairs
        for place, item in enumerate(items)
    ]


def texts_by_item(path: Path, says: list[str]) -> list[Row]:
    """The items of LETTER's ``.item.json``, or of S3-Rec's attributes."""
    found = json.loads(text_of(path, says))
    return [
        {**(texts if isinstance(texts, dict) else {}), "item_id": item}
        for item, texts in found.items()
    ]
