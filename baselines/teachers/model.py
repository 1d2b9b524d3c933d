"""The contract of a teacher that is fitted here.

A teacher of your own subclasses `TeacherModel`, is made by ``Mine(dataset, seed, **settings)``, and
writes `score` and, where it has something to train, `loss`. One that scores by products of vectors
offers them too (``baselines.contracts.scorer.DotProductScorer``).
`baselines.testing.check_teacher` runs every clause of the contract on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from tca.objective import ObjectiveOutput


class TeacherModel(nn.Module, ABC):
    """An ``ItemScorer`` whose parameters, trained or counted, are all that it has learned.

    Attributes:
        label: Its name in reports.
        max_history: Most items looked back on.
    """

    label: str
    max_history: int
    needs_interactions: bool = False
    """Whether it scores by the training interactions too, and not by its parameters alone."""

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: Any) -> TeacherModel:
        """Make one before any training, or counted: from the training part alone.

        Args:
            dataset: The data.
            seed: Of random starts.
            config: ``TeacherConfig.shape``; of a teacher from outside, settings by name.
        """
        return cls(dataset, seed, **config)

    @abstractmethod
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""

    def windows(self, data: SequenceSet) -> Windows:
        """The windows that it learns from: by default, every target of a sequence at once."""
        return Windows.per_sequence(data, self.max_history)

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean loss over the targets of a batch; scalar float32.

        Raises:
            NotImplementedError: For a model that counts and has nothing to train.
        """
        raise NotImplementedError(f"{self.label} is counted, not trained")

    def objective(self, batch: TrainBatch) -> ObjectiveOutput:
        """The loss, and how many terms it is the mean of."""
        count = torch.tensor(len(batch.target_id), device=batch.target_id.device)
        return ObjectiveOutput(loss=self.loss(batch), parts={}, count=count)
