"""The rows of counted scorers, which stand in every comparison by default."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_comparison import TINY, results, trained

from baselines.cli import main
from baselines.data.loading import load_dataset
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from baselines.teachers.config import TeacherConfig
from baselines.teachers.counting_config import ContentConfig
from semid.config import IdsConfig
from semid.embed import Embeddings
from semid.provenance import ProvenanceError

COUNTED = ["Rules", "Content", "Rules + content"]
OUTSIDE = """
import torch

class Scorer:
    max_history = 9
    def __init__(self, scores): self.scores = scores
    def score(self, histories): return self.scores.expand(len(histories.mask), -1).clone()

def even(dataset, seed, *, step):
    return Scorer(step * torch.arange(len(dataset.catalog)).float())
"""


def one_arm(data: Path, out: Path, **changes: object) -> CompareConfig:
    settings = {"data": str(data), "out": str(out), "arms": ("causal:ntp",), "seeds": (0,)}
    return dataclasses.replace(TINY, **(settings | changes))


def arms(out: str | Path) -> list[str]:
    return [row["arm"] for row in results(out)["rows"]]


def test_counted_rows_stand_below_popularity_and_have_no_seed(done: CompareConfig) -> None:
    rows = results(done.out)["rows"]
    assert [row["arm"] for row in rows[:4]] == ["Popularity", *COUNTED]
    assert [(row["role"], row["seeds"]) for row in rows[1:4]] == [("reference", [None])] * 3


def test_a_scorer_that_is_the_teacher_has_one_row_and_one_fit(shop: Path, tmp_path: Path) -> None:
    run_comparison(one_arm(shop, tmp_path / "out", teacher=TeacherConfig(model="rules")))
    assert arms(tmp_path / "out")[:4] == [
        "Popularity", "Content", "Rules + content", "Rules (teacher)",
    ]  # fmt: skip
    assert len(list((tmp_path / "out" / "teachers").rglob("rules-*"))) == 1


def test_without_text_the_rows_of_content_are_left_out_and_this_is_said(
    shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(shop, data)
    items = pl.read_parquet(data / "items.parquet")
    items.select("item_id").write_parquet(data / "items.parquet")
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(len(items), 4)))
    ids = IdsConfig(embeddings=str(tmp_path / "vectors.npy"), codebook_sizes=(4, 4))
    with caplog.at_level(logging.WARNING):
        run_comparison(one_arm(data, out, ids=ids))
    assert arms(out)[:3] == ["Popularity", "Rules", "SASRec ce (teacher)"]
    for name in ("content", "rules+content"):
        assert f"no row {name}: the catalogue has no text" in caplog.text
        assert f"| no row {name} | the catalogue has no text" in (out / "comparison.md").read_text()


def test_vectors_that_have_seen_other_interactions_are_refused_for_a_row_as_for_a_teacher(
    shop: Path, tmp_path: Path
) -> None:
    catalog = load_dataset(str(shop)).catalog
    vectors = np.ones((len(catalog), 4), dtype=np.float32)
    Embeddings.of(vectors, catalog, seen="other").save(tmp_path / "vectors")
    content = ContentConfig(embeddings=str(tmp_path / "vectors"))
    teacher = dataclasses.replace(TINY.teacher, content=content)
    with pytest.raises(ProvenanceError, match="training interactions of the content's item"):
        run_comparison(one_arm(shop, tmp_path / "out", teacher=teacher))


def test_a_teacher_with_settings_of_its_own_leaves_the_rows_as_they_are(
    done: CompareConfig, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside_counted.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    teacher = TeacherConfig(model="outside_counted:even", settings={"step": 0.1})
    run_comparison(one_arm(shop, tmp_path / "out", teacher=teacher))
    rows = results(tmp_path / "out")["rows"][1:4]
    assert [row["metrics"] for row in rows] == [
        row["metrics"] for row in results(done.out)["rows"][1:4]
    ]


def test_the_teacher_command_counts_what_a_comparison_then_loads_and_names_its_weight(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teachers, out = tmp_path / "teachers", tmp_path / "out"
    options = [
        "--data",
        str(shop),
        "--out",
        str(teachers / "counted"),
        "--teacher.model",
        "rules+content",
    ]
    assert main(["teacher", "train", *options, "--seeds", "[0]"]) == 0
    printed = capsys.readouterr().out
    counted = trained(teachers)
    run_comparison(one_arm(shop, out, teachers=str(teachers)))
    assert counted.items() <= trained(teachers).items()
    assert len(list(teachers.rglob("rules+content-*"))) == 1
    (row,) = (row for row in results(out)["rows"] if row["arm"] == "Rules + content")
    weight = row["evaluations"][0]["chosen"]["weight of content"]
    assert f"weight of content, seed 0: {weight:g}, chosen on validation" in printed
    page = (out / "comparison.md").read_text()
    assert f"| Rules + content | weight of content | {weight:g} |" in page


def test_a_counted_row_is_no_generator_to_pick(
    done: CompareConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--run", done.out, "--out", str(tmp_path / "picked"), "--row", "Rules"]
    assert main(["pick", *options]) == 2
    assert "which is no generator's" in capsys.readouterr().err
    assert not (tmp_path / "picked").exists()
