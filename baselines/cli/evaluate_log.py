"""``semid evaluate --log``: judge a log of requests by later events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.console import figures_table
from baselines.cli.model_config import EvaluateConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from baselines.serving.later import ArmResult, Difference, Estimate, LoggedEvaluation


def evaluate_log(config: EvaluateConfig, console: Console) -> LoggedEvaluation:
    """Judge the lists of a log by their users' next events, and compare its arms."""
    from baselines.serving.later import LoggedEvaluation

    assert config.log is not None
    found = LoggedEvaluation.of(
        config.log,
        config.data,
        within_hours=config.within_hours,
        metrics=config.metrics,
        cutoffs=config.cutoffs,
        time_format=config.time_format,
    )
    hours = "" if config.within_hours is None else f", within {config.within_hours:g} hours"
    console.print(_arms_table(found.arms, found.measures, hours))
    if found.differences:
        console.print(_differences_table(found.differences))
    return found


def _arms_table(arms: list[ArmResult], measures: list[str], hours: str) -> Table:
    """A column for each arm and model."""
    names = [f"{each.arm}\n{each.model}" for each in arms]
    table = figures_table(f"lists and the next event of their users{hours}", "", names)
    for field in ("requests", "refused", "users", "later_events"):
        counts = [f"{getattr(each, field):,}" for each in arms]
        table.add_row(field.replace("_", " "), *counts)
    for label in measures:
        values = [each.measures.get(label) for each in arms]
        table.add_row(label, *("" if value is None else _shown(value) for value in values))
    for point in arms[0].latency_ms or ():
        times = [each.latency_ms.get(point) for each in arms]
        shown = ("" if time is None else f"{time:.1f}" for time in times)
        table.add_row(f"latency {point}, ms", *shown)
    return table


def _differences_table(differences: list[Difference]) -> Table:
    """A row for each pair of arms and measure."""
    headings = ("", "difference, 95 %", "p", "Holm")
    table = figures_table("arms, all models, users drawn with replacement", "", headings)
    for each in differences:
        values = (f"{value:.3f}" for value in (each.p, each.holm))
        pair = f"{each.arm} - {each.reference}"
        table.add_row(pair, each.measure, _shown(each.difference), *values)
    return table


def _shown(estimate: Estimate) -> str:
    value, low, high = estimate
    return f"{value:.4f} ({low:.4f} to {high:.4f})"
