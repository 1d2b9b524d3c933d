"""Figures of ID cards held against results: known correlations, and the whole script."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("correlate_cards")


def test_the_correlation_is_that_of_scipy_with_ties(script: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(5, size=(2, 30)).astype(float)
    assert script.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(script.spearman(np.ones(4), np.arange(4.0)))


def test_planted_correlations_are_found(script: Any) -> None:
    rng = np.random.default_rng(0)
    names = [f"set-{number}" for number in range(40)]
    results = {name: float(value) for name, value in zip(names, rng.normal(size=40), strict=True)}
    noise = dict(zip(names, rng.normal(size=40), strict=True))
    figures = {
        "noise": noise,
        "same for all": dict.fromkeys(names, 1.0),
        "of four": {name: results[name] for name in names[:4]},
        "opposite": {name: -(value**3) for name, value in results.items()},
        "of twenty": {name: results[name] for name in names[:20]},
    }
    found = {one.figure: one for one in script.correlations(figures, results)}
    assert set(found) == {"noise", "opposite", "of twenty"}
    assert found["opposite"][1:] == pytest.approx((40, -1, -1, -1))
    assert found["of twenty"][1:] == pytest.approx((20, 1, 1, 1))
    one = found["noise"]
    assert -0.5 < one.low < one.value < one.high < 0.5
    assert one.low < 0 < one.high
    text = script.report(list(found.values()), results)
    assert "2 intervals leave out zero" in text
    assert "| opposite | 40 | -1.00 | -1.00 to -1.00 |" in text


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six finished runs, each better than the last by having more first codes."""
    monkeypatch.chdir(tmp_path)
    write_plain_layout(
        synthetic_dataset(num_users=40, num_items=32, num_categories=2), Path("shop")
    )
    Path("study").mkdir()
    for size in range(2, 8):
        given = ["--ids.scheme", "random", "--ids.codebook_sizes", f"[{size},8]"]
        assert main(["build", "--data", "shop", "--out", f"runs/of-{size}", *given]) == 0
        row = {"role": "arm", "evaluations": [{"validation_N@10": 0.01 * size}]}
        record = {"result": {"rows": [{"role": "teacher", "evaluations": []}, row]}}
        Path(f"study/of-{size}.json").write_text(json.dumps(record))
    return Path("study")


def test_the_script_reads_results_and_cards(
    script: Any, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(study), "--runs", "runs", "--data", "shop", "--out", "cards"]) == 0
    printed = capsys.readouterr().out
    assert "over 6 ID sets" in printed
    assert "| level 1 prefixes | 6 | +1.00 | +1.00 to +1.00 |" in printed
    assert printed.index("| of-7 | 0.0700 |") < printed.index("| of-2 | 0.0200 |")
    assert Path("cards/card.csv").is_file()


def test_the_script_refuses_what_it_cannot_compare(
    script: Any, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.main(["empty", "--runs", "runs", "--data", "shop"])
    assert "empty has 0 finished runs, expected 5 or more" in capsys.readouterr().err
    row = {"role": "arm", "evaluations": [{}]}
    (study / "two.json").write_text(json.dumps({"result": {"rows": [row, row]}}))
    with pytest.raises(ValueError, match="expected one arm and one seed"):
        script.results_of(study)


def test_shuffled_codes_are_the_same_tree_with_items_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    shuffle = importlib.import_module("shuffle_codes").main
    codes = {str(item): [f"<a_{item // 10}>", f"<b_{item % 10}>"] for item in range(50)}
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    for name in ("once.json", "twice.json"):
        shuffle(str(tmp_path / "codes.json"), str(tmp_path / name))
    once = json.loads((tmp_path / "once.json").read_text())
    assert once == json.loads((tmp_path / "twice.json").read_text())
    assert list(once) == list(codes)
    assert sorted(once.values()) == sorted(codes.values())
    assert sum(once[item] == codes[item] for item in codes) < 10
