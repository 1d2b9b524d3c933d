"""What a teacher is: anything that scores the whole catalogue for a history."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from baselines.data.batches import Histories


@runtime_checkable
class ItemScorer(Protocol):
    """Scores of all items given a user's past."""

    @property
    def max_history(self) -> int:
        """Most items of a history that the scores depend on."""
        ...

    def score(self, histories: Histories) -> Tensor:
        """Unnormalised log-scores of every catalogue row.

        Args:
            histories: Left-padded pasts; nothing but a sample's own past may influence its row.

        Returns:
            float32 ``(batch, item)``.
        """
        ...
