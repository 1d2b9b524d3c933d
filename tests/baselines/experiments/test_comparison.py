"""Comparisons of hand-made runs: means, pairing, references, refusals, and the exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from rich.console import Console

from baselines.evaluation.metrics import metric_values
from baselines.evaluation.random_effects import needed, paired_difference, summarize_runs
from baselines.experiments.comparison import Comparison, Role, RunRecord, compare, write_per_user
from baselines.experiments.report import comparison_page, comparison_table

USERS = 60


def run(
    arm: str,
    role: Role = "arm",
    seed: int | None = 0,
    *,
    level: int = 10,
    users: int = USERS,
    metrics: dict[str, NDArray[np.float64]] | None = None,
    **facts: Any,
) -> RunRecord:
    """A run whose targets stand at random ranks below ``level``."""
    rng = np.random.default_rng([level, seed or 0, len(arm)])
    tied = np.zeros(users, dtype=np.int64)
    removed = metrics or metric_values(rng.integers(level, size=users), tied)
    kept = metrics or metric_values(rng.integers(level + 2, size=users), tied)
    costs = {"parameters": 1000, "train_seconds": 2.0} | facts
    return RunRecord(
        arm=arm, role=role, seed=seed, per_user={"removed": removed, "kept": kept}, **costs
    )


def world() -> list[RunRecord]:
    """Arms first and the teacher last: the comparison has to find its own order."""
    return [
        *(run("TIGER+TCA", seed=s, level=15, consistency=0.4 + 0.1 * s) for s in range(3)),
        *(run("TIGER", seed=s, level=30, consistency=0.2) for s in range(3)),
        *(run("TIGER again", seed=s, level=30) for s in range(3)),
        run("SASRec", "teacher", level=20, consistency=1.0, train_seconds=700.0),
        run("Popularity", "reference", None, level=90, parameters=0),
    ]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(
        world(), baseline="TIGER", settings={"split": "leave_one_out", "seeds": [0, 1, 2]}
    )


def test_rows_stand_in_the_order_reference_teacher_arm(comparison: Comparison) -> None:
    assert [row.arm for row in comparison.rows] == [
        "Popularity",
        "SASRec",
        "TIGER+TCA",
        "TIGER",
        "TIGER again",
    ]
    assert comparison.teachers == ("SASRec",)
    assert comparison.references == ("TIGER", "SASRec")


def test_a_row_is_mean_and_standard_deviation_of_its_seeds(comparison: Comparison) -> None:
    row = next(row for row in comparison.rows if row.arm == "TIGER+TCA")
    for policy in ("removed", "kept"):
        runs = [r.per_user[policy]["N@10"].mean() for r in world() if r.arm == "TIGER+TCA"]
        found = row.metrics[policy]["N@10"]
        mean = sum(runs) / 3
        assert found.mean == pytest.approx(mean)
        assert found.sd == pytest.approx((sum((x - mean) ** 2 for x in runs) / 2) ** 0.5)
    assert row.seeds == (0, 1, 2)
    assert row.consistency is not None
    assert row.consistency.mean == pytest.approx(0.5)
    assert row.consistency.sd == pytest.approx(0.1)


def test_one_seed_has_no_standard_deviation(comparison: Comparison) -> None:
    popularity, teacher = comparison.rows[:2]
    assert popularity.metrics["removed"]["R@10"].sd is None
    assert teacher.metrics["kept"]["MRR"].sd is None
    assert popularity.consistency is None


def test_every_arm_is_measured_against_baseline_and_teacher_and_nothing_else(
    comparison: Comparison,
) -> None:
    pairs = {(found.arm, found.reference) for found in comparison.differences}
    assert pairs == {
        ("TIGER+TCA", "TIGER"),
        ("TIGER again", "TIGER"),
        ("TIGER+TCA", "SASRec"),
        ("TIGER", "SASRec"),
        ("TIGER again", "SASRec"),
    }
    assert len(comparison.differences) == len(pairs) * 2 * 7


def test_pairs_are_measured_as_well_and_corrected_together() -> None:
    pairs = [("TIGER+TCA", "TIGER again"), ("TIGER again", "TIGER")]
    found, without = (compare(world(), baseline="TIGER", pairs=given) for given in (pairs, []))
    assert found.differences[: len(without.differences)] == without.differences
    more = found.differences[len(without.differences) :]
    assert {(one.arm, one.reference) for one in more} == {("TIGER+TCA", "TIGER again")}
    ours, again, tca = (
        found.difference(arm, reference, policy="kept", metric="N@10")
        for arm, reference in [
            ("TIGER+TCA", "TIGER again"),
            ("TIGER again", "TIGER"),
            ("TIGER+TCA", "TIGER"),
        ]
    )
    assert ours.mean == pytest.approx(tca.mean - again.mean)
    assert ours.p_holm == ours.p  # a family of one
    level = next(row for row in found.rows if row.arm == "TIGER again").metrics["kept"]["N@10"]
    assert ours.relative == pytest.approx(100 * ours.mean / level.mean)


def test_a_difference_is_paired_by_user_after_averaging_over_seeds(comparison: Comparison) -> None:
    found = comparison.difference("TIGER+TCA", "TIGER", policy="kept", metric="N@10")
    per_user = {
        arm: [
            sum(r.per_user["kept"]["N@10"][u] for r in world() if r.arm == arm) / 3
            for u in range(USERS)
        ]
        for arm in ("TIGER+TCA", "TIGER")
    }
    gains = [a - b for a, b in zip(per_user["TIGER+TCA"], per_user["TIGER"], strict=True)]
    base = sum(per_user["TIGER"]) / USERS
    assert found.mean == pytest.approx(sum(gains) / USERS)
    assert found.relative == pytest.approx(100 * sum(gains) / USERS / base)
    assert found.low < found.mean < found.high
    assert found.p <= found.p_holm <= 2 * found.p


def test_the_test_is_that_of_users_and_seeds_and_the_needs_follow(comparison: Comparison) -> None:
    policy, metric = "kept", "N@10"
    gain = paired_difference(
        *(
            summarize_runs(
                np.stack([r.per_user[policy][metric] for r in world() if r.arm == arm])[..., None]
            )
            for arm in ("TIGER+TCA", "TIGER")
        )
    )
    sizes = needed(gain.mean, gain.variances, users=USERS, seeds=3)
    found = comparison.difference("TIGER+TCA", "TIGER", policy=policy, metric=metric)
    shown = (found.low, found.high, found.p, found.df, found.d_z)
    assert shown == pytest.approx((gain.low[0], gain.high[0], gain.p[0], gain.df[0], gain.d_z[0]))
    assert found.seed_sd == pytest.approx(gain.variances.seed[0] ** 0.5)
    assert (found.needed_users, found.needed_seeds) == (sizes.users[0], sizes.seeds[0])


def test_one_seed_says_that_its_noise_is_unknown(comparison: Comparison) -> None:
    found = comparison.difference("TIGER", "SASRec", policy="kept", metric="N@10")
    assert (found.seed_sd, found.needed_seeds) == (None, None)
    page = comparison_page(comparison)
    assert "Trained on one seed, so that seed noise is unknown" in page
    assert "for the trained model only: SASRec." in page
    row = next(
        line
        for line in page.splitlines()
        if "| TIGER | SASRec | N@10 |" in line and "unknown" in line
    )
    assert row.endswith("| unknown |")
    several = compare([r for r in world() if r.role == "arm"], baseline="TIGER")
    assert "seed noise is unknown" not in comparison_page(several)


def test_a_pair_of_seeds_is_not_taken_for_a_seed_of_its_own() -> None:
    pairs, seeds = (
        compare(
            [
                *(run("both", seed=s, level=5 + 20 * s, is_pair=is_pair) for s in range(3)),
                *(run("TIGER", seed=s) for s in range(3)),
            ],
            baseline="TIGER",
        ).difference("both", "TIGER", policy="kept", metric="N@10")
        for is_pair in (True, False)
    )
    assert pairs.mean == seeds.mean
    assert pairs.seed_sd == pytest.approx(2 * (seeds.seed_sd or 0), rel=0.1)
    assert pairs.p > seeds.p


def test_pairing_finds_a_gain_smaller_than_the_spread_of_users() -> None:
    values = np.random.default_rng(0).random(USERS)
    records = [
        run("a", metrics={"N@10": values}),
        run("b", metrics={"N@10": values + 0.001}),
        run("same", metrics={"N@10": values}),
    ]
    found = compare(records, baseline="a")
    gain = found.difference("b", "a", policy="removed", metric="N@10")
    assert gain.low > 0
    assert gain.p_holm < 0.05
    nothing = found.difference("same", "a", policy="removed", metric="N@10")
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)


def test_holm_runs_over_the_arms_of_one_reference(comparison: Comparison) -> None:
    for reference, arms in (("TIGER", 2), ("SASRec", 3)):
        family = [
            found
            for found in comparison.differences
            if (found.reference, found.policy, found.metric) == (reference, "removed", "N@10")
        ]
        assert len(family) == arms
        smallest = min(family, key=lambda found: found.p)
        assert smallest.p_holm == pytest.approx(min(1.0, arms * smallest.p))


def test_equal_input_gives_an_equal_comparison(comparison: Comparison) -> None:
    assert compare(world(), baseline="TIGER", settings=comparison.settings) == comparison


def test_another_arm_beside_it_does_not_change_an_arms_gain(comparison: Comparison) -> None:
    turned = compare([r for r in world() if r.arm != "TIGER again"], baseline="TIGER")
    for found in turned.differences:
        same = comparison.difference(
            found.arm, found.reference, policy=found.policy, metric=found.metric
        )
        assert (found.mean, found.low, found.high, found.p) == pytest.approx(
            (same.mean, same.low, same.high, same.p), abs=1e-11
        )


def test_the_order_of_policies_and_metrics_in_a_record_does_not_matter() -> None:
    values = np.random.default_rng(0).random((2, USERS))
    forward = run("a", metrics={"R@5": values[0], "MRR": values[1]})
    backward = RunRecord(
        arm="b",
        role="arm",
        seed=0,
        per_user={
            "kept": {"MRR": values[1], "R@5": values[0]},
            "removed": {"MRR": values[1], "R@5": values[0]},
        },
        parameters=1,
        train_seconds=1.0,
    )
    assert all(found.mean == 0 for found in compare([forward, backward], baseline="a").differences)


def test_the_baseline_may_be_the_teacher_and_is_then_one_reference() -> None:
    found = compare(world(), baseline="SASRec")
    assert found.references == ("SASRec",)
    assert {d.arm for d in found.differences} == {"TIGER", "TIGER again", "TIGER+TCA"}


def test_the_page_has_a_line_for_each_id_scheme_and_none_without_any() -> None:
    card: dict[str, Any] = {
        "scheme": "rqvae",
        "sizes": [4, 4, 2],
        "collisions": {"strategy": "extra_level", "colliding_items": 7},
        "colliding_items": 0,
        "levels": [{"utilisation": share} for share in (1.0, 0.75, 0.5)],
    }
    cards = [{"name": None, **card}, {"name": "mine", **card, "collisions": None}]
    page = comparison_page(compare([run("TIGER")], baseline="TIGER", schemes=cards))
    assert "| — | rqvae | 4x4x2 | extra_level | 7 | 0 | 100.0%, 75.0%, 50.0% |" in page
    assert "| @mine | rqvae | 4x4x2 | — | — | 0 | 100.0%, 75.0%, 50.0% |" in page
    assert "Semantic IDs" not in comparison_page(compare([run("TIGER")], baseline="TIGER"))


def test_a_single_arm_has_a_row_and_no_differences() -> None:
    found = compare([run("TIGER")], baseline="TIGER")
    assert found.differences == ()
    assert "TIGER" in comparison_page(found)


def test_a_reference_at_zero_has_no_relative_difference() -> None:
    records = [
        run("zero", metrics={"N@10": np.zeros(USERS)}),
        run("one", metrics={"N@10": np.ones(USERS)}),
    ]
    found = compare(records, baseline="zero")
    assert found.differences[0].relative is None
    assert "| +1.0000 | — |" in comparison_page(found)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "at least one run record"),
        ([run("TIGER"), run("other", users=USERS + 1)], "same users: 'TIGER' has 60, 'other'"),
        ([run("TIGER"), run("TIGER")], "seed 0 twice"),
        ([run("TIGER"), run("TIGER", "teacher", 1)], "must keep one role"),
        ([run("TIGER"), run("b", metrics={"R@5": np.ones(USERS)})], "same policies and metrics"),
        ([run("TIGER", metrics={"R@5": np.full(USERS, np.nan)})], "finite value"),
        ([run("TIGER", users=0)], "finite value"),
        ([run("TIGER", metrics={"a": np.ones(2), "b": np.ones(3)})], "finite value"),
        ([run("b")], "baseline must be one of b, got 'TIGER'"),
    ],
)
def test_runs_that_do_not_fit_are_refused(records: list[RunRecord], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(records, baseline="TIGER")


def test_policies_with_different_metrics_are_refused() -> None:
    record = RunRecord(
        arm="TIGER",
        role="arm",
        seed=0,
        per_user={"removed": {"MRR": np.ones(3)}, "kept": {"R@5": np.ones(3)}},
        parameters=1,
        train_seconds=1.0,
    )
    with pytest.raises(ValueError, match="every policy must hold the same metrics"):
        compare([record], baseline="TIGER")


def test_json_holds_settings_statistics_rows_and_differences(
    comparison: Comparison, tmp_path: Path
) -> None:
    comparison.to_json(tmp_path / "comparison.json")
    read = json.loads((tmp_path / "comparison.json").read_text())
    assert read["settings"] == {"split": "leave_one_out", "seeds": [0, 1, 2]}
    assert read["statistics"]["users"] == USERS
    assert [row["arm"] for row in read["rows"]] == [row.arm for row in comparison.rows]
    assert read["rows"][0]["metrics"]["removed"]["R@10"]["sd"] is None
    assert len(read["differences"]) == len(comparison.differences)
    first = comparison.differences[0]
    assert read["differences"][0]["p_holm"] == first.p_holm


def test_markdown_has_settings_both_policies_the_teacher_and_a_dash_for_one_seed(
    comparison: Comparison,
) -> None:
    page = comparison_page(comparison)
    assert "| split | leave_one_out |" in page
    for policy in ("removed", "kept"):
        assert f"## Seen items {policy}" in page
    teacher = [line for line in page.splitlines() if line.startswith("| SASRec | .")]
    assert len(teacher) == 2
    assert all("± —" in line for line in teacher)
    widths = {line.count(" | ") for line in page.splitlines() if line.startswith("| TIGER+TCA |")}
    assert widths == {12, 7, 6}


@pytest.mark.parametrize("policy", ["removed", "kept"])
def test_the_console_table_shows_every_row_and_fits_a_terminal(
    comparison: Comparison, policy: str
) -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(comparison_table(comparison, policy=policy))
    shown = capture.get()
    assert f"Seen items {policy}" in shown
    for row in comparison.rows:
        assert f"  {row.arm} " in shown
    assert "…" not in shown
    assert "1 seed " in shown
    assert "12 min" in shown


def test_a_long_label_is_folded_and_not_cut() -> None:
    names = ("LETTER-TIGER tau=0.7", "Causal@letter+TCA soft_ce alpha=0.5")
    console = Console(width=80)
    with console.capture() as capture:
        console.print(comparison_table(compare([run(name) for name in names], baseline=names[0])))
    assert "…" not in capture.get()


def test_brackets_in_a_label_are_no_console_markup() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(comparison_table(compare([run("T [a]"), run("T [b]")], baseline="T [a]")))
    assert "T [b]" in capture.get()
    assert capture.get().count("T [a]") == 2


def test_an_unknown_policy_is_refused(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match="policy must be one of removed, kept, got 'both'"):
        comparison_table(comparison, policy="both")


def test_an_unmeasured_pair_is_a_key_error(comparison: Comparison) -> None:
    with pytest.raises(KeyError, match="no difference of 'SASRec' to 'TIGER'"):
        comparison.difference("SASRec", "TIGER", policy="kept", metric="MRR")


@pytest.mark.parametrize("users", [None, [f"u{u}" for u in range(USERS)]])
def test_per_user_results_come_back_as_they_were(tmp_path: Path, users: list[str] | None) -> None:
    write_per_user(world(), tmp_path / "per_user.parquet", users=users)
    table = pl.read_parquet(tmp_path / "per_user.parquet")
    assert table.columns[:4] == ["user", "arm", "seed", "policy"]
    assert len(table) == len(world()) * 2 * USERS
    of_run = table.filter(arm="TIGER", seed=2, policy="kept")
    assert list(of_run["user"]) == list(users or range(USERS))
    record = next(r for r in world() if r.arm == "TIGER" and r.seed == 2)
    for metric, values in record.per_user["kept"].items():
        assert of_run[metric].dtype == pl.Float64
        np.testing.assert_array_equal(of_run[metric].to_numpy(), values)
    assert table.filter(arm="Popularity")["seed"].null_count() == 2 * USERS


def test_users_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="users must name the 60 users"):
        write_per_user(world(), tmp_path / "per_user.parquet", users=["only one"])
    assert not list(tmp_path.iterdir())


def test_the_page_tells_how_well_yes_and_no_are_told_apart() -> None:
    asked = [{"questions": {"AUC": auc, "UAUC": 0.9, "targets": 60}} for auc in (0.5, 0.7)]
    records = [run("Asks", seed=seed, evaluation=told) for seed, told in enumerate(asked)]
    page = comparison_page(compare([*records, run("Tells")], baseline="Tells"))
    assert "## Yes or no" in page
    assert "| Asks | .6000 ± .1414 | .9000 ± .0000 |" in page
    assert "## Yes or no" not in comparison_page(compare([run("Tells")], baseline="Tells"))
