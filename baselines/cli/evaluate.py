"""``semid evaluate``: evaluate a trained model on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.config import EvaluateConfig
from baselines.cli.inputs import read_data, read_model

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(config: EvaluateConfig, console: Console) -> None:
    """Rank a dataset's test targets with a trained model, and print the metrics."""
    from rich.table import Table

    from baselines.experiments.evaluated import Evaluated
    from semid.distributed import distributed_state

    model = read_model(config).model
    dataset = read_data(config)
    found = Evaluated.of(model, dataset, metrics=config.metrics, cutoffs=config.cutoffs)
    means = found.means
    table = Table("seen items", *next(iter(means.values())), title=f"{dataset.name}, test")
    for policy, values in means.items():
        table.add_row(policy, *(f"{value:.4f}" for value in values.values()))
    console.print(table)
    for label, value in found.lists.items():
        console.print(f"{label}: {value:.4f}", highlight=False)
    for name, count in found.counts.items():
        console.print(f"{name}: {count}", highlight=False)
    if config.out is not None:
        if distributed_state().is_main_process:
            found.write(Path(config.out))
        console.print(f"files: {config.out}/ranks.parquet, metrics.json")
