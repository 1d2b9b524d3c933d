"""The reserved slots of a model's lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from baselines.contracts.backbone import Backbone
from baselines.contracts.scorer import ItemScorer
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.slots import ReservedSlots
from baselines.models.items import ModelItems
from baselines.teachers.fitted import FittedTeacher


def reserved_slots(
    backbone: Backbone,
    evaluation: EvaluationConfig,
    items: ModelItems,
    content: FittedTeacher | None,
) -> ReservedSlots | None:
    """What fills the places that ``evaluation.slots`` reserves; None if it reserves none.

    None as well for a backbone that scores all items: only beam searches have reserved slots.

    Args:
        backbone: The searched model.
        evaluation: Its settings.
        items: Its items; those without a training event may be placed.
        content: The content scorer.

    Raises:
        ValueError: If places are reserved and there is no content scorer.
    """
    if not evaluation.slots or isinstance(backbone, ItemScorer):
        return None
    if content is None:
        raise ValueError(
            f"expected a content scorer for slots {evaluation.slots}, got a model without one. "
            "Train it with these slots, or set slots to 0."
        )
    is_cold = torch.from_numpy(items.counts == 0)
    return ReservedSlots(number=evaluation.slots, content=content.model, is_cold=is_cold)


def load_content(
    folder: Path, items: ModelItems, settings: Mapping[str, Any] | None
) -> FittedTeacher | None:
    """The content scorer that a model's folder keeps; None if it has no settings there."""
    return None if settings is None else FittedTeacher.load(folder, items.catalog, **settings)
