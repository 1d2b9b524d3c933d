"""A comparison: what its table and files hold, and what cannot be run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_comparison import TINY, results

from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from semid.config import IdsConfig
from semid.provenance import Provenance


def test_rows_are_floor_teacher_and_arms_with_all_seeds(done: CompareConfig) -> None:
    rows = results(done.out)["rows"]
    assert [(row["arm"], row["role"], row["seeds"]) for row in rows] == [
        ("Popularity", "reference", [None]),
        ("Rules", "reference", [None]),
        ("Content", "reference", [None]),
        ("Rules + content", "reference", [None]),
        ("SASRec ce (teacher)", "teacher", [0, 1]),
        ("Causal ntp", "arm", [0, 1]),
        ("Causal+TCA soft_ce alpha=0.5", "arm", [0, 1]),
    ]
    assert all(set(row["metrics"]) == {"removed", "kept"} for row in rows)
    assert [row["consistency"] is None for row in rows] == [True] * 5 + [False, False]


def test_every_result_names_what_it_depends_on(done: CompareConfig) -> None:
    settings = results(done.out)["settings"]
    assert settings["split"] == "leave_one_out"
    assert settings["candidates"] == "the whole catalogue"
    assert settings["ids"].startswith("rqkmeans, sizes 4x4")
    assert (settings["beam"], settings["ties"], settings["seeds"]) == (10, "expected", [0, 1])


def test_every_users_results_are_stored_under_both_policies(done: CompareConfig) -> None:
    table = pl.read_parquet(Path(done.out) / "per_user.parquet")
    found = results(done.out)
    mean = table.filter(pl.col("arm") == "Causal ntp", pl.col("policy") == "kept")["N@10"].mean()
    row = next(row for row in found["rows"] if row["arm"] == "Causal ntp")
    assert mean == pytest.approx(row["metrics"]["kept"]["N@10"]["mean"])
    assert set(table["policy"].unique()) == {"removed", "kept"}


def test_every_arm_has_a_certificate_of_its_search(done: CompareConfig) -> None:
    rows = {row["arm"]: row["evaluations"] for row in results(done.out)["rows"]}
    for arm in ("Causal ntp", "Causal+TCA soft_ce alpha=0.5"):
        for evaluation in rows[arm]:
            assert evaluation["certificate"]["illegal"] == 0
            recall = evaluation["certificate"]["recall"]
            assert recall[str(evaluation["certificate"]["beam"])] > 0
            assert list(recall.values()) == sorted(recall.values()), "a wider beam finds more"
    assert "certificate" not in rows["Popularity"][0]
    page = (Path(done.out) / "comparison.md").read_text()
    assert page.count(", 0.000 illegal |") == 4


def test_the_same_seeds_give_the_same_table(done: CompareConfig, tmp_path: Path) -> None:
    run_comparison(dataclasses.replace(done, out=str(tmp_path / "again")))
    assert results(tmp_path / "again") == results(done.out)


def test_another_seed_gives_another_table(done: CompareConfig, tmp_path: Path) -> None:
    run_comparison(dataclasses.replace(done, out=str(tmp_path / "other"), seeds=(2,)))
    assert results(tmp_path / "other")["rows"][1:] != results(done.out)["rows"][1:]


def test_an_objective_of_ones_own_is_an_arm(
    done: CompareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_objective.py").write_text(
        "from tca.losses import soft_ce\n\n\ndef doubled(*args):\n    return 2 * soft_ce(*args)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arms = ("causal:ntp", "causal:own_objective:doubled:0.5")
    config = dataclasses.replace(done, out=str(tmp_path / "run"), seeds=(0,), arms=arms)
    found = run_comparison(config)
    assert [row.arm for row in found.rows[5:]] == [
        "Causal ntp",
        "Causal+TCA own_objective:doubled alpha=0.5",
    ]
    folder = tmp_path / "run" / "causal-own_objective.doubled-0.5-0"
    assert Provenance.read(folder).config["objective"]["name"] == "own_objective:doubled"
    absent = dataclasses.replace(config, out=str(tmp_path / "no"), arms=("causal:absent:loss:0.5",))
    with pytest.raises(ValueError, match="expected an importable objective"):
        run_comparison(absent)
    assert not (tmp_path / "no" / "config.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ()}, "at least one arm and one seed"),
        ({"seeds": ()}, "at least one arm and one seed"),
        ({"seeds": (1, 1)}, "every seed once"),
        ({"arms": ("tiger:soft_ce:0.5", "tiger:soft_ce:.50")}, "every arm once"),
        ({"data": "nowhere"}, "no folder nowhere"),
        ({"ids": IdsConfig(scheme="nothing")}, "expected a tokenizer out of"),
    ],
)
def test_what_cannot_be_run_leaves_no_folder(
    changes: dict[str, Any], message: str, shop: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(TINY, data=str(shop), out=str(tmp_path / "out"))
    with pytest.raises((ValueError, OSError), match=message):
        run_comparison(dataclasses.replace(config, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values", [{"temperature": 0.0}, {"temperature": math.nan}, {"resamples": 0}]
)
def test_settings_out_of_range_are_refused_before_any_work(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be"):
        CompareConfig(**values)
