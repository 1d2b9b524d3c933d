"""A teacher's item vectors as an artefact, for ID schemes that learn from interactions."""

from __future__ import annotations

import numpy as np

from baselines.data.dataset import Dataset
from baselines.teachers.sasrec import SASRec
from semid.embed import Embeddings
from semid.provenance import Provenance


def item_vectors(teacher: SASRec, dataset: Dataset, lineage: Provenance) -> Embeddings:
    """Item vectors of a trained SASRec: its input embeddings, by which it also scores items.

    An item that occurs in no training sequence gets a row of zeros: nobody's choice has shaped its
    vector, only its random start and its part in the softmax's denominator.

    Args:
        teacher: Trained on the training part of ``dataset``.
        dataset: What it was trained on.
        lineage: The teacher's provenance.

    Returns:
        float32 ``(item, dim)`` in catalogue order. ``provenance.seen`` is the hash of the training
        interactions, so that nobody takes the vectors for made from text alone.
    """
    train, num_items = dataset.splits.train, len(dataset.catalog)
    occurs = np.bincount(train.items, minlength=num_items) > 0
    vectors = teacher.item_embedding.weight.detach().float().cpu().numpy()
    return Embeddings.of(
        np.where(occurs[:, None], vectors, np.float32(0)),
        dataset.catalog,
        inputs={"teacher": lineage.content},
        config={"encoder": "teacher", "unseen_items": int((~occurs).sum()), **lineage.config},
        seen=lineage.seen,
    )
