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
    """Train and rank every arm on the same data, IDs, budget and seeds, and print the answer."""
    from baselines.cli.report import print_report
    from baselines.experiments.arms import backbones_of
    from baselines.experiments.folder import ComparisonFolder
    from baselines.experiments.run import run_comparison
    from baselines.reporting.source import ReportSource
    from semid.distributed import distributed_state

    comparison = run_comparison(config)
    if distributed_state().is_main_process:
        run = ComparisonFolder.read(config.out, backbones=backbones_of(config))
        print_report(ReportSource(run=run, comparison=comparison), console, wide=config.wide)
