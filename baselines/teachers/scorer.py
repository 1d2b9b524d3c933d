"""What a teacher is: anything that scores the whole catalogue for a history."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
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


def checked_scores(scorer: ItemScorer, histories: Histories) -> Tensor:
    """The scores of a teacher that may be anybody's.

    Returns:
        What ``scorer.score`` gives.

    Raises:
        ValueError: As ``require_scores``.
    """
    scores = scorer.score(histories)
    name = getattr(scorer, "label", None) or f"the {type(scorer).__name__}"
    require_scores(scores, histories, whose=name)
    return scores


def require_scores(scores: Tensor, histories: Histories, *, whose: str) -> None:
    """Refuse scores that no distribution over items can be made of.

    Args:
        scores: Float ``(batch, item)``.
        histories: Whose they are.
        whose: Names the scorer in the error.

    Raises:
        ValueError: If there is another number of rows, a score is NaN or +inf, or a row is -inf
            throughout.
    """
    if scores.dim() != 2 or len(scores) != len(histories.items):
        raise ValueError(
            f"scores of {whose} must be (batch, item) with a row for each of "
            f"{len(histories.items)} histories, got {tuple(scores.shape)}"
        )
    best = scores.amax(dim=1)  # NaN where a row holds one
    if best.isfinite().all():
        return
    row = int((~best.isfinite()).nonzero()[0])
    which = f"history {row} of the batch (user number {int(histories.users[row])})"
    if best[row] == -torch.inf:
        raise ValueError(
            f"scores of {whose} must be above -inf for some item, got none for {which}. "
            "Does it know any item of the catalogue?"
        )
    item = int((scores[row].isnan() | (scores[row] == torch.inf)).nonzero()[0])
    raise ValueError(
        f"scores of {whose} must be numbers or -inf, got {float(scores[row, item])} for item "
        f"{item} of {which}. Was its training sound?"
    )
