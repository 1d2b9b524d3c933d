"""The answer in words, on results whose answer is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_comparison import TINY

from baselines.experiments.arms import parse_arms
from baselines.experiments.comparison import RunRecord, compare, write_per_user
from baselines.experiments.folder import ComparisonFolder
from baselines.experiments.tables import signed
from baselines.reporting.answer import answer_of, p_value
from baselines.reporting.console import console_lines
from baselines.reporting.source import ReportSource

USERS = 400
PLAIN, ALIGNED, OTHER = (
    "Causal ntp",
    "Causal+TCA soft_ce alpha=0.5",
    "Causal+TCA soft_ntp alpha=0.1",
)
ARMS = ("causal:ntp", "causal:soft_ce:0.5", "causal:soft_ntp:0.1")


def record(arm: str, value: float, role: str = "arm", seed: int | None = 0) -> RunRecord:
    """A run whose users lie around a value, with noise of its own."""
    rng = np.random.default_rng([len(arm), seed or 0])
    metrics = {name: value + rng.normal(0, 0.1, USERS) for name in ("R@10", "N@10")}
    parameters = 0 if role == "reference" else 10
    return RunRecord(
        arm=arm,
        role=role,  # type: ignore[arg-type]
        seed=seed,
        per_user={"removed": metrics},
        parameters=parameters,
        train_seconds=1.0,
    )


def source(folder: Path, **values: float) -> ReportSource:
    """The report of arms (by short names) and of rules, each around its value."""
    names = {"plain": PLAIN, "aligned": ALIGNED, "other": OTHER}
    records = [record("Rules", values.pop("rules", 0.1), "reference", None)]
    records += [
        record(names[name], value, seed=s) for name, value in values.items() for s in (0, 1)
    ]
    write_per_user(records, folder / "per_user.parquet")
    config = dataclasses.replace(TINY, arms=ARMS[: len(values)])
    run = ComparisonFolder(folder=folder, config=config, arms=parse_arms(config))
    pairs = [(names[name], PLAIN) for name in values if name != "plain"]
    return ReportSource(run=run, comparison=compare(records, baseline=PLAIN, pairs=pairs))


@pytest.mark.parametrize(
    ("aligned", "verdict", "headline", "side"),
    [
        (0.5, "helped", "Yes: alignment helped.", "above"),
        (0.1, "hurt", "No: alignment hurt.", "below"),
        (0.3, "undecided", "Undecided: ", "against"),
    ],
)
def test_one_aligned_arm_is_answered_with_interval_and_p(
    aligned: float, verdict: str, headline: str, side: str, tmp_path: Path
) -> None:
    found = source(tmp_path, plain=0.3, aligned=aligned)
    answer = answer_of(found)
    assert answer.verdict == verdict
    assert answer.headline.startswith(headline)
    gain = found.comparison.difference(ALIGNED, PLAIN, policy="removed", metric="N@10")
    first = answer.sentences[0]
    assert first.startswith(f"{ALIGNED} reaches N@10 ")
    assert f" {side} {PLAIN} (95% interval " in first
    assert p_value(gain.p_holm) in first
    assert ("would take about" in " ".join(answer.sentences)) == (verdict == "undecided")


def test_several_aligned_arms_are_counted_and_the_best_is_named(tmp_path: Path) -> None:
    answer = answer_of(source(tmp_path, plain=0.3, aligned=0.5, other=0.1))
    assert answer.verdict == "mixed"
    assert answer.headline == "Mixed: of 2 aligned rows, alignment helped 1 and hurt 1."
    assert answer.sentences[0].startswith(f"The best of them, {ALIGNED}, reaches N@10 .")


@pytest.mark.parametrize(("rules", "says"), [(0.1, "beats Rules"), (0.9, "stays below Rules")])
def test_the_best_arm_stands_beside_counting(rules: float, says: str, tmp_path: Path) -> None:
    answer = answer_of(source(tmp_path, plain=0.3, aligned=0.5, rules=rules))
    assert any(f"{ALIGNED} {says}" in sentence for sentence in answer.sentences)


def test_without_an_aligned_arm_nothing_is_claimed(tmp_path: Path) -> None:
    answer = answer_of(source(tmp_path, plain=0.3))
    assert answer.verdict == "not asked"
    assert answer.sentences == (answer.sentences[0],)
    assert answer.sentences[0].startswith(f"{PLAIN} beats Rules")


def test_one_seed_is_told(tmp_path: Path) -> None:
    found = source(tmp_path, plain=0.3, aligned=0.5)
    rows = tuple(dataclasses.replace(row, seeds=row.seeds[:1]) for row in found.comparison.rows)
    single = ReportSource(
        run=found.run, comparison=dataclasses.replace(found.comparison, rows=rows)
    )
    assert answer_of(single).sentences[-1].startswith("There is one seed")
    assert not any("one seed" in sentence for sentence in answer_of(found).sentences)


def test_the_table_on_a_terminal_has_one_line_a_row_of_80_characters(tmp_path: Path) -> None:
    found = source(tmp_path, plain=0.3, aligned=0.5, other=0.1)
    lines = list(console_lines(found))
    table = lines[lines.index("") + 1 :]
    assert max(map(len, table)) <= 80
    assert lines[0].startswith("Mixed: of 2 aligned rows")
    own = found.comparison.difference(ALIGNED, PLAIN, policy="removed", metric="N@10")
    (line,) = (line for line in table if "soft_ce" in line)
    assert f"{signed(own.mean)} p .0" in line
    assert [line.split()[0] for line in table[1:3]] == ["Rules", "Causal"]


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "p < .001"), (0.0123, "p = .012"), (1.0, "p = 1")]
)
def test_p_values_read_as_in_papers(p: float, text: str) -> None:
    assert p_value(p) == text
