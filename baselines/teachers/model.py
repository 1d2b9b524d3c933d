"""What the teachers that this package fits have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch, Windows
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

    def item_vectors(self) -> Tensor:
        """The vectors that a user's state is multiplied with; float32 ``(item, dim)``.

        Raises:
            ValueError: For a model without such vectors.
        """
        raise ValueError(
            f"{self.label} has no item vectors; expected a teacher that learns an embedding of "
            "each item, such as sasrec"
        )
