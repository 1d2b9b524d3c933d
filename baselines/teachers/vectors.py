"""A teacher's item vectors as an artefact, for ID schemes that learn from interactions."""

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
    """Refuse a teacher that will have no item vectors, before it is trained.

    Raises:
        ValueError: For one that learns no embedding of an item; of a hybrid the collaborative part
            counts.
    """
    if not issubclass(teacher_class(config.collaborative), ItemVectors):
        raise ValueError(
            f"{needed_by} needs a teacher that learns a vector of each item, such as sasrec, got "
            f"{config.collaborative.model}. Choose another teacher, or bring vectors of your own."
        )


def item_vectors(teacher: TeacherModel, dataset: Dataset, lineage: Provenance) -> Embeddings:
    """Item vectors of a trained teacher: those that a user's state is multiplied with.

    Of a hybrid they are its collaborative part's: what its content says of an item is known without
    it.

    An item that occurs in no training sequence gets a row of zeros: nobody's choice has shaped its
    vector, only its random start and its part in the softmax's denominator.

    Args:
        teacher: Trained on the training part of ``dataset``.
        dataset: What it was trained on.
        lineage: The teacher's provenance.

    Returns:
        float32 ``(item, dim)`` in catalogue order. ``provenance.seen`` is the hash of the training
        interactions, so that nobody takes the vectors for made from text alone.

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
