"""``semid evaluate``: a trained model on data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.config import EvaluateConfig

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(config: EvaluateConfig, console: Console) -> None:
    """Rank the test targets of data by a trained model, and print the metrics."""
    from rich.table import Table

    from baselines.data.loading import load_dataset
    from baselines.evaluation.measures import require_metrics
    from baselines.experiments.evaluated import Evaluated
    from baselines.models.trained import TrainedModel
    from baselines.runtime.distributed import processes

    model = TrainedModel.load(Path(config.model), backbone=config.backbone, base=config.base)
    evaluation = model.spec.evaluation
    evaluation = replace(
        evaluation,
        metrics=config.metrics or evaluation.metrics,
        cutoffs=config.cutoffs or evaluation.cutoffs,
    )
    require_metrics(evaluation)
    model = replace(model, spec=replace(model.spec, evaluation=evaluation))
    dataset = load_dataset(
        config.data,
        split=config.split,
        ties=config.ties,
        repeats=config.repeats,
        time_format=config.time_format,
    )
    found = Evaluated.of(model, dataset)
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
        if processes().is_main_process:
            found.write(Path(config.out))
        console.print(f"files: {config.out}/ranks.parquet, metrics.json")
