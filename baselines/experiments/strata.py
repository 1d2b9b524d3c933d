"""The strata of a comparison: the headline metrics of each row within groups of targets."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from baselines.evaluation.strata import Stratum
from baselines.experiments.comparison import (
    Comparison,
    Estimate,
    RunRecord,
    StratumResult,
    runs_by_arm,
)
from baselines.experiments.tables import NOTHING, figure, markdown_table

_SHORT = {"target frequency": "seen", "history length": "past", "repetition": "target"}


def stratified(
    records: Sequence[RunRecord], strata: Sequence[Stratum], metrics: Sequence[str]
) -> tuple[StratumResult, ...]:
    """The results of all rows within each stratum.

    Args:
        records: The runs of a comparison.
        strata: Groups of their users.
        metrics: Names of the metrics.
    """
    arms = runs_by_arm(records)
    return tuple(
        StratumResult(
            kind=stratum.kind,
            name=stratum.name,
            users=int(stratum.targets.sum()),
            metrics={arm: _means(runs, stratum, metrics) for arm, runs in arms.items()},
        )
        for stratum in strata
    )


def _means(
    runs: Sequence[RunRecord], stratum: Stratum, metrics: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """The mean of a stratum over the seeds of one row, by policy and metric."""
    per_run = {
        policy: {
            metric: [float(run.per_user[policy][metric][stratum.targets].mean()) for run in runs]
            for metric in metrics
        }
        for policy in runs[0].per_user
    }
    return {
        policy: {metric: Estimate.of(means) for metric, means in values.items()}
        for policy, values in per_run.items()
    }


def strata_table(comparison: Comparison, *, policy: str) -> Table:
    """For the console: the last headline metric of each row within each stratum."""
    metric = comparison.headlines[-1]
    table = Table(
        title=f"{metric} by stratum, seen items {policy}",
        caption="seen: training events of the target; past: length of the history; target: new, "
        "or repeated from the history",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    table.add_column("arm", overflow="fold")
    for found in comparison.strata:
        name = found.name.replace("unseen", "0").replace("repeated", "again")
        table.add_column(f"{_SHORT[found.kind]}\n{name}", justify="right", overflow="fold")
    table.add_row("users", *(str(found.users) for found in comparison.strata), style="dim")
    for row in comparison.rows:
        means = (found.metrics[row.arm][policy][metric].mean for found in comparison.strata)
        style = "bold" if row.role == "teacher" else None
        table.add_row(escape(row.arm), *map(figure, means), style=style)
    return table


def strata_sections(comparison: Comparison) -> tuple[str, ...]:
    """For the page: a table per seen-item policy, and their legend."""
    if not comparison.strata:
        return ()
    metrics = comparison.headlines
    header = ("arm", *(f"{found.kind}: {found.name}" for found in comparison.strata))
    users = ("users", *(f"{found.users:,}" for found in comparison.strata))
    parts = ["## Strata"]
    for policy in comparison.policies:
        lines = [
            (
                row.arm,
                *(
                    " / ".join(
                        figure(found.metrics[row.arm][policy][name].mean) for name in metrics
                    )
                    for found in comparison.strata
                ),
            )
            for row in comparison.rows
        ]
        parts += [f"Seen items {policy}, {' / '.join(metrics)}:"]
        parts += [markdown_table(header, [users, *lines])]
    parts.append(
        "Means over the users of each stratum, then over seeds. Target frequency: training events "
        "of the target's item; history length: events before the target; repeated: the item is in "
        "the history, so that removing seen items makes it a miss."
    )
    return tuple(parts)


def by_id_sections(comparison: Comparison) -> tuple[str, ...]:
    """For the page: metrics by item beside those by semantic ID, where items share IDs."""
    has_ranks = any("by_id" in one for row in comparison.rows for one in row.evaluations)
    if not has_ranks and not any(card["colliding_items"] for card in comparison.schemes):
        return ()
    kinds = [(policy, metric) for policy in comparison.policies for metric in comparison.headlines]
    lines = []
    for row in comparison.rows:
        cells = []
        for policy, metric in kinds:
            of_seeds = [one["by_id"][policy] for one in row.evaluations if "by_id" in one]
            known = [values[metric] for values in of_seeds if metric in values]
            whole = len(known) == len(row.seeds)
            cells.append(figure(row.metrics[policy][metric].mean))
            cells.append(figure(Estimate.of(known).mean) if whole else NOTHING)
        lines.append((row.arm, *cells))
    header = ["arm"]
    for policy, metric in kinds:
        header += [f"{policy}: {metric} by item", "by ID"]
    legend = (
        "By ID, items that share a semantic ID count as one, so that the target is found where its "
        "ID is; the difference to the metric by item is what collisions would pretend to gain. "
        f"{NOTHING}: no two items share an ID, the row scores items instead of IDs, or it was "
        "ranked by a version that did not rank IDs."
    )
    return "## By item and by ID", markdown_table(header, lines), legend
