"""The base class of teachers that are fitted here.

A custom teacher subclasses `TeacherModel`, is constructed as ``Mine(dataset, seed, **settings)``,
and implements `score` and, if it is trained, `loss`. One whose scores are dot products should offer
the vectors too (``baselines.contracts.scorer.DotProductScorer``).
`baselines.testing.check_teacher` checks every clause of the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.selection import Selection
from tca.objective import ObjectiveOutput


class TeacherModel(nn.Module, ABC):
    """An ``ItemScorer`` whose parameters, trained or counted, hold everything it has learned.

    Attributes:
        label: Name shown in reports.
        max_history: Maximum number of history items.
    """

    label: str
    max_history: int
    needs_interactions: bool = False
    """Whether scoring needs the training interactions in addition to the parameters."""

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: Any) -> TeacherModel:
        """Build an untrained teacher, or one counted from the training part alone.

        Args:
            dataset: The data.
            seed: Seed of the initial weights.
            config: ``TeacherConfig.shape``; for a custom teacher, settings by name.
        """
        return cls(dataset, seed, **config)

    @abstractmethod
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""

    def windows(self, data: SequenceSet) -> Windows:
        """The training windows; by default one per sequence with all its targets."""
        return Windows.per_sequence(data, self.max_history)

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean loss over the targets of a batch; scalar float32.

        Raises:
            NotImplementedError: For a model that is counted rather than trained.
        """
        raise NotImplementedError(f"{self.label} is counted, not trained")

    def choose(self, valid: SequenceSet, selection: Selection) -> None:
        """Choose on validation what is neither counted nor trained; by default, nothing."""

    def chosen(self) -> dict[str, float]:
        """What `choose` has set, by the name that reports give it."""
        return {}

    def objective(self, batch: TrainBatch) -> ObjectiveOutput:
        """The loss and the number of terms it is the mean of."""
        count = torch.tensor(len(batch.target_id), device=batch.target_id.device)
        return ObjectiveOutput(loss=self.loss(batch), parts={}, count=count)
