"""Vectors of a model's items, for similarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.contracts.scorer import ItemVectors
from baselines.models.trained import TrainedModel
from baselines.teachers.fitted import FittedTeacher
from semid.extension import load_text_encoder


def item_vectors_of(model: TrainedModel) -> NDArray[np.float32]:
    """Text vectors if the model has an encoder, otherwise its teacher's item vectors.

    Returns:
        float32 ``(item, dim)``.

    Raises:
        ValueError: If it has neither.
    """
    items = model.items
    encoder = items.ids.text_encoder if items.folder is None else load_text_encoder(items.folder)
    if encoder is not None:
        return encoder.embed(items.catalog).vectors
    for teacher in (model.teacher, model.partner and model.partner.model):
        if isinstance(teacher, FittedTeacher) and isinstance(teacher.model, ItemVectors):
            vectors = teacher.model.item_vectors().detach().float().cpu()
            return np.asarray(vectors.numpy())
    raise ValueError(
        f"expected a model that keeps vectors of items, got ids of {items.ids.scheme}, whose codes "
        "were not made from texts here, and no teacher. Build the ids with semid build from texts."
    )
