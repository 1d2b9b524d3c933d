"""Content neighbours: which items' texts or vectors are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.data.batches import Histories
from baselines.data.content_texts import content_texts, tfidf
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.ranking import stable_topk
from baselines.teachers.counting_config import TFIDF, ContentConfig
from baselines.teachers.evidence import EvidenceTeacher, SparseRows

_COSINES_AT_ONCE = 1 << 24


class Content(EvidenceTeacher):
    """The evidence for an item is its summed similarity to the items of the history.

    The similarity of two items is the cosine of their vectors to the power ``power``, divided by
    the mean of all similarities that are kept: those of each item to its ``neighbours`` nearest
    other items, with ties going to the lower row, and without cosines of 0 or less. The ``a``-th
    item from the end of the history has weight ``decay ** a``.
    """

    label = "Content"

    @classmethod
    def build(
        cls, dataset: Dataset, seed: int, config: ContentConfig, vectors: Tensor | None = None
    ) -> Content:
        """Compare the items of a data set, by given vectors or by their texts.

        Args:
            dataset: The data.
            seed: Unused.
            config: The settings.
            vectors: Float ``(item, dim)``; None for TF-IDF.

        Raises:
            ValueError: As ``content_texts`` and ``tfidf``; if ``config`` asks for other vectors
                and there are none.
        """
        if vectors is None and config.embeddings != TFIDF:
            raise ValueError(f"content needs the vectors of {config.embeddings}, got none")
        content = cls(config, len(dataset.catalog))
        compared = (
            tfidf(content_texts(dataset.catalog, config.template)) if vectors is None else vectors
        )
        content.similarity.fill(_nearest(config, compared))
        return content

    def __init__(self, config: ContentConfig, num_items: int) -> None:
        """Without neighbours, to be filled or loaded."""
        super().__init__()
        self.config = config
        self.max_history = config.max_history
        self.smoothing = config.smoothing
        self.similarity = SparseRows(num_items)

    @torch.inference_mode()
    def evidence(self, histories: Histories, *, without: SequenceSet | None = None) -> Tensor:
        """Summed similarities to the history, whoever has it; float32 ``(batch, item)``."""
        past = histories.last(self.max_history).to(self.similarity.values.device)
        return self.similarity.weighted_sums(past.items, past.recency(self.config.decay))


def _nearest(config: ContentConfig, vectors: Any) -> Any:
    """Scaled similarities of each item to its nearest neighbours; CSR array ``(item, item)``."""
    from scipy.sparse import csr_array

    num_items, found = vectors.shape[0], []
    for first, cosines in _cosines(vectors):
        block = torch.arange(len(cosines))
        cosines[block, block + first] = 0  # not its own neighbour
        columns = stable_topk(cosines, config.neighbours).sort(dim=1).values
        values = cosines.gather(1, columns)
        row, place = (values > 0).nonzero().unbind(1)
        found.append((row + first, columns[row, place], values[row, place]))
    rows, neighbours, kept = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    similarity = kept.astype(np.float64) ** config.power
    similarity /= similarity.mean() if len(similarity) else 1.0
    return csr_array((similarity, (rows, neighbours)), shape=(num_items, num_items))


def _cosines(vectors: Any) -> Iterator[tuple[int, Tensor]]:
    """Cosines of all items with a block of them, and the block's first row."""
    from sklearn.preprocessing import normalize

    unit = normalize(np.asarray(vectors) if isinstance(vectors, Tensor) else vectors)
    size = max(1, _COSINES_AT_ONCE // unit.shape[0])
    for first in range(0, unit.shape[0], size):
        product = unit[first : first + size] @ unit.T
        dense = product if isinstance(product, np.ndarray) else product.toarray()
        yield first, torch.from_numpy(dense).float()
