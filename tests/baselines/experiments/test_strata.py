"""Strata in a comparison, and metrics by item beside those by ID."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_comparison import TINY, results

from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.strata import Stratum
from baselines.experiments.comparison import Comparison, RunRecord, compare
from baselines.experiments.config import CompareConfig
from baselines.experiments.report import comparison_page
from baselines.experiments.run import run_comparison
from baselines.experiments.strata import strata_table, stratified

STRATA = [
    Stratum(kind="target frequency", name="unseen", targets=np.array([True, False, False, False])),
    Stratum(kind="target frequency", name="1-5", targets=np.array([False, True, True, True])),
]


def run(arm: str, seed: int, removed: list[float], **evaluation: Any) -> RunRecord:
    """A run with ``N@10`` of four users; with seen items kept, half of it."""
    values = np.array(removed)
    return RunRecord(
        arm=arm,
        role="arm",
        seed=seed,
        per_user={"removed": {"N@10": values}, "kept": {"N@10": values / 2}},
        parameters=1,
        train_seconds=1.0,
        evaluation=evaluation,
    )


def compared(records: list[RunRecord], **facts: Any) -> Comparison:
    found = compare(records, baseline=records[0].arm, **facts)
    return dataclasses.replace(found, strata=stratified(records, STRATA, found.headlines))


def test_a_stratum_has_the_mean_of_its_users_over_seeds() -> None:
    records = [
        run("one", 0, [1.0, 0.0, 0.0, 0.3]),
        run("two", 0, [0.0] * 4),
        run("one", 1, [0.0, 0.0, 0.3, 0.0]),
    ]
    found = compared(records)
    unseen, rare = found.strata
    assert (unseen.kind, unseen.name, unseen.users) == ("target frequency", "unseen", 1)
    assert (rare.name, rare.users) == ("1-5", 3)
    assert unseen.metrics["one"]["removed"]["N@10"].mean == pytest.approx(0.5)
    assert rare.metrics["one"]["removed"]["N@10"].mean == pytest.approx(0.1)
    assert rare.metrics["one"]["removed"]["N@10"].sd == pytest.approx(0.0)
    assert rare.metrics["one"]["kept"]["N@10"].mean == pytest.approx(0.05)
    lines = comparison_page(found).splitlines()
    assert "| arm | target frequency: unseen | target frequency: 1-5 |" in lines
    assert "| users | 1 | 3 |" in lines
    for line in ("| one | .5000 | .1000 |", "| one | .2500 | .0500 |", "| two | .0000 | .0000 |"):
        assert line in lines


def test_the_console_shows_strata_on_a_narrow_terminal() -> None:
    found = compared([run("[a] model of a long name", 0, [1.0, 0.0, 0.0, 0.3])])
    out = io.StringIO()
    Console(file=out, width=60).print(strata_table(found, policy="kept"))
    assert "N@10 by stratum, seen items kept" in out.getvalue()
    assert "[a] model of a long name" in out.getvalue()
    assert ".5000" in out.getvalue()
    assert ".0500" in out.getvalue()


def test_metrics_by_id_stand_beside_those_by_item() -> None:
    by_id = {"removed": {"N@10": 0.5}, "kept": {"N@10": 0.25}}
    records = [
        run("new", 0, [0.4, 0.4, 0.4, 0.4], by_id=by_id),
        run("new", 1, [0.2, 0.2, 0.2, 0.2], by_id=by_id),
        run("old", 0, [0.4, 0.4, 0.4, 0.4]),
        run("half", 0, [0.4, 0.4, 0.4, 0.4], by_id=by_id),
        run("half", 1, [0.4, 0.4, 0.4, 0.4]),
    ]
    lines = comparison_page(compared(records)).splitlines()
    assert "## By item and by ID" in lines
    assert "| new | .3000 | .5000 | .1500 | .2500 |" in lines
    assert "| old | .4000 | — | .2000 | — |" in lines
    assert "| half | .4000 | — | .2000 | — |" in lines


def test_ranks_that_lack_ids_are_said_to_where_a_scheme_has_collisions() -> None:
    card = {"name": None, "scheme": "random", "sizes": [2], "collisions": None, "levels": []}
    found = compared([run("old", 0, [0.4] * 4)], schemes=[{**card, "colliding_items": 2}])
    assert "| old | .4000 | — | .2000 | — |" in comparison_page(found).splitlines()


def test_ids_without_collisions_have_no_metrics_of_their_own() -> None:
    assert "By item and by ID" not in comparison_page(compared([run("one", 0, [0.0] * 4)]))


def test_a_comparison_holds_the_strata_of_its_test_targets(done: CompareConfig) -> None:
    found = results(done.out)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for stratum in found["strata"]:
        kinds.setdefault(stratum["kind"], []).append(stratum)
    assert list(kinds) == ["target frequency", "history length", "repetition"]
    users = found["statistics"]["users"]
    for strata in kinds.values():
        assert sum(stratum["users"] for stratum in strata) == users
        for row in found["rows"]:
            for policy, metrics in row["metrics"].items():
                for metric in ("R@10", "N@10"):
                    total = sum(
                        stratum["users"] * stratum["metrics"][row["arm"]][policy][metric]["mean"]
                        for stratum in strata
                    )
                    assert total / users == pytest.approx(metrics[metric]["mean"])
    page = (Path(done.out) / "comparison.md").read_text()
    assert "## Strata" in page
    assert "By item and by ID" not in page


def test_a_comparison_on_the_longest_users_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = synthetic_dataset(num_users=40, num_items=32, num_categories=2)
    lengths = shop.splits.train.lengths
    place = np.argsort(np.argsort(-lengths, kind="stable"))
    assert shop.splits.train.users.tolist() == list(range(40))
    parts = {
        name: dataclasses.replace(part, users=place[part.users])
        for name, part in vars(shop.splits).items()
        if name in ("train", "valid", "test")
    }
    parts["test"] = parts["test"].select(parts["test"].users < 10)
    splits = dataclasses.replace(shop.splits, **parts, protocol="windows")
    data = dataclasses.replace(shop, splits=splits, interactions=None)
    config = dataclasses.replace(TINY, arms=("causal:ntp",), seeds=(0,), out=str(tmp_path / "out"))
    found = run_comparison(config, data)
    (line,) = (each for each in caplog.messages if "shuffled" in each)
    assert line.startswith("the test targets belong to the first 10 of 40 users")
    assert sum(each.users for each in found.strata if each.kind == "repetition") == 10
