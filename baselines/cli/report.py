"""``semid report``: the report of a finished comparison, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baselines.reporting.config import ReportConfig

if TYPE_CHECKING:
    from rich.console import Console

    from baselines.reporting.source import ReportSource


def report(config: ReportConfig, console: Console) -> None:
    """Write the page, figures and tables of a finished comparison, and print its answer."""
    from baselines.experiments.lists import LISTS
    from baselines.reporting.source import ReportSource
    from baselines.reporting.trec import write_trec
    from baselines.reporting.writing import PARTS

    folder = Path(config.run)
    found = ReportSource.read(folder, backbones=config.backbone)
    if config.trec:
        runs = write_trec(folder / LISTS, folder / PARTS / "trec")
        _say(console, f"runs: {len(runs)} in {runs[0].parent}, with qrels.txt")
    print_report(found, console, wide=config.wide)


def print_report(found: ReportSource, console: Console, *, wide: bool) -> None:
    """Print the answer and the table, and write the report unless the folder is another user's.

    Args:
        found: The comparison.
        console: The console.
        wide: Whether to print all metrics, under both seen-item policies, and the strata before.
    """
    from baselines.experiments.claim import may_write
    from baselines.experiments.report import comparison_table
    from baselines.experiments.strata import strata_table
    from baselines.reporting.console import console_lines
    from baselines.reporting.writing import PARTS, missing_packages, write_report

    for policy in found.comparison.policies if wide else ():
        console.print(comparison_table(found.comparison, policy=policy))
        console.print(strata_table(found.comparison, policy=policy))
    for line in console_lines(found):
        _say(console, line)
    folder = found.run.folder
    _say(console, f"all metrics: {folder}/comparison.md, or semid report {folder} --wide")
    if not may_write(folder):
        return
    page = write_report(found)
    if page is None:
        missing = " and ".join(missing_packages())
        _say(console, f"no report.html: it needs {missing}: pip install 'semid[report]'")
    _say(console, f"files: {folder}/comparison.json, per_user.parquet, report.tex, {PARTS}/")
    if page is not None:
        _say(console, f"report: {page}")


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
