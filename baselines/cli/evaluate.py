"""``semid evaluate``: evaluate a trained model on data, or a log of requests on later events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.console import figures_table
from baselines.cli.evaluate_log import evaluate_log
from baselines.cli.inputs import read_data, read_model
from baselines.cli.model_config import EvaluateConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from baselines.experiments.evaluated import Evaluated
    from baselines.serving.later import LoggedEvaluation


def evaluate(config: EvaluateConfig, console: Console) -> None:
    """Print the metrics of a trained model on test targets, or of a log on later events."""
    from semid.distributed import distributed_state

    if config.model is None:
        found: LoggedEvaluation | Evaluated = evaluate_log(config, console)
    else:
        found = _evaluate_model(config.model, config, console)
    for name, count in found.counts.items():
        console.print(f"{name}: {count}", highlight=False)
    if config.out is not None:
        if distributed_state().is_main_process:
            found.write(Path(config.out))
        console.print(f"files: {config.out}/ranks.parquet, metrics.json")


def _evaluate_model(source: str, config: EvaluateConfig, console: Console) -> Evaluated:
    """Rank a dataset's test targets with a trained model."""
    from baselines.experiments.evaluated import Evaluated

    model = read_model(source, config).model
    dataset = read_data(config)
    found = Evaluated.of(model, dataset, metrics=config.metrics, cutoffs=config.cutoffs)
    console.print(_means_table(found))
    console.print(_strata_table(found))
    for label, value in found.lists.items():
        console.print(f"{label}: {value:.4f}", highlight=False)
    return found


def _means_table(found: Evaluated) -> Table:
    """All metrics by policy and, where items share semantic IDs, among these."""
    lines = dict(found.means)
    lines |= {f"{policy}, by ID": values for policy, values in found.by_id.items()}
    table = figures_table(f"{found.dataset.name}, test", "seen items", next(iter(lines.values())))
    for name, values in lines.items():
        table.add_row(name, *(f"{value:.4f}" for value in values.values()))
    return table


def _strata_table(found: Evaluated) -> Table:
    """The headline metrics within each stratum, by policy."""
    from baselines.experiments.comparison import headlines_of

    metrics = headlines_of(list(next(iter(found.means.values()))))
    columns = [(policy, name) for policy in found.means for name in metrics]
    headings = ("users", *(f"{name}\n{policy}" for policy, name in columns))
    table = figures_table("strata, seen items removed and kept", "stratum", headings)
    for group, means in found.strata:
        cells = [f"{means[policy][name]:.4f}" for policy, name in columns]
        table.add_row(f"{group.kind}: {group.name}", f"{group.targets.sum():,}", *cells)
    return table
