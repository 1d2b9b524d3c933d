"""A teacher's item vectors as an artefact, for ID schemes that use interactions."""

from __future__ import annotations

import numpy as np

from baselines.contracts.scorer import ItemVectors
from baselines.data.dataset import Dataset
from baselines.teachers.config import TeacherConfig
from baselines.teachers.hybrid import Hybrid
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import teacher_class
from semid.embed import Embeddings
from semid.provenance import Provenance


def require_item_vectors(config: TeacherConfig, *, needed_by: str) -> None:
    """Check, before training, that a teacher will have item vectors.

    Raises:
        ValueError: If it learns no item embeddings; for a hybrid, if its collaborative part does
            not.
    """
    source = config.wrapped if config.model == "hybrid" else config
    if not issubclass(teacher_class(source), ItemVectors):
        raise ValueError(
            f"{needed_by} needs a teacher that learns item vectors, such as sasrec, got "
            f"{source.model}. Choose another teacher, or provide your own vectors."
        )


def item_vectors(teacher: TeacherModel, dataset: Dataset, lineage: Provenance) -> Embeddings:
    """Item vectors of a trained teacher: those that user states are multiplied with.

    For a hybrid they are those of its collaborative part, since its content vectors are available
    without it.

    Items that occur in no training sequence get zeros: their vectors are shaped only by the random
    initialisation and by the softmax's denominator, not by any interaction.

    Args:
        teacher: A teacher trained on the training part of ``dataset``.
        dataset: The data it was trained on.
        lineage: The teacher's provenance.

    Returns:
        float32 ``(item, dim)`` in catalogue order. ``provenance.seen`` is the hash of the training
        interactions, so that the vectors are not mistaken for text embeddings.

    Raises:
        ValueError: For a teacher without item vectors.
    """
    source = teacher.cf if isinstance(teacher, Hybrid) else teacher
    if not isinstance(source, ItemVectors):
        raise ValueError(
            f"{source.label} has no item vectors; expected a teacher that learns an embedding of "
            "each item, such as sasrec"
        )
    train, num_items = dataset.splits.train, len(dataset.catalog)
    occurs = np.bincount(train.items, minlength=num_items) > 0
    vectors = source.item_vectors().float().cpu().numpy()
    return Embeddings.of(
        np.where(occurs[:, None], vectors, np.float32(0)),
        dataset.catalog,
        inputs={"teacher": lineage.content},
        config={"encoder": "teacher", "unseen_items": int((~occurs).sum()), **lineage.config},
        seen=lineage.seen,
    )
