"""Scorers without a model: the floor that every row of a comparison stands on."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet


class Popularity:
    """Scores an item by how often it occurs in training, whoever asks."""

    max_history = 1

    def __init__(self, train: SequenceSet, num_items: int) -> None:
        counts = torch.bincount(torch.from_numpy(train.items), minlength=num_items)
        self.counts = counts.float()

    def score(self, histories: Histories) -> Tensor:
        """Training counts; float32 ``(batch, item)``."""
        return self.counts.expand(len(histories.items), -1)
