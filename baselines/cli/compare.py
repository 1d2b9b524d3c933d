"""``semid compare``: the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.experiments.config import ALL, CompareConfig

if TYPE_CHECKING:
    from rich.console import Console


def require_arms(config: CompareConfig) -> None:
    """Refuse arms that cannot be parsed, before the training code is loaded."""
    from baselines.experiments.arms import Arm

    for text in (*config.arms, *config.fusion.arms):
        if text != ALL:
            Arm.parse(text, masked=config.masked, tau=config.tau)


def compare(config: CompareConfig, console: Console) -> None:
    """Train and rank every arm on the same data, IDs, budget and seeds, and print the table."""
    from baselines.evaluation.ranks import POLICIES
    from baselines.experiments.report import comparison_table
    from baselines.experiments.run import run_comparison
    from baselines.experiments.strata import strata_table

    comparison = run_comparison(config)
    for policy in POLICIES:
        console.print(comparison_table(comparison, policy=policy))
        console.print(strata_table(comparison, policy=policy))
    console.print(f"files: {config.out}/comparison.md, comparison.json, per_user.parquet")
