"""Load the model that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.config import EvaluateConfig, ExplainConfig, RecommendConfig

if TYPE_CHECKING:
    from baselines.models.recommender import Recommender


def read_model(config: EvaluateConfig | ExplainConfig | RecommendConfig) -> Recommender:
    """Load the model of a command; external code is run only if the command names it."""
    from baselines.models.recommender import Recommender

    return Recommender.from_pretrained(
        config.model, backbone=config.backbone, teacher=config.teacher, base=config.base
    )
