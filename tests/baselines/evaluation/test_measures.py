"""Metrics as settings: cutoffs, metrics of one's own, metrics of lists, and what selects."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from baselines.evaluation.config import EvaluationConfig, ranking_settings
from baselines.evaluation.measures import Measures, require_metrics
from baselines.evaluation.metrics import MISS, load_metric
from baselines.evaluation.ranks import Ranks
from baselines.evaluation.selection import Selection
from semid.catalog import Catalog

OWN = """
from baselines.evaluation.metrics import ListMetric, Metric, RankMetric

class Precision(RankMetric):
    symbol = "P"

    def of_rank(self, rank, cutoff):
        return (rank < cutoff) / cutoff

class Listed(ListMetric):
    symbol = "listed"

    def of_lists(self, items, popularity):
        return (items >= 0).sum() / len(items)

class Broken(RankMetric):
    symbol = "B"

    def of_rank(self, rank, cutoff):
        return rank / 0.0

class Nameless(RankMetric):
    def of_rank(self, rank, cutoff):
        return rank / 1.0

class Unwritten(RankMetric):
    symbol = "U"

class Recall(Precision):
    symbol = "R"

number = 3
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


def ranks() -> Ranks:
    """Three users: first, fourth and not listed; once seen items go the second is third."""
    kept, removed = np.array([0, 3, MISS]), np.array([0, 2, MISS])
    tied = np.zeros(3, dtype=np.int64)
    top = np.full((3, 10), -1)
    top[0, :3], top[1, :2] = [4, 0, 1], [4, 2]
    return Ranks(
        better={"kept": kept, "removed": removed},
        tied={"kept": tied, "removed": tied},
        top=top,
        seconds=0.0,
    )


CATALOG = Catalog.from_table(
    pl.DataFrame({"item_id": range(5), "title": ["red pen", "red pen", "blue pen", "ink", ""]})
)


def measures(catalog: Catalog = CATALOG, **settings: Any) -> Measures:
    return Measures(
        evaluation=EvaluationConfig(**settings),
        popularity=np.array([5, 1, 0, 0, 2]),
        catalog=catalog,
    )


def test_the_chosen_metrics_and_cutoffs_are_reported_in_their_order() -> None:
    found = measures(metrics=("mrr", "own_metrics:Precision", "ndcg"), cutoffs=(4, 3))
    values = found.per_user(ranks())
    assert list(values["kept"]) == ["MRR", "P@4", "P@3", "N@4", "N@3"]
    assert values["kept"]["P@4"].tolist() == [1 / 4, 1 / 4, 0]
    assert values["kept"]["P@3"].tolist() == [1 / 3, 0, 0]
    assert values["removed"]["P@3"].tolist() == [1 / 3, 1 / 3, 0]
    assert values["removed"]["MRR"].tolist() == [1, 1 / 3, 0]
    assert values["kept"]["N@4"].tolist() == pytest.approx([1, 1 / math.log2(5), 0])


def test_the_documented_metric_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "comparison.md").read_text()
    block = re.search(
        r"```python\n(from baselines.evaluation import RankMetric.*?)```", page, re.DOTALL
    )
    assert block
    (tmp_path / "documented_metric.py").write_text(block[1])
    found = measures(metrics=("documented_metric:Precision",), cutoffs=(4,)).per_user(ranks())
    assert {name: values.tolist() for name, values in found["kept"].items()} == {
        "P@4": [1 / 4, 1 / 4, 0]
    }


def test_metrics_of_lists_are_of_the_cutoffs_that_the_kept_lists_reach() -> None:
    found = measures(
        metrics=("recall", "coverage", "novelty", "own_metrics:Listed"), cutoffs=(1, 2, 50)
    ).of_lists(ranks())
    assert list(found) == [
        f"{name}@{cutoff}" for name in ("coverage", "novelty", "listed") for cutoff in (1, 2)
    ]
    assert found["coverage@1"] == 1 / 5  # item 4 alone
    assert found["coverage@2"] == 3 / 5
    assert found["listed@2"] == 4 / 3
    counts = [6, 2, 1, 1, 3]  # each one more
    surprise = [-math.log2(counts[item] / 13) for item in (4, 4, 0, 2)]
    assert found["novelty@2"] == pytest.approx(sum(surprise) / 4)
    longer = measures(metrics=("recall", "coverage"), cutoffs=(50,)).of_lists(ranks())
    assert longer == {"coverage@10": 4 / 5}


