"""Warm and cold targets apart: known answers, and a study from its file to its table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from baselines.cli import main
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.random_effects import paired_difference, summarize_runs
from baselines.experiments.cold_study import by_part, cold_table
from baselines.experiments.comparison import RunRecord, compare
from baselines.experiments.study import StudyPlan, StudyRun
from baselines.models.trained import TrainedModel

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
                "fusion": {"arms": ["causal:ntp"], "weights": [0.5]},
                "ids": {"codebook_sizes": [4, 4]},
                "teacher": {"model": "itemknn"},
                "backbones": {"causal": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}},
                "training": {"epochs": 1},
                "evaluation": {"beam": 60, "cutoffs": [10, 50], "validation_targets": 20},
            },
        },
        "slots": {
            "command": "compare",
            "hours": 0.1,
            "after": "half",
            "options": {"evaluation": {"slots": 3}},
        },
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
    found = by_part([student, replace(content, role="reference")], data, baseline="student")
    assert list(found) == ["overall", "warm", "cold"]
    users = [each.statistics["users"] for each in found.values()]
    assert users == [len(cold), (~cold).sum(), cold.sum()]
    for name, gain in (("warm", -1.0), ("cold", 1.0)):
        of_student, of_content = (row.metrics["removed"]["R@10"].mean for row in found[name].rows)
        assert (of_student, of_content) == (float(gain < 0), float(gain > 0))
        one = found[name].difference("content", "student", policy="removed", metric="R@10")
        assert (one.mean, one.low, one.high) == (gain, gain, gain)
    one = found["overall"].difference("content", "student", policy="removed", metric="R@10")
    assert one.mean == pytest.approx(2 * cold.mean() - 1)


def test_intervals_hold_the_noise_of_seeds() -> None:
    data, rng = shop("cold:0.5"), np.random.default_rng(0)
    cold = cold_targets(data)
    hits = {
        (arm, seed): rng.random(len(cold)) < rate
        for arm, rates in (("student", (0.2, 0.5, 0.4)), ("other", (0.9, 0.4, 0.7)))
        for seed, rate in enumerate(rates)
    }
    records = [run_of(arm, seed, each) for (arm, seed), each in hits.items()]
    part = by_part(records, data, baseline="student")["cold"]
    found = part.difference("other", "student", policy="removed", metric="R@10")
    runs = [
        summarize_runs(np.stack([hits[arm, seed][cold] for seed in range(3)])[..., None] * 1.0)
        for arm in ("other", "student")
    ]
    gain = paired_difference(*runs)
    assert (found.mean, found.low, found.high) == (gain.mean[0], gain.low[0], gain.high[0])
    assert found.low < 0 < found.high, "three seeds that differ this much do not tell"


def test_there_are_no_parts_without_cold_items() -> None:
    data = shop("leave_one_out")
    record = run_of("student", 0, np.ones(data.splits.test.num_targets, dtype=bool))
    assert by_part([record], data, baseline="student") == {}


def test_the_table_shows_the_parts_and_why_cold_items_miss() -> None:
    run = StudyRun(command="compare", hours=0.1)
    plan = StudyPlan(title="Cold", runs={"half": run})
    data = shop("cold:0.5")
    cold = cold_targets(data)
    hits = {"student": ~cold, "other": cold}
    twice = [run_of(arm, seed, of_arm) for arm, of_arm in hits.items() for seed in (0, 1)]
    for seed, each in enumerate(twice[:2]):
        each.evaluation["cold_survival"] = [0.5 + seed / 4, 0.25]
    comparison = replace(
        compare(twice, baseline="student", schemes=[{"name": None, "cold_support": [0.75, 0.5]}]),
        cold_start=by_part(twice, data, baseline="student"),
    )
    text = cold_table(plan, {"half": {"result": asdict(comparison)}})
    warm, share = 1 - cold.mean(), "0.0000 (-1.0000, -1.0000) | 1.0000 (+1.0000, +1.0000) | 0.250"
    assert f"| half | student | 2 | {warm:.4f} | 1.0000 | 0.0000 | 0.250 |" in text
    assert f"| half | other | 2 | {1 - warm:.4f} (" in text
    assert f") | {share} |" in text
    assert "| half | ids | 0.750, 0.500 | 1.25 |" in text
    assert "| half | student | 0.625, 0.250 |" in text


def test_a_run_without_cold_items_is_named() -> None:
    plan = StudyPlan(title="Cold", runs={"all": StudyRun(command="compare", hours=0.1)})
    record = run_of("student", 0, np.ones(5, dtype=bool))
    result = asdict(compare([record], baseline="student"))
    with pytest.raises(ValueError, match="run all has no cold items"):
        cold_table(plan, {"all": {"result": result}})


def test_a_study_from_its_file_to_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    Path("studies/cold.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    assert main(["study", "cold", "--quiet"]) == 0
    result = json.loads(Path("studies/cold/half.json").read_text())["result"]
    popularity, *_, student, fused = result["rows"]
    (of_popularity,) = popularity["evaluations"]
    assert of_popularity["cold_share"] < 0.3  # items without events come last
    overall, warm, cold = result["cold_start"].values()
    recall, of_warm, of_cold = (
        part["rows"][-2]["metrics"]["removed"]["R@50"]["mean"] for part in (overall, warm, cold)
    )
    assert recall == student["metrics"]["removed"]["R@50"]["mean"]
    users, of_part = overall["statistics"]["users"], warm["statistics"]["users"]
    mean = (of_part * of_warm + (users - of_part) * of_cold) / users
    assert recall == pytest.approx(mean)
    measured = {each["arm"] for each in cold["differences"]}
    assert measured == {row["arm"] for row in result["rows"]} - {student["arm"]}
    (notes,) = student["evaluations"]
    survival = notes["cold_survival"]
    assert len(survival) == len(result["schemes"][0]["cold_support"])
    assert survival[-1] == 1, "a beam over all items keeps every path"
    shares = result["schemes"][0]["cold_support"]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[0] <= 1
    table = Path("studies/cold/table.md").read_text()
    assert f"{shares[0]:.3f}" in table
    assert (
        f"| half | {student['arm']} | {', '.join(f'{share:.3f}' for share in survival)} |" in table
    )
    assert "Popularity" in table
    _slots_are_ranked_without_training_and_served(student, fused)


def _slots_are_ranked_without_training_and_served(
    student: dict[str, Any], fused: dict[str, Any]
) -> None:
    result = json.loads(Path("studies/cold/slots.json").read_text())["result"]
    assert result["settings"]["places reserved for content"] == 3
    for before, after in zip((student, fused), result["rows"][-2:], strict=True):
        assert before["train_seconds"] == after["train_seconds"]
        (notes,), (plain,) = after["evaluations"], before["evaluations"]
        assert notes["cold_share"] > max(0.3, plain["cold_share"])
        assert notes["cold_survival"] == plain["cold_survival"]
        assert before["metrics"]["removed"] != after["metrics"]["removed"]
    run = "runs/studies/cold/half"
    assert main(["pick", "--run", run, "--row", fused["arm"], "--out", "picked"]) == 0
    for folder in (f"{run}/causal-ntp-0", "picked"):
        slots = TrainedModel.load(Path(folder)).slots
        assert slots is not None
        assert slots.number == 3
