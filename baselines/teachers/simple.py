"""Baselines that do not look at the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.model import TeacherModel


class Popularity(TeacherModel):
    """Scores an item by its training count, independent of the history.

    The score is ``log(count + 1)``, so the softmax of the scores is the share of training
    interactions with add-one smoothing.
    """

    label = "Popularity"
    max_history = 1

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: None) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(dataset.splits.train, len(dataset.catalog))

    def __init__(self, train: SequenceSet, num_items: int) -> None:
        super().__init__()
        counts = torch.bincount(torch.from_numpy(train.items), minlength=num_items)
        self.counts = nn.Parameter(counts, requires_grad=False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Logarithms of training counts; float32 ``(batch, item)``."""
        return self.counts.double().log1p().float().expand(len(histories.items), -1)

    @torch.inference_mode()
    def score_without_own(self, histories: Histories, train: SequenceSet) -> Tensor:
        """The same without the events of each row's user; float32 ``(batch, item)``."""
        row, item = map(torch.from_numpy, train.events_of(histories.users.cpu().numpy()))
        counts = self.counts.cpu().repeat(len(histories.items), 1)
        counts.index_put_((row, item), torch.tensor(-1), accumulate=True)
        return counts.to(self.counts.device).double().log1p().float()
