"""Item-kNN: cosine similarity of items by co-occurrence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.cooccurrence import nearest_cooccurring
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.config import ItemKNNConfig
from baselines.teachers.model import TeacherModel


class ItemKNN(TeacherModel):
    """The score of an item is the sum of its similarities to the items of the history.

    The similarity of two items is that of ``nearest_cooccurring``, cosine with shrinkage. Each
    history item contributes to its nearest neighbours only (Deshpande and Karypis, TOIS 2004,
    section 4); the ``a``-th item from the end has weight ``decay ** a``.

    Scores are similarities, not logits: as a teacher it needs a temperature far below 1.
    """

    label = "item-kNN"

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: ItemKNNConfig) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(config, dataset.splits.train, len(dataset.catalog))

    def __init__(self, config: ItemKNNConfig, train: SequenceSet, num_items: int) -> None:
        super().__init__()
        self.config = config
        self.max_history = config.max_history
        self.num_items = num_items
        rows, similarities = nearest_cooccurring(
            train,
            num_items,
            count=min(config.neighbours, max(num_items - 1, 1)),
            shrinkage=config.shrinkage,
        )
        self.neighbours = nn.Parameter(torch.from_numpy(rows), requires_grad=False)
        self.similarity = nn.Parameter(torch.from_numpy(similarities), requires_grad=False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Summed similarities to the history; float32 ``(batch, item)``."""
        past = histories.last(self.max_history).to(self.similarity.device)
        weight = past.recency(self.config.decay)
        spoken = self.similarity[past.items] * weight.unsqueeze(-1)
        scores = torch.zeros(len(past.items), self.num_items, device=spoken.device)
        return scores.scatter_add_(1, self.neighbours[past.items].flatten(1), spoken.flatten(1))
