"""Hyper-parameter search as a study: suggestions, trials, and what interrupts them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from baselines.cli import main
from baselines.experiments.search import SearchPlan, nested

SHAPE = {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1, "ff_dim": 8}}
SEARCH: dict[str, Any] = {
    "command": "teacher train",
    "trials": 3,
    "hours": 0.1,
    "options": {"seeds": [0, 1], "teacher": {"sasrec": SHAPE}, "training": {"epochs": 1}},
    "space": {
        "training.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "training.batch_events": {"low": 50, "high": 100},
        "training.betas": [[0.9, 0.98], [0.9, 0.999]],
    },
}
STUDY: dict[str, Any] = {
    "title": "A tiny search",
    "table": "search",
    "defaults": {"teacher train": {"data": "synthetic:40x32"}},
    "search": SEARCH,
}


def plan(**changes: Any) -> SearchPlan:
    values = {"command": "compare", "trials": 5, "hours": 1.0, "space": {"tau": [1.0]}}
    return SearchPlan(**{**values, **changes})


def test_suggestions_lie_in_the_space_are_repeatable_and_find_the_best() -> None:
    pytest.importorskip("optuna")
    space = {
        "x": {"low": 0.0, "high": 1.0},
        "n": {"low": 1, "high": 64, "log": True},
        "c": [[1], 2],
    }
    search, judged = plan(space=space), []
    for _ in range(25):
        params = search.suggested(judged)
        assert params == search.suggested(judged)
        assert 0 <= params["x"] <= 1
        assert params["n"] in range(1, 65)
        assert params["c"] in ([1], 2)
        judged.append((params, -((params["x"] - 0.3) ** 2) - (params["c"] == 2)))
    best = max(judged, key=lambda trial: trial[1])[0]
    assert best["x"] == pytest.approx(0.3, abs=0.05)
    assert best["c"] == [1]
    assert len({params["x"] for params, _ in judged}) > 20


def test_a_finished_trial_gives_back_what_was_suggested() -> None:
    search = plan(space={"a.b": [[1], [2]], "a.c": {"low": 1, "high": 3}, "d": [None, "x"]})
    params = {"a.b": [2], "a.c": 3, "d": None}
    options = {**nested(params), "other": 1}
    assert options == {"a": {"b": [2], "c": 3}, "d": None, "other": 1}
    assert search.params_of(options) == params
    assert search.params_of({**options, "a": {"b": [3], "c": 3}}) is None
    assert search.params_of({**options, "a": {"b": [2], "c": 2.5}}) is None
    assert search.first_values() == {"a.b": [1], "a.c": 1, "d": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "recommend"}, "search must be of compare or teacher train"),
        ({"trials": 0}, "trials must be a whole number"),
        ({"space": {}}, "at least one option"),
        ({"space": {"lr": {"low": 1.0}}}, "space.lr must be a list of values, or low and high"),
        ({"space": {"lr": {"low": "1e-3", "high": 1.0}}}, "1.0e-3, not 1e-3"),
        ({"space": {"lr": {"low": 2, "high": 1}}}, "space.lr.low"),
        ({"space": {"lr": {"low": 0.0, "high": 1.0, "log": True}}}, "above 0 on a logarithmic"),
        ({"space": {"lr": []}}, "space.lr must be a list"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_only_one_arm_can_be_judged() -> None:
    notes = {"validation_N@10": 0.5, "validation_seconds": 9}
    rows = [{"role": "teacher", "evaluations": [notes]}]
    rows += [{"role": "arm", "evaluations": [{"validation_N@10": value}]} for value in (0.1, 0.3)]
    assert plan().value_of({"rows": rows[:2]}) == 0.1
    assert plan(command="teacher train").value_of({"rows": rows}) == 0.5
    with pytest.raises(ValueError, match="needs one arm with a validation value, got 2"):
        plan().value_of({"rows": rows})


def write(study: dict[str, Any]) -> None:
    Path("studies").mkdir(exist_ok=True)
    Path("studies/tiny.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def results() -> dict[str, dict[str, Any]]:
    files = sorted(Path("studies/tiny").glob("trial-*.json"))
    return {path.stem: json.loads(path.read_text()) for path in files}


def test_a_search_that_is_interrupted_ends_with_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    for folder in ("whole", "interrupted"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    write(STUDY)
    assert main(["study", "tiny", "--quiet"]) == 0
    whole = results()
    monkeypatch.chdir(tmp_path / "interrupted")
    write(STUDY)
    assert main(["study", "tiny", "--quiet", "--runs", "trial-000,trial-001"]) == 0
    assert main(["study", "tiny", "--quiet"]) == 0
    again = results()
    assert list(whole) == list(again) == ["trial-000", "trial-001", "trial-002"]
    assert [one["options"] for one in again.values()] == [one["options"] for one in whole.values()]
    values = {}
    for name, record in again.items():
        assert record["options"]["data"] == "synthetic:40x32"
        assert 1e-4 <= record["options"]["training"]["lr"] <= 0.1
        (row,) = record["result"]["rows"]
        values[name] = fmean(notes["validation_N@10"] for notes in row["evaluations"])
    assert len({record["options"]["training"]["lr"] for record in again.values()}) == 3
    lines = Path("studies/tiny/table.md").read_text().splitlines()[4:]
    assert len(lines) == 3
    for line, name in zip(
        lines, sorted(values, key=lambda name: (-values[name], name)), strict=True
    ):
        assert line.startswith(f"| {name} | ")
        assert line.endswith(f" {values[name]:.4f} |")
    narrow = {**SEARCH["space"], "training.batch_events": {"low": 1000, "high": 2000}}
    write({**STUDY, "search": {**SEARCH, "space": narrow}})
    capsys.readouterr()
    assert main(["study", "tiny", "--quiet"]) == 2
    assert "trial-000.json is the result of other options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "metrics"}, "table of a search must show validation values"),
        ({"runs": {"trial-001": {"command": "compare", "hours": 1}}}, "other names than trials"),
        ({"search": {**SEARCH, "space": {"training.lrr": [1.0]}}}, "run trial-000: "),
        (
            {"search": {**SEARCH, "command": "compare", "options": {"arms": ["a:ntp", "b:ntp"]}}},
            "a search needs one arm, got a:ntp, b:ntp",
        ),
    ],
)
def test_a_search_that_cannot_be_done_is_refused_in_one_line(
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write({**STUDY, "defaults": {}, **changes})
    assert main(["study", "tiny", "--plan"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_plan_needs_no_optuna_and_a_trial_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)  # type: ignore[arg-type]
    write(STUDY)
    assert main(["study", "tiny", "--plan"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["trial-002", "teacher", "train", "0.10", "open"] in lines
    assert ["in", "all", "0.30", "0.00"] in lines
    assert main(["study", "tiny", "--quiet"]) == 2
    assert "pip install 'semid[search]'" in capsys.readouterr().err
