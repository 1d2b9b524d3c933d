"""``semid explain``: why an item has its rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.inputs import read_model
from baselines.cli.model_config import ExplainConfig

if TYPE_CHECKING:
    from rich.console import Console


def explain(config: ExplainConfig, console: Console) -> None:
    """Explain an item's rank after a history, level by level of its path."""
    shop = read_model(config.model, config)
    explanation = shop.explain(config.history, config.item)
    console.print(explanation.markdown(), soft_wrap=True, markup=False, highlight=False)
