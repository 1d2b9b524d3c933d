"""Damaged files of every format: each is refused in one line, or read as Python itself reads it.

    python scripts/fuzz_readers.py --number 50000 --seed 0

Takes a small valid source of each format, changes bytes, lines, cells, quotes, delimiters,
encodings or columns, and prepares it as ``semid data prepare`` does. It must end with exit code 2,
one line that names the source, and nothing written; or with a whole folder whose rows are those
that csv, json, ast or pyarrow give, but for those that the report counts. ``--first N`` begins at
an input, to see it again. Prints each failure and then the counts, and exits with 1 if there was a
failure.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rows_by_python import Row, Unchecked, histories, is_missing, rows, texts_by_item
from shop_formats import WITHOUT_TIMES, WRITERS

from baselines.cli.config import DataPrepareConfig
from baselines.cli.console import speaking
from baselines.cli.errors import FAILURE, SUCCESS, in_one_line
from baselines.cli.prepare import data_prepare

_IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
_PATIENCE = 20.0  # seconds of processor time, until an input counts as hung
_ODD = (
    *("\u2028", "\x85", "\x00", "\u202e", "e\u0301", "😀", "\ufeff", "\x1f", "\x0c", "\u00a0"),
    *("\\", '"', "'", ",", ";", "\t", "|", "::", "\r", "\n", "\r\n", "{", "[", ":"),
)
_VALUES = (
    *("", " ", "NaN", "nan", "null", "None", "inf", "-1", "1e400", "0x10", "007", "+7", "1,5"),
    *("9" * 30, "-9223372036854775808", "1400000000000", "2014-02-30", "02/01/2014", "1.5", "1e3"),
    *("true", "[1, 2]", "{}", "''", '""', "a,b", "x;y", "a|b", "a::b", "tab\there", "u" * 5000),
)
_ITEMS = re.compile(r"meta_|catalog|products|movies|steam_games|shop\.item")
_KINDS: tuple[Any, ...] = (pl.String, pl.Float32, pl.Int8, pl.Boolean, pl.Binary, pl.Categorical)


FORMATS = WRITERS | WITHOUT_TIMES


def changed(data: bytes, draw: random.Random) -> bytes:
    """A file with one thing changed."""
    return draw.choice(_CHANGES)(data, draw)


def _flipped(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _cut(data: bytes, draw: random.Random) -> bytes:
    first = draw.randrange(len(data))
    last = draw.choice((len(data), draw.randrange(first, len(data))))
    return data[:first] + data[last:]


def _inserted(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(_ODD).encode() * draw.choice((1, 1, 2)) + data[place:]


def _other_bytes(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.randbytes(draw.choice((1, 2, 20))) + data[place:]


def _other_lines(data: bytes, draw: random.Random) -> bytes:
    found = data.split(b"\n")
    row = draw.randrange(len(found))
    kind = draw.choice(("twice", "gone", "joined", "swapped", "blank", "cut"))
    if kind == "twice":
        found.insert(row, found[row])
    elif kind == "gone":
        del found[row]
    elif kind == "joined" and row:
        found[row - 1 : row + 1] = [found[row - 1] + found[row]]
    elif kind == "swapped":
        draw.shuffle(found)
    elif kind == "blank":
        found.insert(row, draw.choice((b"", b" ", b"\r")))
    else:
        found[row] = found[row][: len(found[row]) // 2]
    return b"\n".join(found)


def _other_value(data: bytes, draw: random.Random) -> bytes:
    """A run of letters or digits replaced."""
    words = list(re.finditer(rb"[\w.]+", data))
    if not words:
        return data
    word = draw.choice(words)
    return data[: word.start()] + draw.choice(_VALUES).encode() + data[word.end() :]


def _other_signs(data: bytes, draw: random.Random) -> bytes:
    signs = (b",", b";", b"\t", b"|", b" ", b'"', b"'", b"\n", b":", b"{", b"}")
    ends = {b"\n": (b"\r\n", b"\r", b"\n\n")}
    present = [sign for sign in signs if sign in data] or [b"0"]
    sign = draw.choice(present)
    return data.replace(sign, draw.choice((*ends.get(sign, ()), *signs)), draw.choice((1, 2, -1)))


def _encoded(data: bytes, draw: random.Random) -> bytes:
    kind = draw.choice(("utf-16", "utf-16-le", "utf-8-sig", "cp1252", "utf-32", "utf-7", "cp037"))
    return data.decode("utf-8", errors="replace").encode(kind, errors="replace")


def _doubled(data: bytes, draw: random.Random) -> bytes:
    return data + data


def _emptied(data: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"", b"\n", data.split(b"\n")[0], b" " * 9))


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flipped, _cut, _inserted, _inserted, _other_bytes, _other_lines, _other_lines),
    *(_other_value, _other_value, _other_value, _other_signs, _encoded, _doubled, _emptied),
)


def change_file(path: Path, draw: random.Random) -> None:
    """Change a file in place: its bytes, or what it compresses, or columns of its table."""
    data, as_bytes = path.read_bytes(), draw.random() < 0.3
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    if path.suffix == ".parquet" and not as_bytes:
        table = pl.from_arrow(parquet.ParquetFile(path).read())
        assert isinstance(table, pl.DataFrame)
        for _ in range(draw.choice((1, 2))):
            table = _other_column(table, draw)
        table.write_parquet(path)
        return
    if codec is not None and not as_bytes:
        with pa.input_stream(str(path), compression=codec) as stream:
            data = stream.read()
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = changed(data or b"0", draw)
    if codec is not None and not as_bytes:
        is_gzip = codec == "gzip"
        data = gzip.compress(data, 1) if is_gzip else pa.compress(data, codec, asbytes=True)
    path.write_bytes(data)


def _other_column(table: pl.DataFrame, draw: random.Random) -> pl.DataFrame:
    column = table[draw.choice(table.columns)]
    name, rows = column.name, pl.int_range(table.height, eager=True)
    kind = draw.choice(("cast", "null", "gone", "twice", "renamed", "nan", "list", "rows"))
    if kind == "cast":
        with contextlib.suppress(pl.exceptions.PolarsError):
            return table.with_columns(column.cast(draw.choice(_KINDS), strict=False))
    if kind == "null":
        return table.with_columns(column.set(rows == draw.randrange(max(table.height, 1)), None))
    if kind == "gone" and table.width > 1:
        return table.drop(name)
    if kind == "renamed":
        with contextlib.suppress(pl.exceptions.PolarsError):  # the name is that of another
            return table.rename({name: draw.choice(("x", "", "Ünï", name.upper()))})
    if kind == "nan" and column.dtype.is_numeric():
        odd = draw.choice((float("nan"), float("inf"), -1.0, 1e300, 0.5))
        return table.with_columns(column.cast(pl.Float64).set(rows == 1, odd))
    if kind == "list":
        return table.with_columns(pl.concat_list(name))
    return pl.concat([table, table.head(draw.randrange(3))]) if kind == "rows" else table


def fault_of(source: Path, out: Path) -> str | None:
    """Prepare a source; what is wrong with how that ended, None if nothing is."""
    errors = io.StringIO()
    config = DataPrepareConfig(source=str(source), out=str(out))
    console = Console(file=io.StringIO())
    with contextlib.redirect_stderr(errors), speaking(console, quiet=True):
        code = in_one_line(lambda: data_prepare(config, console))
    said = errors.getvalue()
    if code == FAILURE:
        if "fault of semid" in said or said.count("\n") != 1 or not said.startswith("semid: "):
            return said
        if str(source) not in said:
            return f"names no file: {said}"
        left = sorted(path.name for path in out.parent.iterdir() if path != source)
        return f"left {left}: {said}" if left else None
    if code != SUCCESS or said:
        return f"exit code {code}: {said}"
    return _other_rows(source, out)


def _other_rows(source: Path, out: Path) -> str | None:
    """How the rows of a prepared folder differ from those that Python reads."""
    record = json.loads((out / "data.json").read_text())
    says = [note["says"] for note in record["notes"]]
    try:
        events, items = _read(source, says)
    except Unchecked:
        return None
    except Exception as error:  # Python refuses what we have read
        return f"read, where Python says {type(error).__name__}: {error}"
    kept = pl.read_parquet(out / "interactions.parquet")
    titles = pl.read_parquet(out / "items.parquet")
    order = "timestamp" if "timestamp" in kept.columns else "position"
    known = None if items is None else {_as_id(row.get("item_id")) for row in items}
    whole = [
        row
        for row in events
        if not any(is_missing(row.get(column)) for column in ("user_id", "item_id", order))
        and (known is None or _as_id(row.get("item_id")) in known)
    ]
    if len(whole) != kept.height:
        return f"{kept.height} events where Python reads {len(whole)}"
    left_out = len(events) - len(whole)
    if left_out and not any(note["kind"] == "left out" for note in record["notes"]):
        return f"{left_out} events left out and none reported"
    for row, ours in zip(whole, kept.iter_rows(named=True), strict=True):
        if any(not _same(row.get(column), value) for column, value in ours.items()):
            return f"{ours} where Python reads {row}"
    return None if items is None else _other_items(items, titles, kept)


def _other_items(items: list[Row], ours: pl.DataFrame, events: pl.DataFrame) -> str | None:
    named = [row for row in items if not is_missing(row.get("item_id"))]
    of_python = {_as_id(row.get("item_id")): row for row in reversed(named)}
    for row in ours.iter_rows(named=True):
        same = of_python.get(_as_id(row.get("item_id")))
        if same is None:
            return f"item {row} where Python reads none"
        title = same.get("title")
        if isinstance(title, str) and title and _alone(row.get("title")) != title:
            return f"{row} where Python reads {same}"
    gone = set(of_python) - set(map(_as_id, ours["item_id"]))
    if lost := gone & set(map(_as_id, events["item_id"].unique())):
        return f"items {lost} are gone, and have events"
    return None


def _alone(value: Any) -> Any:
    """What stands alone in a list, or in lists of lists, as all titles do if one of a file does."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _read(source: Path, says: list[str]) -> tuple[list[Row], list[Row] | None]:
    files = {path.name: path for path in sorted(source.iterdir())}
    of_items = [name for name in files if _ITEMS.match(name)]
    if "format: sequences" in says or "format: letter" in says:
        of_items = [name for name in files if name.endswith(("attributes.json", ".item.json"))]
        others = [name for name in files if name.endswith((".txt", ".inter.json"))]
        others.sort(key=lambda name: bool(_ITEMS.match(name)))
        return (
            histories(files[others[0]], says),
            texts_by_item(files[of_items[0]], says) if of_items else None,
        )
    if "format: datasets" in says:
        return rows(files["train"], says, about=source.name), rows(files["items"], says)
    others = [name for name in files if name not in of_items]
    return rows(files[others[0]], says), rows(files[of_items[0]], says) if of_items else None


