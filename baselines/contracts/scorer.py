"""What a teacher is: anything that scores the whole catalogue for a history."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class ItemVectors(Protocol):
    """A teacher that learns a vector of each item. Classes are asked by ``issubclass``."""

    def item_vectors(self) -> Tensor:
        """One vector an item; float32 ``(item, dim)``."""
        ...


@runtime_checkable
class DotProductScorer(ItemVectors, Protocol):
    """A teacher whose score of an item is a vector of the history times one of the item."""

    def user_vectors(self, histories: Histories) -> Tensor:
        """One vector a history; float32 ``(batch, dim)``."""
        ...


def require_dot_product(scorer: ItemScorer, *, needed_by: str = "top_k") -> DotProductScorer:
    """The same scorer, known to have vectors.

    Args:
        scorer: Any.
        needed_by: The setting that cannot do without, for the error.

    Raises:
        ValueError: If it has none.
    """
    require_vectors(type(scorer), needed_by=needed_by)
    assert isinstance(scorer, DotProductScorer)
    return scorer


def require_vectors(teacher: type[Any], *, needed_by: str) -> None:
    """``require_dot_product`` of a class, before one of it is trained."""
    if not issubclass(teacher, DotProductScorer):
        raise ValueError(
            f"{needed_by} needs a teacher whose scores are dot products (user_vectors, "
            f"item_vectors), got {teacher.__name__}. Leave {needed_by} out to take all scores as "
            "they are."
        )


def seen_items(histories: Histories, target_items: Tensor) -> Tensor:
    """The items of each history once, without the target.

    Returns:
        int64 ``(batch, pos)``, -1 where there is none.
    """
    past = histories.items.masked_fill(~histories.mask, -1)
    past = past.masked_fill(past == target_items.to(past.device)[:, None], -1).sort(dim=1).values
    past[:, 1:] = past[:, 1:].masked_fill(past[:, 1:] == past[:, :-1], -1)
    return past


def without_seen(
    scores: Tensor, histories: Histories, target_items: Tensor | None = None
) -> Tensor:
    """The same scores with ``-inf`` for seen items; a known target keeps its own.

    Args:
        scores: Float ``(batch, item)``.
        histories: The past of each row.
        target_items: int64 ``(batch,)``, where targets are known.
    """
    row, pos = histories.mask.nonzero().unbind(1)
    item, row = histories.items[row, pos].to(scores.device), row.to(scores.device)
    masked = scores.index_put((row, item), scores.new_tensor(-torch.inf))
    if target_items is None:
        return masked
    target = target_items.to(scores.device)
    return masked.scatter_(1, target[:, None], scores.gather(1, target[:, None]))
