"""The metrics of a comparison: other ones on a finished folder, and the one that selects."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest
from tiny_comparison import results, trained

from baselines.cli import main
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from semid.provenance import Provenance


def test_other_metrics_and_cutoffs_on_a_finished_folder_retrain_nothing(
    done: CompareConfig,
) -> None:
    times, before = trained(done.out), results(done.out)
    ranks = {path: path.stat().st_mtime_ns for path in Path(done.out).rglob("test*.safetensors")}
    assert ranks
    evaluation = dataclasses.replace(
        done.evaluation, metrics=("ndcg", "recall", "coverage"), cutoffs=(7, 10)
    )
    run_comparison(dataclasses.replace(done, evaluation=evaluation))
    found = results(done.out)
    assert trained(done.out) == times
    assert {path: path.stat().st_mtime_ns for path in ranks} == ranks
    for row, known in zip(found["rows"], before["rows"], strict=True):
        values = row["metrics"]["removed"]
        assert list(values) == ["N@7", "N@10", "R@7", "R@10"]
        assert values["N@10"] == known["metrics"]["removed"]["N@10"]
        assert values["N@7"]["mean"] <= values["N@10"]["mean"]
        assert list(row["evaluations"][0]["lists"]) == ["coverage@7", "coverage@10"]
    assert {one["metric"] for one in found["differences"]} == {"N@7", "N@10", "R@7", "R@10"}
    table = pl.read_parquet(Path(done.out) / "per_user.parquet")
    assert table.columns == ["user", "arm", "seed", "policy", "N@7", "N@10", "R@7", "R@10"]
    assert "## Beyond accuracy" in (Path(done.out) / "comparison.md").read_text()
    run_comparison(done)
    assert results(done.out) == before


def test_a_metric_that_selects_is_part_of_every_model(done: CompareConfig, tmp_path: Path) -> None:
    evaluation = dataclasses.replace(done.evaluation, selected_by="recall@3")
    with pytest.raises(ValueError, match=r"other settings \(evaluation.selected_by\)"):
        run_comparison(dataclasses.replace(done, evaluation=evaluation))
    config = dataclasses.replace(
        done, out=str(tmp_path), seeds=(0,), evaluation=evaluation, counted=False
    )
    found = run_comparison(config)
    assert found.settings["checkpoint chosen by"].startswith("validation R@3, beam 5")
    teacher = next(row for row in found.rows if row.role == "teacher")
    assert "validation_R@3" in teacher.evaluations[0]
    for folder in ("causal-ntp-0", *(path.name for path in (tmp_path / "teachers").iterdir())):
        path = tmp_path / folder if folder.startswith("causal") else tmp_path / "teachers" / folder
        assert "recall@3" in json.dumps(Provenance.read(path).config)
    before = trained(tmp_path)
    run_comparison(config)
    assert trained(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluation.cutoffs", "5,0"], "cutoffs must be a whole number of at least 1, got 0"),
        (["--evaluation.metrics", "recall,ndgc"], "got 'ndgc'. Did you mean ndcg?"),
        (["--evaluation.metrics", "absent:Metric"], "expected an importable metric"),
        (["--evaluation.selected_by", "ndcg@x"], "selected_by must be a metric and a cutoff"),
    ],
)
def test_metrics_that_do_not_exist_are_refused_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--out", str(tmp_path / "none"), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "none").exists()
