"""``semid inspect``: the quality of ids, of codes from a file, and of a scheme."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

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


def test_inspect_reads_a_file_of_codes_with_its_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("moved.npy", np.arange(64).reshape(32, 2) % 4 + np.array([0, 8]))
    inspect = ["inspect", "--ids", "moved.npy", "--data", "shop", "--json", "true"]
    assert main(inspect) == 2
    assert "Set offsets" in capsys.readouterr().err
    assert main([*inspect, "--settings", "{offsets: [0, 8]}"]) == 0
    assert [level["size"] for level in json.loads(capsys.readouterr().out)["levels"]] == [3, 4]
    assert main([*inspect, "--settings", "{seed: 1}"]) == 2
    assert "expected settings of a file of codes" in capsys.readouterr().err


def test_inspect_tells_the_same_of_a_folder_as_build_and_reads_files_of_codes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["build", "--data", "shop", "--out", "ids", "--ids.scheme", "random"])
    built = capsys.readouterr().out
    assert main(["inspect", "--ids", "ids"]) == 0
    assert built.startswith(capsys.readouterr().out)
    assert main(["inspect", "--ids", "codes.json", "--data", "shop", "--json", "true"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["items"], card["distinct"]) == (32, 32)
    assert card["levels"][0]["used"] == 32


def test_inspect_fits_a_scheme_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    command = ["inspect", "--tokenizer", "rqkmeans", "--data", "shop", "--json", "true"]
    assert main([*command, "--codebook_sizes", "[4,3]", "--settings", "{iterations: 2}"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [level["size"] for level in card["levels"]] == [4, 3], "collisions are left in"
    assert set(folder.iterdir()) == before


def test_inspect_asks_neighbours_in_any_space(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("text.npy", "cf.npy"):
        np.save(name, rng.normal(size=(32, 4)))
    spaces = ["--embeddings", "text.npy", "--cf_embeddings", "cf.npy"]
    fitted = ["inspect", "--tokenizer", "rqkmeans", "--data", "shop", *spaces]
    assert main([*fitted, "--json", "true"]) == 0
    found = json.loads(capsys.readouterr().out)["neighbours"]
    assert found["embeddings"]["auc"] > 0.6, "they are what the scheme was fitted on"
    assert 0.4 < found["cf_embeddings"]["auc"] < 0.6
    assert main(["inspect", "--ids", "codes.json", "--data", "shop", *spaces]) == 0
    printed = capsys.readouterr().out
    assert "embeddings: codes in common with the 10 nearest items, AUC 0.500" in printed
    assert "nearest items" in printed


def test_the_path_for_modules_is_put_back(folder: Path) -> None:
    before = list(sys.path)
    assert main(["inspect", "--tokenizer", "random", "--data", "shop"]) == 0
    assert sys.path == before
