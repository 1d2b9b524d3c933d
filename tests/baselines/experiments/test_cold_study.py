"""Warm and cold targets apart: known answers, and a study from its file to its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from baselines.cli import main
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.cold_study import cold_table, with_cold_start
from baselines.experiments.comparison import RunRecord
from baselines.experiments.study import StudyPlan, StudyRun

STUDY: dict[str, Any] = {
    "title": "A tiny cold start",
    "table": "cold",
    "runs": {
        "half": {
            "command": "compare",
            "hours": 0.1,
            "options": {
                "data": "synthetic:120x60",
                "split": "cold:0.5",
                "seeds": [0],
                "arms": ["causal:ntp"],
                "ids": {"codebook_sizes": [4, 4]},
                "teacher": {"model": "itemknn"},
                "backbones": {"causal": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}},
                "training": {"epochs": 1},
                "evaluation": {"beam": 60, "cutoffs": [10, 50], "validation_targets": 20},
            },
        }
    },
}


def shop(split: str) -> Dataset:
    return synthetic_dataset(num_users=200, num_items=80, num_categories=4, split=split)


def cold_targets(data: Dataset) -> NDArray[np.bool_]:
    test = data.splits.test
    return np.isin(test.items[test.targets()[1]], data.cold_items)


def run_of(arm: str, seed: int | None, hits: NDArray[np.bool_]) -> RunRecord:
    values = {"R@10": hits.astype(np.float64)}
    return RunRecord(
        arm=arm,
        role="arm",
        seed=seed,
        per_user={"removed": values, "kept": values},
        parameters=0,
        train_seconds=0.0,
        evaluation={"cold_share": 0.25},
    )


def test_parts_have_their_own_means_and_intervals() -> None:
    data = shop("cold:0.5")
    cold = cold_targets(data)
    student, content = run_of("student", 0, ~cold), run_of("content", None, cold)
    found = with_cold_start([student, content], data, baseline="student")
    of_student, of_content = (each.evaluation["cold_start"] for each in found)
    assert of_student["cold"] == {"targets": int(cold.sum()), "R@10": {"mean": 0.0}}
    assert of_student["warm"] == {"targets": int((~cold).sum()), "R@10": {"mean": 1.0}}
    assert of_content["cold"]["R@10"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert of_content["warm"]["R@10"] == {"mean": 0.0, "low": -1.0, "high": -1.0}


def test_each_seed_is_paired_with_the_baseline_of_its_seed() -> None:
    data = shop("cold:0.5")
    none, every = (np.full(len(cold_targets(data)), value) for value in (False, True))
    records = [
        run_of("student", 0, none),
        run_of("student", 1, every),
        run_of("other", 0, every),
        run_of("other", 1, every),
    ]
    found = with_cold_start(records, data, baseline="student")
    lows = [each.evaluation["cold_start"]["cold"]["R@10"]["low"] for each in found[2:]]
    assert lows == [1.0, 0.0]


def test_records_without_cold_items_stay_as_they_are() -> None:
    data = shop("leave_one_out")
    record = run_of("student", 0, np.ones(data.splits.test.num_targets, dtype=bool))
    assert with_cold_start([record], data, baseline="student") == [record]


def test_the_table_shows_the_parts_and_their_mean() -> None:
    run = StudyRun(command="compare", hours=0.1)
    plan = StudyPlan(title="Cold", runs={"half": run})
    parts = {
        "warm": {"targets": 3, "R@10": {"mean": 0.2, "low": -0.1, "high": 0.1}},
        "cold": {"targets": 1, "R@10": {"mean": 0.6}},
    }
    notes = {"cold_share": 0.25, "cold_start": parts}
    row = {"arm": "content", "seeds": [None], "evaluations": [notes]}
    result = {"rows": [row], "schemes": [{"name": None, "cold_support": [0.75, 0.5]}]}
    text = cold_table(plan, {"half": {"result": result}})
    cells = "half | content |  | 0.3000 | 0.2000 (-0.1000, +0.1000) | 0.6000 | 0.250"
    assert f"| {cells} |" in text
    assert "| half | ids | 0.750, 0.500 | 1.25 |" in text


def test_a_run_without_cold_items_is_named() -> None:
    plan = StudyPlan(title="Cold", runs={"all": StudyRun(command="compare", hours=0.1)})
    row: dict[str, Any] = {"arm": "content", "seeds": [None], "evaluations": [{}]}
    with pytest.raises(ValueError, match="run all has no cold items"):
        cold_table(plan, {"all": {"result": {"rows": [row], "schemes": []}}})


def test_a_study_from_its_file_to_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    Path("studies/cold.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    assert main(["study", "cold", "--quiet"]) == 0
    result = json.loads(Path("studies/cold/half.json").read_text())["result"]
    popularity, *_, student = result["rows"]
    (of_popularity,) = popularity["evaluations"]
    assert of_popularity["cold_share"] < 0.3  # items without events come last
    (notes,) = student["evaluations"]
    parts = notes["cold_start"]
    weighted = sum(part["targets"] * part["R@50"]["mean"] for part in parts.values())
    targets = sum(part["targets"] for part in parts.values())
    overall = student["metrics"]["removed"]["R@50"]["mean"]
    assert weighted / targets == pytest.approx(overall)
    shares = result["schemes"][0]["cold_support"]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[0] <= 1
    table = Path("studies/cold/table.md").read_text()
    assert f"{shares[0]:.3f}" in table
    assert "Popularity" in table
