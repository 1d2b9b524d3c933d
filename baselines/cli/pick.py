"""``semid pick``: turn a row of a finished comparison into a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.config import PickConfig

if TYPE_CHECKING:
    from rich.console import Console


def pick(config: PickConfig, console: Console) -> None:
    """Turn a row of a finished comparison into a model: by default, the best on validation."""
    from baselines.experiments.picking import FinishedComparison

    run = FinishedComparison(Path(config.run), backbones=config.backbone, teacher=config.teacher)
    chosen = run.choose(config.row, config.seed)
    run.model(chosen).save(Path(config.out))
    console.print(f"picked: {chosen.label}, seed {chosen.seed}", highlight=False, markup=False)
    console.print(f"model: {config.out}")
