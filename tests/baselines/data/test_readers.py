"""A reader's tables are those of files, and its data set is taken as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from baselines.data.config import source_kind
from baselines.data.loading import load_catalog, load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset

WORLD = synthetic_dataset(num_users=50, num_items=40, num_categories=2)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module whose functions a test sets."""
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "readers_of_mine", module)  # type: ignore[arg-type]
    return module


@pytest.mark.parametrize("kind", ["polars", "pandas", "columns"])
@pytest.mark.parametrize("split", ["auto", "global_time"])
def test_tables_give_the_data_that_files_with_them_give(
    readers: SimpleNamespace, tmp_path: Path, kind: str, split: Any
) -> None:
    write_plain_layout(WORLD, tmp_path / "world")
    tables = [
        pl.read_parquet(tmp_path / "world" / f"{name}.parquet")
        for name in ("items", "interactions")
    ]
    if kind == "pandas":
        pytest.importorskip("pandas")
        tables = [table.to_pandas() for table in tables]
    elif kind == "columns":
        tables = [table.to_dict(as_series=False) for table in tables]
    readers.load = lambda: tuple(tables)
    found = load_dataset("readers_of_mine:load", split=split)
    expected = load_dataset(tmp_path / "world", split=split)
    assert found.catalog.order_hash == expected.catalog.order_hash
    assert found.catalog.texts() == expected.catalog.texts()
    for part in ("train", "valid", "test"):
        hashes = {getattr(data.splits, part).content_hash() for data in (found, expected)}
        assert len(hashes) == 1
    assert found.statistics == expected.statistics
    assert found.name == "readers_of_mine:load"
    assert load_catalog("readers_of_mine:load").order_hash == expected.catalog.order_hash


def test_a_data_set_is_taken_as_it_is_and_its_split_with_it(readers: SimpleNamespace) -> None:
    readers.load = lambda: WORLD
    assert load_dataset("readers_of_mine:load") is WORLD
    options: tuple[dict[str, Any], ...] = (
        {"split": "global_time"},
        {"ties": "item"},
        {"repeats": "exact"},
        {"time_format": "%d/%m/%Y"},
    )
    for option in options:
        with pytest.raises(ValueError, match=f"{next(iter(option))} cannot be chosen for readers_"):
            load_dataset("readers_of_mine:load", **option)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (None, "expected a Dataset, or tables of items and interactions, .* got NoneType"),
        (({"title": ["a"]}, {}), "items of readers_of_mine:load has no column item_id"),
        (({"item_id": []}, {}), "expected rows in items of readers_of_mine:load, got none"),
        ((3, {}), "expected a polars or pandas frame, or columns by name, as items"),
        (
            ({"item_id": ["a"]}, {"user_id": ["u"], "item_id": ["a"]}),
            "expected columns user_id, item_id, and timestamp or position in interactions",
        ),
        (({"item_id": ["a", "a"]}, {}), "item ids must be unique"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(
    readers: SimpleNamespace, read: Any, says: str
) -> None:
    readers.load = lambda: read
    with pytest.raises(ValueError, match=says) as refused:
        load_dataset("readers_of_mine:load")
    assert "\n" not in str(refused.value)


def test_what_a_source_is_is_told_by_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_kind("synthetic") == source_kind("synthetic:90x40") == "synthetic"
    assert source_kind("nowhere.at_all:load") == "reader", "and nothing is imported"
    Path("nowhere:load").mkdir()
    assert source_kind("nowhere:load") == "folder"
    for wrong in ("nowhere", "nowhere:", ":load", "a/b:load", "1a:load"):
        with pytest.raises(FileNotFoundError, match=r"or a reader package\.module:function"):
            source_kind(wrong)
