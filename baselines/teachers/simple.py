"""Scorers without a model: the floor that every row of a comparison stands on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.model import TeacherModel


class Popularity(TeacherModel):
    """Scores an item by how often it occurs in training, whoever asks.

    The score is ``log(count + 1)``: the softmax of a teacher's scores is then the share of the
    training interactions, with one more of each item.
    """

    label = "Popularity"
    max_history = 1

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: None) -> TeacherModel:
        """Make one for the items of a data set."""
        return cls(dataset.splits.train, len(dataset.catalog))

    def __init__(self, train: SequenceSet, num_items: int) -> None:
        super().__init__()
        counts = torch.bincount(torch.from_numpy(train.items), minlength=num_items)
        self.counts = nn.Parameter(counts, requires_grad=False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Logarithms of training counts; float32 ``(batch, item)``."""
        return self.counts.double().log1p().float().expand(len(histories.items), -1)
