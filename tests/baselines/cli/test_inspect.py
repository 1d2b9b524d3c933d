"""``semid inspect``: the quality of ids, of codes from a file, and of a scheme."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from baselines.cli import main


def test_inspect_holds_a_folder_against_the_catalogue_it_is_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "shop", folder / "other")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    items.head(20).write_parquet(folder / "other" / "items.parquet")
    assert main(["build", "--data", "shop", "--out", "ids", "--tokenizer", "random"]) == 0
    assert main(["inspect", "--ids", "ids", "--data", "shop"]) == 0
    capsys.readouterr()
    assert main(["inspect", "--ids", "ids", "--data", "other"]) == 2
    assert "semantic ids do not match the catalogue" in capsys.readouterr().err


def figures(*arguments: str) -> list[dict[str, Any]]:
    """The cards that the command writes."""
    assert main(["inspect", *arguments, "--json", "figures.json"]) == 0
    cards: list[dict[str, Any]] = json.loads(Path("figures.json").read_text())["cards"]
    return cards


def test_inspect_reads_a_file_of_codes_with_its_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("moved.npy", np.arange(64).reshape(32, 2) % 4 + np.array([0, 8]))
    inspect = ["moved.npy", "--data", "shop"]
    assert main(["inspect", *inspect]) == 2
    assert "Set offsets" in capsys.readouterr().err
    (card,) = figures(*inspect, "--settings", "{offsets: [0, 8]}")
    assert [level["size"] for level in card["levels"]] == [3, 4]
    assert main(["inspect", *inspect, "--settings", "{seed: 1}"]) == 2
    assert "expected settings of a file of codes" in capsys.readouterr().err


def test_inspect_tells_the_same_of_a_folder_as_build_and_reads_files_of_codes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["build", "--data", "shop", "--out", "ids", "--ids.scheme", "random"])
    built = capsys.readouterr().out
    assert main(["inspect", "--ids", "ids"]) == 0
    assert built.startswith(capsys.readouterr().out)
    (card,) = figures("file:codes.json", "--data", "shop")
    assert (card["items"], card["distinct"]) == (32, 32)
    assert card["levels"][0]["used"] == 32


def test_inspect_fits_a_scheme_and_writes_nothing_else(folder: Path) -> None:
    before = set(folder.iterdir())
    fitted = ["--tokenizer", "rqkmeans", "--data", "shop", "--codebook_sizes", "[4,3]"]
    (card,) = figures(*fitted, "--settings", "{iterations: 2}")
    assert [level["size"] for level in card["levels"]] == [4, 3], "collisions are left in"
    assert set(folder.iterdir()) - before == {folder / "figures.json"}


def test_inspect_asks_neighbours_in_any_space(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("text.npy", "cf.npy"):
        np.save(name, rng.normal(size=(32, 4)))
    spaces = ["--embeddings", "text.npy", "--cf_embeddings", "cf.npy", "--data", "shop"]
    (card,) = figures("--tokenizer", "rqkmeans", *spaces)
    found = card["neighbours"]
    assert found["embeddings"]["auc"] > 0.6, "they are what the scheme was fitted on"
    assert 0.4 < found["cf_embeddings"]["auc"] < 0.6
    assert 0 < card["reconstruction"] < 1
    capsys.readouterr()
    (card,) = figures("codes.json", *spaces)
    assert card["neighbours"]["embeddings"]["auc"] == 0.5
    assert card["reconstruction"] is None
    assert "embeddings: AUC 0.500" in " ".join(capsys.readouterr().out.split())


def test_inspect_knows_users_and_categories_from_the_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (card,) = figures("codes.json", "--data", "shop", "--split", "cold:0.5")
    assert card["popularity"]["events"] > 0
    assert 0 < card["cold"]["items"] < 32
    assert card["cold"]["support"] == [0.0], "each item has a code of its own"
    assert card["neighbours"]["cooccurrence"]["auc"] == 0.5
    columns = pl.read_parquet(folder / "shop" / "items.parquet").columns
    (card,) = figures("codes.json", "--data", "shop", "--category", columns[-1])
    assert card["categories"] == {"items": 32, "purity": [None]}, "nobody shares a code"
    assert main(["inspect", "codes.json", "--data", "shop", "--category", "colour"]) == 2
    assert "expected the column 'colour'" in capsys.readouterr().err


def test_inspect_needs_no_events(folder: Path) -> None:
    Path("items").mkdir()
    shutil.copy("shop/items.parquet", "items/items.parquet")
    (card,) = figures("codes.json", "--data", "items")
    assert not {"popularity", "cold", "neighbours"} & set(card)


def test_inspect_shows_many_ids_side_by_side_within_80_columns(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sizes = ["[4,4]", "[8,4]", "[4,4,4]", "[2,2]", "[16,4]"]
    names = [f"ids-{number}" for number in range(5)]
    for name, size in zip(names, sizes, strict=True):
        build = ["build", "--data", "shop", "--out", name, "--ids.codebook_sizes", size]
        assert main([*build, "--ids.scheme", "random"]) == 0
    capsys.readouterr()
    cards = figures(*names, "--data", "shop")
    printed = capsys.readouterr().out
    assert [card["name"] for card in cards] == names
    assert max(map(len, printed.splitlines())) <= 80
    headers = [line.split() for line in printed.splitlines() if line.endswith("random")]
    assert [name for line in headers for name in line[::2]] == list("ABCDE")
    distinct = [line.split()[2:] for line in printed.splitlines() if line.startswith("distinct")]
    flat = [int(value) for line in distinct for value in line]
    assert flat[::2] == [card["distinct"] for card in cards]
    assert flat[1::2] == [card["control"]["distinct"] for card in cards]


def test_inspect_finds_the_ids_of_a_trained_model(folder: Path) -> None:
    assert main(["build", "--data", "shop", "--out", "models/one/ids"]) == 0
    inside, itself = figures("models/one", "models/one/ids")
    assert {**inside, "name": itself["name"]} == itself


def test_ids_in_another_order_are_held_against_the_same_vectors(folder: Path) -> None:
    shutil.copytree(folder / "shop", folder / "turned")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    items.reverse().write_parquet(folder / "turned" / "items.parquet")
    for data in ("shop", "turned"):
        assert main(["build", "--data", data, "--out", f"ids-{data}"]) == 0
    np.save("text.npy", np.random.default_rng(0).normal(size=(32, 4)))
    _, other = figures("ids-shop", "ids-turned", "--embeddings", "text.npy")
    (turned,) = figures("ids-turned", "--embeddings", "text.npy", "--data", "shop")
    assert other["neighbours"]["embeddings"] == turned["neighbours"]["embeddings"]


def test_strict_exits_with_1_if_a_threshold_is_missed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("same_codes.npy", np.zeros((32, 2), dtype=np.int64))
    inspect = ["inspect", "same_codes.npy", "--data", "shop", "--json", "missed.json"]
    assert main(inspect) == 0
    capsys.readouterr()
    assert main([*inspect, "--strict"]) == 1
    said = capsys.readouterr()
    assert "thresholds are missed" in said.err
    assert "share of items that collide: A 1; at most 0.01 (rule of thumb)." in said.out
    assert Path("missed.json").is_file()
    even = np.stack(np.divmod(np.arange(32), 4), axis=1)
    np.save("even.npy", even)
    Path("items").mkdir()
    pl.read_parquet("shop/items.parquet").select("item_id").write_parquet("items/items.parquet")
    assert main(["inspect", "even.npy", "--data", "items", "--strict"]) == 0


def test_the_path_for_modules_is_put_back(folder: Path) -> None:
    before = list(sys.path)
    assert main(["inspect", "--tokenizer", "random", "--data", "shop"]) == 0
    assert sys.path == before