def test_all_lists_are_measured_by_default_and_diversity_where_there_are_texts() -> None:
    found = measures(cutoffs=(2,)).of_lists(ranks())
    assert list(found) == ["coverage@2", "gini@2", "novelty@2", "diversity@2", "cold@2"]
    assert found["cold@2"] == 1 / 4  # 4, 0; 4, 2: only 2 has no event
    assert found["diversity@2"] == 1  # item 4 has no word to share
    bare = Catalog.from_table(pl.DataFrame({"item_id": range(5)}))
    alone = measures(bare, cutoffs=(2,)).of_lists(ranks())
    assert alone == {name: value for name, value in found.items() if name != "diversity@2"}
    same = dataclasses.replace(ranks(), top=np.array([[0, 1], [0, 2]]))
    apart = 1 - float((vectors := measures().text_vectors)[[0]].multiply(vectors[[2]]).sum())
    assert 0 < apart < 1
    found = measures(metrics=("recall", "diversity"), cutoffs=(2,)).of_lists(same)
    assert found == {"diversity@2": pytest.approx(apart / 2)}
    ragged = dataclasses.replace(ranks(), top=np.array([[0, 1, 2], [0, 2, -1], [0, -1, -1]]))
    cosines = (vectors @ vectors.T).toarray()
    three = 1 - (cosines[0, 1] + cosines[0, 2] + cosines[1, 2]) / 3
    found = measures(metrics=("recall", "diversity"), cutoffs=(3,)).of_lists(ragged)
    assert found == {"diversity@3": pytest.approx((three + apart) / 2)}


def test_a_selection_is_the_mean_with_seen_items_removed() -> None:
    assert Selection.of("recall@3").value(ranks(), "expected") == pytest.approx(2 / 3)
    assert Selection.of("recall@2").value(ranks(), "expected") == pytest.approx(1 / 3)
    assert Selection.of("mrr").value(ranks(), "expected") == pytest.approx((1 + 1 / 3) / 3)
    assert Selection.of("mrr@2").value(ranks(), "expected") == pytest.approx(1 / 3)
    own = Selection.of("own_metrics:Precision@3")
    assert own.value(ranks(), "expected") == pytest.approx(2 / 9)
    assert (own.label, Selection.of().label, Selection.of("mrr").label) == ("P@3", "N@10", "MRR")


def test_what_is_only_reported_decides_no_model() -> None:
    before = ranking_settings(EvaluationConfig())
    assert before == {
        "beam": 50,
        "renormalize": "children",
        "ties": "expected",
        "validation_beam": 20,
        "validation_targets": 4000,
        "batch_size": 256,
        "certified": 16,
    }
    reported = EvaluationConfig(metrics=("mrr",), cutoffs=(7,))
    assert ranking_settings(reported) == before
    selected = dataclasses.replace(reported, selected_by="recall@5")
    assert ranking_settings(selected) == {**before, "selected_by": "recall@5"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoffs": (0,)}, "cutoffs must be a whole number of at least 1, got 0"),
        ({"cutoffs": ()}, "cutoffs must be different, at least one"),
        ({"cutoffs": (5, 5)}, r"cutoffs must be different, at least one, got \[5, 5\]"),
        ({"metrics": ()}, "metrics must be different, at least one"),
        ({"metrics": ("recal",)}, "metrics must be out of recall, .* got 'recal'. .*recall"),
        ({"selected_by": "ndgc@10"}, "selected_by must be out of recall, ndcg, mrr"),
        ({"selected_by": "coverage@10"}, "selected_by must be out of recall, ndcg, mrr"),
        ({"selected_by": "ndcg@ten"}, "selected_by must be a metric and a cutoff of at least 1"),
        ({"selected_by": "ndcg@0"}, "selected_by must be a metric and a cutoff of at least 1"),
    ],
)
def test_settings_that_name_no_metric_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ("own_metrics:Absent",)}, "expected an importable metric"),
        ({"metrics": ("own_metrics:number",)}, "expected a subclass of .*Metric"),
        ({"metrics": ("own_metrics:Unwritten",)}, "without of_rank"),
        ({"metrics": ("own_metrics:Nameless",)}, "with symbol, got 'own_metrics:Nameless'"),
        ({"metrics": ("coverage",)}, "must hold one of the target's rank"),
        ({"metrics": ("recall", "own_metrics:Recall")}, "different symbols, got R@5"),
        ({"selected_by": "own_metrics:Listed@5"}, "which is one of lists"),
    ],
)
def test_metrics_of_ones_own_are_refused_before_anything_is_trained(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        require_metrics(EvaluationConfig(**settings))


def test_a_metric_that_is_not_finite_is_refused_by_name() -> None:
    assert load_metric("own_metrics:Broken").symbol == "B"
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="B@5 must have a finite value"):
        measures(metrics=("own_metrics:Broken",), cutoffs=(5,)).per_user(ranks())
