"""Folders that Hugging Face's datasets saved, and names on the Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from baselines.data.config import source_kind
from baselines.data.loading import load_dataset
from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.prepare import PlainTables, prepare_source
from scripts.shop_formats import EVENTS, ITEMS, datasets, delimited


def prepared(source: str | Path, **settings: Any) -> PlainTables:
    return prepare_source(source, SourceConfig(**settings), PreparationConfig())


def test_one_split_is_a_table_of_events(tmp_path: Path) -> None:
    folder = datasets(tmp_path / "shop") / "train"
    found = prepared(folder)
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items["item_id"].to_list() == [11, 12, 13, 14]
    items = delimited(tmp_path / "items.csv", ITEMS)
    assert prepared(folder, items=str(items)).items["title"].equals(ITEMS["title"])


def test_splits_of_events_are_put_together(tmp_path: Path) -> None:
    folder = datasets(tmp_path)
    (folder / "train").rename(folder / "more")
    datasets(tmp_path / "again")
    (tmp_path / "again" / "train").rename(folder / "train")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "more", "items"]}')
    found = prepared(folder)
    assert found.events.select(EVENTS.columns).equals(pl.concat([EVENTS, EVENTS]))
    assert "splits train, more put together" in " ".join(note.says for note in found.notes)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    for number, (file, content, says) in enumerate(
        (
            ("train/state.json", '{"_data_files": []}', "expected names of files in _data_files"),
            (
                "train/state.json",
                '{"_data_files": [{"filename": "../x"}]}',
                "expected names of files in _data_files",
            ),
            ("train/data-00000-of-00001.arrow", "no arrow", "arrow cannot be read"),
            ("dataset_dict.json", '{"splits": [1]}', "expected names of splits"),
            ("dataset_dict.json", '{"splits": ["items"]}', "expected a column such as user_id"),
            ("dataset_dict.json", '{"splits": ["items", "items_2"]}', "no.*items_2.state"),
        )
    ):
        folder = datasets(tmp_path / str(number))
        (folder / file).write_text(content)
        with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
            prepared(folder)
        assert str(folder) in str(caught.value)


class Rows:
    """A split of a data set of the package."""

    def __init__(self, table: pl.DataFrame) -> None:
        self.table = table

    def with_format(self, kind: str) -> Rows:
        assert kind == "arrow"
        return self

    def __getitem__(self, rows: slice) -> Any:
        assert rows == slice(None)
        return self.table.to_arrow()


def test_a_name_on_the_hub_is_loaded_by_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, configuration: str | None) -> dict[str, Rows]:
        asked.append((name, configuration))
        return {"train": Rows(EVENTS.head(4)), "test": Rows(EVENTS.tail(6)), "items": Rows(ITEMS)}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))  # type: ignore[arg-type]
    assert source_kind("hf:me/shop") == "hub"
    found = prepared("hf:me/shop:full")
    assert found.events.select(EVENTS.columns).equals(EVENTS)
    assert found.items.select(ITEMS.columns).equals(ITEMS)
    assert load_dataset("hf:me/shop").splits.test.num_targets == 3
    assert asked == [("me/shop", "full"), ("me/shop", None)]


def test_without_the_package_or_a_network_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hf:me/shop is loaded by the package datasets"):
        prepared("hf:me/shop")

    def load(name: str, configuration: str | None) -> None:
        raise ConnectionError(f"cannot reach {json.dumps(name)}\nRetry")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'cannot reach "me/shop"\).*save_to_disk') as caught:
        prepared("hf:me/shop")
    assert "\n" not in str(caught.value)
