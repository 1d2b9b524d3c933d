"""``semid train``: train one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.compare import require_arms
from baselines.cli.config import TrainConfig

if TYPE_CHECKING:
    from rich.console import Console


def require_arm(config: TrainConfig) -> None:
    """Refuse an arm that cannot be parsed, before the training code is loaded."""
    require_arms(config.comparison)


def train(config: TrainConfig, console: Console) -> None:
    """Train one model, for use with semid recommend, evaluate and explain."""
    from baselines.evaluation.selection import Selection
    from baselines.experiments.single import train_model

    state = train_model(config.comparison).state
    label = Selection.of(config.evaluation.selected_by).label
    ended = ", stopped by time" if state.stopped_by_time else ""
    console.print(
        f"validation {label} {state.best:.4f}, best epoch {state.best_epoch} of {state.epoch}"
        f"{ended}",
        highlight=False,
    )
    console.print(f"model: {config.out}")
