"""Sources that are read in small blocks are the same data sets."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import astuple
from itertools import repeat
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.blocks import one_table
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.prepare import PlainTables, prepare_source
from scripts.shop_formats import EVENTS, WRITERS, lines
from semid.json_lines import as_it_is, table_of_objects

CORE = PreparationConfig(repeats="exact", max_history=3, item_core=2)


def prepared(source: Path, config: PreparationConfig = CORE) -> PlainTables:
    return prepare_source(source, SourceConfig(), config)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semid.delimited.BLOCK_BYTES", 5)
    monkeypatch.setattr("semid.json_lines.BLOCK_LINES", 2)
    monkeypatch.setattr("semid.tables.BLOCK_ROWS", 3)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_the_same_in_small_blocks(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = WRITERS[name](tmp_path / name)
    whole = prepared(source)
    request.getfixturevalue("small_blocks")
    found = prepared(source)
    assert_frame_equal(found.events, whole.events)
    assert_frame_equal(found.items, whole.items)
    assert found.counts == whole.counts
    assert list(map(astuple, found.notes)) == list(map(astuple, whole.notes))


@pytest.mark.usefixtures("small_blocks")
def test_ids_that_become_text_in_a_later_block_are_text_from_the_first_on(tmp_path: Path) -> None:
    rows = [f'{{"user_id": {user}, "item_id": 1.0, "timestamp": 3}}' for user in (1, 2, '"x"')]
    found = prepared(lines(tmp_path / "log.jsonl", rows), PreparationConfig()).events
    assert found.rows() == [("1", 1, 3), ("2", 1, 3), ("x", 1, 3)]
    rows = ["user_id,item_id,timestamp", "1,2,3", "2,2,3", "007,NULL,3", "x,2,3"]
    found = prepared(lines(tmp_path / "log.csv", rows), PreparationConfig()).events
    assert found.rows() == [("1", 2, 3), ("2", 2, 3), ("x", 2, 3)]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("log.csv", "1,2", "log.csv cannot be read: line 42: 2 cells, but the header has 4"),
        ("log.csv", '"1"2,3,4,5', "log.csv cannot be read: line 42: ',' expected after"),
        ("log.csv.gz", "1,2", "log.csv.gz cannot be read: line 42: 2 cells"),
        ("log.csv", "1,2,3,soon", "got 'soon' in row 40"),
        ("log.jsonl", "{", "log.jsonl cannot be read: line 42: expected an object"),
        ("log.jsonl", '{"user_id": 1, "item_id": 2, "timestamp": "soon"}', "got 'soon' in row 41"),
    ],
)
def test_what_is_wrong_in_a_later_block_is_named_by_file_and_row(
    tmp_path: Path, name: str, row: str, message: str
) -> None:
    event = "1,2,3,4" if ".csv" in name else '{"user_id": 1, "item_id": 2, "timestamp": 3}'
    heading = ["user_id,item_id,rating,timestamp"] if ".csv" in name else [event]
    path = lines(tmp_path / name, [*heading, *[event] * 40, row, *[event] * 9])
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        prepared(path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small_blocks")
def test_a_later_byte_that_is_not_utf8_makes_the_file_windows_1252(tmp_path: Path) -> None:
    rows = ["user_id,item_id,timestamp", *["ü,2,3"] * 30, "Zoë,2,3", "1,2,3"]
    found = prepared(lines(tmp_path / "log.csv", rows, "cp1252"), PreparationConfig())
    assert set(found.events["user_id"]) == {"ü", "Zoë", "1"}
    note = next(note for note in found.notes if "Windows-1252" in note.says)
    assert note.examples == [{"line": 2, "text": "ü,2,3"}]
    path = tmp_path / "other.csv"
    path.write_bytes((tmp_path / "log.csv").read_bytes() + b"\x81,2,3\n")
    with pytest.raises(ValueError, match="line 2: expected text in UTF-8, got the byte 0xfc"):
        prepared(path)


def test_columns_that_events_do_not_need_are_not_read(tmp_path: Path) -> None:
    rows = [{**row, "text": "cut \ud83d", "note": [row["user_id"]]} for row in EVENTS.to_dicts()]
    path = lines(tmp_path / "log.jsonl", [json.dumps(row) for row in rows])
    found = prepared(path, PreparationConfig())
    assert found.events.select(EVENTS.columns).equals(EVENTS)


PREPARE = """
import sys
from baselines.cli import main
from baselines.runtime.memory import peak_memory
assert main(["data", "prepare", *sys.argv[1:], "--prepare.item_core", "5"]) == 0
print(peak_memory()["peak memory"])
"""


def peak_of_preparing(table: pl.DataFrame, path: Path) -> float:
    """The peak memory, in GiB, of a process that prepares this table."""
    writers = {".csv": "write_csv", ".jsonl": "write_ndjson", ".parquet": "write_parquet"}
    getattr(table, writers[path.suffix])(path)
    words = [str(path), "--out", str(path.with_suffix(".out"))]
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"POLARS_MAX_THREADS": "2"},  # each thread holds blocks of its own
    )
    return float(done.stdout.splitlines()[-1].removesuffix(" GiB"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_three_million_events_take_less_than_half_a_gigabyte(kind: str, tmp_path: Path) -> None:
    blocks = [
        pl.DataFrame(
            {
                "user_id": pl.int_range(10**6, eager=True).hash(seed) % 150_000,
                "item_id": pl.int_range(10**6, eager=True).hash(seed + 9) % 30_000,
                "timestamp": pl.int_range(10**6, eager=True) + 1_400_000_000,
            }
        ).select(pl.format("customer-{}", "user_id").alias("user_id"), "item_id", "timestamp")
        for seed in range(3)
    ]
    few = pl.DataFrame({"user_id": ["a"] * 5, "item_id": [1] * 5, "timestamp": range(5)})
    imports = peak_of_preparing(few, tmp_path / f"few.{kind}")
    assert peak_of_preparing(pl.concat(blocks), tmp_path / f"log.{kind}") - imports < 0.5


def blocks_of_rows(rows: int) -> pl.DataFrame:
    return one_table(
        (pl.DataFrame({"item_id": range(10_000)}),) * (rows // 10_000), lambda name: as_it_is
    )


def blocks_of_lines(rows: int) -> pl.DataFrame:
    return table_of_objects(repeat('{"item_id": 1}', rows))


@pytest.mark.parametrize("read", [blocks_of_rows, blocks_of_lines])
def test_a_block_costs_the_same_however_many_came_before(
    read: Callable[[int], pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semid.json_lines.BLOCK_LINES", 1000)
    peaks = []
    for rows in (20_000, 20_000, 200_000):  # the first loads what is needed
        tracemalloc.start()
        try:
            assert read(rows).height == rows
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 200_000
