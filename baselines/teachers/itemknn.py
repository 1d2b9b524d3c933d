"""Item-kNN: cosine similarity of items by co-occurrence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.config import ItemKNNConfig
from baselines.teachers.model import TeacherModel

_ROWS_AT_ONCE = 2048


class ItemKNN(TeacherModel):
    """The score of an item is the sum of its similarities to the items of the history.

    The similarity of two items is ``n_ij / (sqrt(n_i n_j) + shrinkage)``, with ``n_ij`` the number
    of users who have both, and ``n_i`` of those who have item ``i``. Each history item contributes
    to its nearest neighbours only (Deshpande and Karypis, TOIS 2004, section 4), with ties going to
    the lower row; the ``a``-th item from the end has weight ``decay ** a``. Exact: all co-occurring
    pairs are counted.

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
        rows, weights = _nearest(config, train, num_items)
        self.neighbours = nn.Parameter(rows, requires_grad=False)
        self.similarity = nn.Parameter(weights, requires_grad=False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Summed similarities to the history; float32 ``(batch, item)``."""
        past = histories.last(self.max_history).to(self.similarity.device)
        weight = past.recency(self.config.decay)
        spoken = self.similarity[past.items] * weight.unsqueeze(-1)
        scores = torch.zeros(len(past.items), self.num_items, device=spoken.device)
        return scores.scatter_add_(1, self.neighbours[past.items].flatten(1), spoken.flatten(1))


def _nearest(config: ItemKNNConfig, train: SequenceSet, num_items: int) -> tuple[Tensor, Tensor]:
    """Rows int64 and similarities float32 ``(item, neighbour)``; padded with row 0 at weight 0."""
    from scipy.sparse import csr_array

    owner = np.repeat(train.users, train.lengths)
    pairs = np.unique(owner * num_items + train.items)
    shape = (int(train.users.max()) + 1, num_items)
    has = csr_array((np.ones(len(pairs)), (pairs // num_items, pairs % num_items)), shape=shape)
    has_transposed, popularity = has.T.tocsr(), np.asarray(has.sum(axis=0))
    count = min(config.neighbours, max(num_items - 1, 1))
    rows = np.zeros((num_items, count), dtype=np.int64)
    weights = np.zeros((num_items, count), dtype=np.float32)
    for begin in range(0, num_items, _ROWS_AT_ONCE):
        together = (has_transposed[begin : begin + _ROWS_AT_ONCE] @ has).tocoo()
        item, other = together.row + begin, together.col
        value = together.data / (np.sqrt(popularity[item] * popularity[other]) + config.shrinkage)
        keep = item != other
        item, other, value = item[keep], other[keep], value[keep]
        order = np.lexsort((other, -value, item))
        item, other, value = item[order], other[order], value[order]
        rank = np.arange(len(item)) - np.searchsorted(item, item)
        keep = rank < count
        rows[item[keep], rank[keep]] = other[keep]
        weights[item[keep], rank[keep]] = value[keep]
    return torch.from_numpy(rows), torch.from_numpy(weights)