def _as_id(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def _same(theirs: Any, ours: Any) -> bool:
    """Whether a cell of ours is what Python reads; dates are not compared."""
    if ours is None:
        return True  # a rating that is no number, which is reported
    if isinstance(ours, str):
        return ours in (_as_id(theirs), str(theirs))
    if isinstance(theirs, str) and not re.fullmatch(r"\s*[+-]?[\d.]+([eE][+-]?\d+)?\s*", theirs):
        return bool(re.search(r"\d[-/.]\d+[-/.]\d", theirs))
    if isinstance(theirs, (str, int, float)):
        return float(theirs) == float(ours)
    return not isinstance(theirs, (list, dict))


def _inputs(number: int, first: int, seed: int, folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Changed sources, each in ``folder/source``."""
    valid = folder / "valid"
    sources = {name: write(valid / name) for name, write in FORMATS.items()}
    names = sorted(sources)
    for name in names:  # which loads the libraries too
        if (fault := fault_of(sources[name], valid / "out" / name)) is not None:
            raise RuntimeError(f"the valid {name} is not read: {fault}")
    for count in range(first, first + number):
        draw = random.Random(f"{seed} {count}")
        name = names[count % len(names)]
        source = folder / "run" / "source"
        shutil.rmtree(source.parent, ignore_errors=True)
        shutil.copytree(sources[name], source)
        files = sorted(path for path in source.rglob("*.*") if path.is_file())
        change_file(draw.choice(files), draw)
        yield count, name, source


def _hung(*_: object) -> None:
    raise TimeoutError(f"hung for {_PATIENCE} s")


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the readers; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    former = signal.signal(signal.SIGPROF, _hung)
    counts, began, failures = Counter[str](), time.perf_counter(), 0
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz-readers-", dir=_IN_MEMORY) as folder:
            inputs = _inputs(options.number, options.first, options.seed, Path(folder))
            for count, name, source in inputs:
                signal.setitimer(signal.ITIMER_PROF, _PATIENCE)
                out = source.parent / "out"
                fault = fault_of(source, out)
                signal.setitimer(signal.ITIMER_PROF, 0)
                counts["read" if out.exists() else "refused"] += 1
                if fault is not None:
                    failures += 1
                    print(f"{count} {name}: {fault.strip()[:600]}", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)
        logging.disable(logging.NOTSET)
    took = time.perf_counter() - began
    print(f"{options.number} inputs in {took:.0f} s: {dict(counts)}, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
